"""What a computed bool mask picks, ``x[mask]``, at full size: its shape is unknown until it is written back.

``y[mask] = f(x[mask])`` is ``y = where(mask, f(x), y)`` where f acts on each element alone. So what is picked is
carried as the step that computes all elements, with its mask, through element-wise operators, until an ``index_put``
with the same mask takes it. Colour conversions (RGB to HSV, HVI) are written that way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from instep.capture.torch.program import INPUT, Step

__all__ = ["Picked", "Sameness", "full_shape", "is_each", "is_pick", "mask_shape"]

_COPIES = frozenset(
    f"aten::{name}" for name in ("_to_copy", "to", "clone", "contiguous", "detach", "alias", "type_as", "lift_fresh")
)


@dataclass(eq=False, slots=True)
class Picked:
    """``all[indices]``: ``indices`` holds one computed bool mask, after the axes that are taken whole (None)."""

    all: Step
    indices: tuple[Step | None, ...]

    @property
    def mask(self) -> Step:
        return next(i for i in self.indices if i is not None)


class Sameness:
    """Tells steps that compute the same from the same: ``x[a > 0]`` and ``y[a > 0]`` compare twice."""

    def __init__(self) -> None:
        self._numbers: dict[Any, int] = {}
        self._of: dict[Step, int] = {}
        self._seen = 0

    def same(self, a: Sequence[Step | None], b: Sequence[Step | None], steps: Sequence[Step]) -> bool:
        """``steps`` are all steps so far, in order."""
        for step in steps[self._seen :]:
            key = (step.target, self._frozen(step.args), self._frozen(step.kwargs), step.cast)
            self._of[step] = self._numbers.setdefault(key, len(self._numbers))
        self._seen = len(steps)
        return self._frozen(tuple(a)) == self._frozen(tuple(b))

    def _frozen(self, arg: Any) -> Any:
        if isinstance(arg, Step):
            return ("step", self._of.get(arg, id(arg)))
        if isinstance(arg, (list, tuple)):
            return tuple(self._frozen(a) for a in arg)
        if isinstance(arg, dict):
            return tuple((k, self._frozen(v)) for k, v in arg.items())
        return (type(arg), repr(arg))


def is_pick(target: Any, args: Sequence[Any], val: Any) -> bool:
    """``x[mask]`` or ``x[:, mask]`` with one computed bool mask, whose result has a size that depends on it."""
    if target is not torch.ops.aten.index.Tensor or not isinstance(val, torch.Tensor):
        return False
    if all(isinstance(d, int) for d in val.shape):
        return False
    masks = [i for i in args[1] if i is not None]
    step = getattr(masks[0], "step", None) if len(masks) == 1 and args[1][-1] is masks[0] else None
    return step is not None and step.depends == INPUT and step.val.dtype == torch.bool


def is_each(target: Any, pure: Any) -> bool:
    """Does the operator act on each element alone? ``pure`` is its out-of-place form, where it writes in place."""
    target = pure or target
    if torch.Tag.nondeterministic_seeded in target.tags:
        return False
    return torch.Tag.pointwise in target.tags or target._schema.name in _COPIES


def mask_shape(picked: Picked, rank: int) -> list[int]:
    """The mask's shape as it broadcasts against a tensor of ``rank`` axes."""
    own = list(picked.mask.val.shape)
    before = len(picked.indices) - 1
    return [1] * before + own + [1] * (rank - before - len(own))


def full_shape(picked: Sequence[Picked], others: Sequence[torch.Tensor]) -> torch.Size | None:
    """The shape of an element-wise result at full size; None where the other operands do not line up with it.

    Picked values have the mask's axes as one: what broadcasts against the axes behind it does so at full size too.
    """
    first = picked[0]
    behind = first.all.val.dim() - len(first.indices) + 1 - first.mask.val.dim()
    if any(len(p.indices) != len(first.indices) or p.all.val.dim() != first.all.val.dim() for p in picked):
        return None
    if any(t.dim() > behind for t in others):
        return None
    return torch.broadcast_shapes(*(p.all.val.shape for p in picked), *(t.shape for t in others))
