"""What shares memory in a traced program: views that are taken again, and writes that reach what they are views of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from instep.capture.base import CaptureError
from instep.capture.torch.program import Step

__all__ = ["Memory", "Slot", "filling", "functional", "shares"]

aten = torch.ops.aten


class Slot:
    """What an fx node holds: a step, or a view of another slot's memory that may have to be taken again."""

    __slots__ = ("children", "parent", "stale", "step", "view")

    def __init__(self, step: Step, parent: Slot | None = None, view: tuple[Any, tuple, dict] | None = None) -> None:
        self.step = step
        self.parent = parent
        self.view = view  # (target, further args, kwargs): step = target(parent, *args, **kwargs)
        self.children: list[Slot] = []
        self.stale = False
        if parent is not None:
            parent.children.append(self)


class Memory:
    """Reads and writes slots; ``emit(target, args, kwargs, name, val, scope, origin)`` adds a step and returns it."""

    def __init__(self, emit: Callable[..., Step]) -> None:
        self.emit = emit

    def read(self, slot: Slot) -> Step:
        """What ``slot`` holds now: a view is taken again where its memory was written to since."""
        if slot.stale and slot.parent is not None and slot.view is not None:
            target, args, kwargs = slot.view
            old = slot.step
            if target is None:
                raise CaptureError(
                    f"{old.place} is a view of a tensor that is changed in place; use the out-of-place operator"
                )
            slot.step = self.emit(
                target, (self.read(slot.parent), *args), kwargs, f"{old.name}_again", old.val, old.scope, old.origin
            )
            slot.stale = False
        return slot.step

    def write(self, slot: Slot, step: Step) -> None:
        """``slot`` holds ``step`` from now on, and so does what it is a view of. CaptureError where that is unknown."""
        slot.step = step
        slot.stale = False
        self._spoil(slot, None)
        while slot.parent is not None and slot.view is not None:
            parent = slot.parent
            before = self.read(parent)
            args = _put_back(before, slot.step, slot.view)
            if args is None:
                raise CaptureError(
                    f"{step.place} changes a view ({slot.view[0]}) of another tensor in place; "
                    "use the out-of-place operator"
                )
            target, rest, kwargs = args
            parent.step = self.emit(target, rest, kwargs, f"{step.name}_into", before.val, step.scope, step.origin)
            parent.stale = False
            self._spoil(parent, slot)
            slot = parent

    def _spoil(self, slot: Slot, but: Slot | None) -> None:
        for child in slot.children:
            if child is not but:
                child.stale = True
                self._spoil(child, None)


def shares(a: Any, b: Any) -> bool:
    """Whether two values are tensors in one memory."""
    if not isinstance(a, torch.Tensor) or not isinstance(b, torch.Tensor):
        return False
    return a.untyped_storage()._cdata == b.untyped_storage()._cdata


def functional(target: Any) -> Any:
    """The out-of-place overload of an in-place ATen operator (``aten.add_.Tensor`` → ``aten.add.Tensor``), or None."""
    namespace, name = target._schema.name.split("::")
    if not name.endswith("_"):
        return None
    packet = getattr(getattr(torch.ops, namespace), name[:-1], None)
    if packet is None:
        return None
    overload = target._overloadname
    return getattr(packet, overload, None) if overload in packet.overloads() else None


def filling(target: Any) -> tuple[Any, list[str]] | None:
    """The overload that returns what ``target`` writes into its ``out=`` arguments, and the names of these, or None."""
    schema = target._schema
    outs = [a.name for a in schema.arguments if a.is_out]
    taken = [(a.name, str(a.type)) for a in schema.arguments if not a.is_out]
    namespace, name = schema.name.split("::")
    packet = getattr(getattr(torch.ops, namespace), name)
    for pure in (getattr(packet, overload) for overload in packet.overloads() if outs):
        if not pure._schema.is_mutable and [(a.name, str(a.type)) for a in pure._schema.arguments] == taken:
            return pure, outs
    return None


def _put_back(whole: Step, part: Step, view: tuple[Any, tuple, dict]) -> tuple[Any, tuple, dict] | None:
    """The pure call that writes ``part`` = view(whole) back into ``whole``, or None when it is not known."""
    target, args, kwargs = view
    if target is None:
        return None
    name = target._schema.name.split("::")[1]
    shape = list(whole.val.shape)
    match name:
        case "select":
            return aten.select_scatter.default, (whole, part, *args), kwargs
        case "slice":
            return aten.slice_scatter.default, (whole, part, *args), kwargs
        case "narrow":
            axis, start, length = args
            return aten.slice_scatter.default, (whole, part, axis, start, start + length), {}
        case "transpose" | "swapaxes" | "swapdims":
            return aten.transpose.int, (part, *args), kwargs
        case "t":
            return aten.t.default, (part,), {}
        case "permute":
            perm = [p % len(shape) for p in args[0]]
            return aten.permute.default, (part, [perm.index(i) for i in range(len(perm))]), {}
        case "view" | "reshape" | "flatten" | "unsqueeze" | "squeeze" | "_unsafe_view" | "unflatten" | "view_as":
            return aten.reshape.default, (part, shape), {}
        case "detach" | "alias" | "contiguous" | "to" | "lift_fresh" | "expand" | "expand_as" | "dropout" | "type_as":
            if list(part.val.shape) != shape:
                return None
            return aten.alias.default, (part,), {}
        case "diagonal":
            return aten.diagonal_scatter.default, (whole, part, *args), kwargs
    return None
