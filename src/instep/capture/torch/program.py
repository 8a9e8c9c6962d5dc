"""A network as a flat list of pure steps in PyTorch's own operators, and how one step is run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch

from instep.capture.base import CaptureError
from instep.capture.torch.wide import in_double

__all__ = ["FREE", "INPUT", "PARAM", "Program", "Step", "call", "map_steps", "refuse_random", "steps_in", "wider"]

#: What a step depends on: nothing (constants), parameters or buffers of the state_dict, or the network's inputs.
FREE, PARAM, INPUT = 0, 1, 2
_UNWRITTEN = ("aten.empty", "aten.new_empty")


@dataclass(eq=False, slots=True)
class Step:
    """One pure operation of the source: ``target(*args, **kwargs)``, with other Steps inside the arguments.

    ``kind``: "input", "weight" (``tensor`` holds it) or "call". ``val`` is torch's fake value(s) of the result.
    ``cast`` is the dtype that an in-place operator forces on its result.
    """

    kind: str
    name: str
    target: Any = None
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    val: Any = None
    scope: str = ""
    origin: str = ""
    depends: int = FREE
    tensor: torch.Tensor | None = None
    cast: torch.dtype | None = None

    @property
    def place(self) -> str:
        """``'backbone.stem' (model.py:41)`` for messages."""
        origin = f" ({self.origin})" if self.origin else ""
        return f"'{self.scope or self.name}'{origin}"


@dataclass
class Program:
    """``steps`` in order of execution; ``outputs`` are (signature name, Step)."""

    steps: list[Step]
    inputs: list[Step]
    outputs: list[tuple[str, Step]]
    notes: list[str] = field(default_factory=list)
    _values: dict[Step, Any] = field(default_factory=dict)
    #: of steps that constants alone are computed of: how many of their readers are not computed yet
    _waiting: dict[Step, int] | None = None

    def constant(self, step: Step) -> Any:
        """The value of a step that depends on no input, as PyTorch computes it; cached.

        What depends on nothing is computed in its own dtype, as the source does. What depends on parameters is
        computed in float64 and rounded once.
        """
        result = self._evaluate(step)
        if step.depends == PARAM:
            result = _map_tensors(result, lambda t, like: t.to(like.dtype), step.val)
        return result

    def _evaluate(self, step: Step) -> Any:
        """What ``step`` holds, after what it reads and is not computed yet; chains of constants can be long."""
        pending = [step]
        while pending:
            first = pending[-1]
            missing = [s for s in steps_in((first.args, first.kwargs)) if s.kind == "call" and s not in self._values]
            if first.kind == "call" and first not in self._values and missing:
                pending += missing
                continue
            pending.pop()
            if first.kind == "call" and first not in self._values:
                self._values[first] = self._computed(first)
                self._release(first)
        return self._held(step)

    def _computed(self, step: Step) -> Any:
        if "dropout" not in str(step.target):
            refuse_random(step)
        wide = step.depends == PARAM
        read = self._wide if wide else self._held
        with torch.no_grad():
            return call(step, map_steps(step.args, read), map_steps(step.kwargs, read), torch.float64 if wide else None)

    def _held(self, step: Step) -> Any:
        if step.kind == "input":
            raise CaptureError(f"{step.name} is an input, not a constant")
        if step.kind == "call":
            return self._values[step]
        tensor = step.tensor
        assert tensor is not None
        return tensor.to(wider(tensor.dtype)) if step.depends == PARAM else tensor

    def _wide(self, step: Step) -> Any:
        result = self._held(step)
        if isinstance(result, torch.Tensor) and result.dim() > 0:
            return result.to(wider(result.dtype))
        return result

    def _release(self, step: Step) -> None:
        """Forget what ``step`` read and nothing else will: the tables of positions of a large window take gigabytes."""
        if self._waiting is None:
            self._waiting = {}
            asked = {s for _, s in self.outputs}
            for reader in self.steps:
                for read in set(steps_in((reader.args, reader.kwargs))):
                    self._waiting[read] = self._waiting.get(read, 0) + 1
                    if reader.depends != read.depends:
                        asked.add(read)  # by the graph, or by the reference, which runs what depends on parameters
            for read in asked:
                self._waiting.pop(read, None)
        for read in set(steps_in((step.args, step.kwargs))):
            left = self._waiting[read] = self._waiting.get(read, 0) - 1
            if left == 0:
                self._values.pop(read, None)


def call(step: Step, args: Any, kwargs: Any, dtype: torch.dtype | None) -> Any:
    """Run the step's operator in PyTorch; with ``dtype`` float64, explicit floating dtypes in it become float64."""
    if dtype is torch.float64:
        args, kwargs = _widen(args), _widen(kwargs)
    target = in_double(step.target) if dtype is torch.float64 else step.target
    result = target(*args, **kwargs)
    if str(step.target).startswith(_UNWRITTEN):
        result = torch.zeros_like(result)  # what memory held before does not belong into a file
    if step.cast is not None and isinstance(result, torch.Tensor):
        want = step.cast
        result = result.to(wider(want) if dtype is torch.float64 else want)
    return result


def refuse_random(step: Step) -> None:
    """Raise CaptureError when the step draws random numbers."""
    if torch.Tag.nondeterministic_seeded in getattr(step.target, "tags", ()):
        raise CaptureError(
            f"{step.place} draws random numbers ({step.target}), and a file always computes the same; "
            "make the numbers an input or a buffer of the network"
        )


def wider(dtype: torch.dtype) -> torch.dtype:
    """The dtype of double precision in place of a floating or complex one; others as they are."""
    return torch.complex128 if dtype.is_complex else torch.float64 if dtype.is_floating_point else dtype


def _widen(arg: Any) -> Any:
    if isinstance(arg, torch.dtype):
        return wider(arg)
    if isinstance(arg, (list, tuple)):
        return type(arg)(_widen(a) for a in arg)
    if isinstance(arg, dict):
        return {k: _widen(v) for k, v in arg.items()}
    return arg


def _map_tensors(value: Any, function: Callable[[Any, Any], Any], like: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return function(value, like)
    if isinstance(value, (list, tuple)):
        return type(value)(_map_tensors(v, function, k) for v, k in zip(value, like, strict=True))
    return value


def map_steps(arg: Any, function: Callable[[Step], Any]) -> Any:
    """``arg`` with every Step in it replaced by ``function(step)``; containers are rebuilt."""
    if isinstance(arg, Step):
        return function(arg)
    if isinstance(arg, (list, tuple)):
        return type(arg)(map_steps(a, function) for a in arg) if type(arg) in (list, tuple) else arg
    if isinstance(arg, dict):
        return {k: map_steps(v, function) for k, v in arg.items()}
    return arg


def steps_in(arg: Any) -> Iterator[Step]:
    """All Steps inside nested arguments."""
    if isinstance(arg, Step):
        yield arg
    elif isinstance(arg, (list, tuple)):
        for a in arg:
            yield from steps_in(a)
    elif isinstance(arg, dict):
        for a in arg.values():
            yield from steps_in(a)
