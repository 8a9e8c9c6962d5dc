"""Operators that move or choose elements: views, slices, joins, pads, gathers."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from instep.graph.operator import Operator, Spec, broadcast, operator

__all__ = ["Concat", "Expand", "Flip", "Gather", "Pad", "Permute", "Reshape", "Roll", "Slice", "TakeAlong"]


@operator
class Reshape(Operator):
    """The same elements in row-major order under another static ``shape``."""

    shape: tuple[int, ...]

    def infer(self, *inputs: Spec) -> tuple[Spec, ...]:
        (x,) = inputs
        if math.prod(self.shape) != x.size:
            raise ValueError(f"cannot reshape {list(x.shape)} to {list(self.shape)}")
        return (Spec(self.shape, x.dtype),)

    def evaluate(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        return (inputs[0].reshape(self.shape),)


@operator
class Permute(Operator):
    """Output axis i is input axis ``perm[i]`` (numpy.transpose, torch.permute, TFLite TRANSPOSE)."""

    perm: tuple[int, ...]

    def infer(self, *inputs: Spec) -> tuple[Spec, ...]:
        (x,) = inputs
        if sorted(self.perm) != list(range(len(x.shape))):
            raise ValueError(f"perm {list(self.perm)} does not permute the axes of {list(x.shape)}")
        return (Spec(tuple(x.shape[p] for p in self.perm), x.dtype),)

    def evaluate(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        return (inputs[0].transpose(self.perm),)


@operator
class Slice(Operator):
    """x[starts[i] : stops[i] : steps[i]] on every axis i; 0 ≤ start < stop ≤ size, step ≥ 1, all static."""

    starts: tuple[int, ...]
    stops: tuple[int, ...]
    steps: tuple[int, ...]

    @classmethod
    def along(cls, shape: Sequence[int], axis: int, start: int, stop: int, step: int = 1) -> Slice:
        """``start:stop:step`` on one axis of ``shape``, all of the others."""
        starts, stops, steps = [0] * len(shape), list(shape), [1] * len(shape)
        starts[axis], stops[axis], steps[axis] = start, stop, step
        return cls(tuple(starts), tuple(stops), tuple(steps))

    def infer(self, *inputs: Spec) -> tuple[Spec, ...]:
        (x,) = inputs
        if not len(self.starts) == len(self.stops) == len(self.steps) == len(x.shape):
            raise ValueError(f"needs one start, stop and step per axis of {list(x.shape)}")
        for axis, (a, b, s, n) in enumerate(zip(self.starts, self.stops, self.steps, x.shape, strict=True)):
            if not (0 <= a <= b <= n and s >= 1):
                raise ValueError(f"slice {a}:{b}:{s} does not fit axis {axis} of {list(x.shape)}")
        shape = tuple(-(-(b - a) // s) for a, b, s in zip(self.starts, self.stops, self.steps, strict=True))
        return (Spec(shape, x.dtype),)

    def evaluate(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        cut = tuple(slice(a, b, s) for a, b, s in zip(self.starts, self.stops, self.steps, strict=True))
        return (inputs[0][cut],)


@operator
class Concat(Operator):
    """Join any number of inputs along ``axis`` (non-negative)."""

    axis: int

    def infer(self, *inputs: Spec) -> tuple[Spec, ...]:
        first = inputs[0]
        for x in inputs[1:]:
            same = [a for a in range(len(first.shape)) if a != self.axis]
            if len(x.shape) != len(first.shape) or any(x.shape[a] != first.shape[a] for a in same):
                raise ValueError(f"cannot join {[list(s.shape) for s in inputs]} along axis {self.axis}")
        shape = list(first.shape)
        shape[self.axis] = sum(x.shape[self.axis] for x in inputs)
        return (Spec(tuple(shape), first.dtype),)

    def evaluate(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        return (np.concatenate(inputs, self.axis),)


@operator
class Pad(Operator):
    """Add ``pads[i] = (before, after)`` elements on axis i.

    ``mode``: "constant" (with ``value``), "reflect" (border not repeated), "replicate" (border repeated) or
    "circular", as torch.nn.functional.pad. All pads are ≥ 0 (a negative pad is captured as a Slice).
    """

    pads: tuple[tuple[int, int], ...]
    mode: str = "constant"
    value: float = 0.0

    def infer(self, *inputs: Spec) -> tuple[Spec, ...]:
        (x,) = inputs
        if len(self.pads) != len(x.shape) or min(min(p) for p in self.pads) < 0:
            raise ValueError(f"pads {self.pads} do not fit {list(x.shape)}")
        return (Spec(tuple(n + a + b for n, (a, b) in zip(x.shape, self.pads, strict=True)), x.dtype),)

    def evaluate(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        (x,) = inputs
        if self.mode == "constant":
            return (np.pad(x, self.pads, constant_values=self.value),)
        modes = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}
        return (np.pad(x, self.pads, mode=modes[self.mode]),)  # type: ignore[call-overload]


@operator
class Expand(Operator):
    """Broadcast to ``shape`` (numpy rules)."""

    shape: tuple[int, ...]

    def infer(self, *inputs: Spec) -> tuple[Spec, ...]:
        (x,) = inputs
        if broadcast(x.shape, self.shape) != self.shape:
            raise ValueError(f"cannot expand {list(x.shape)} to {list(self.shape)}")
        return (Spec(self.shape, x.dtype),)

    def evaluate(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        return (np.broadcast_to(inputs[0], self.shape),)


@operator
class Flip(Operator):
    """Reverse the order along ``axes``."""

    axes: tuple[int, ...]

    def infer(self, *inputs: Spec) -> tuple[Spec, ...]:
        return (inputs[0],)

    def evaluate(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        return (np.flip(inputs[0], self.axes),)


@operator
class Roll(Operator):
    """Shift cyclically by ``shifts[i]`` along ``axes[i]``, towards higher indices (torch.roll)."""

    shifts: tuple[int, ...]
    axes: tuple[int, ...]

    def infer(self, *inputs: Spec) -> tuple[Spec, ...]:
        return (inputs[0],)

    def evaluate(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        return (np.roll(inputs[0], self.shifts, self.axes),)


def _check_range(indices: np.ndarray, size: int) -> None:
    """numpy counts negative indices from the end, and so does this."""
    bad = indices[(indices < -size) | (indices >= size)]
    if bad.size:
        raise IndexError(f"an index is {bad[0]}, and what it indexes has the places 0 to {size - 1}")


@operator
class Gather(Operator):
    """Take slices of x along ``axis`` at integer ``indices`` of any rank (numpy.take, torch.index_select, embedding).

    Inputs: x, indices. Output shape: x.shape[:axis] + indices.shape + x.shape[axis + 1:].
    """

    axis: int = 0

    def infer(self, *inputs: Spec) -> tuple[Spec, ...]:
        x, indices = inputs
        if not indices.dtype.startswith(("int", "uint")):
            raise ValueError(f"indices must be integers, got {indices.dtype}")
        return (Spec(x.shape[: self.axis] + indices.shape + x.shape[self.axis + 1 :], x.dtype),)

    def evaluate(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        x, indices = inputs
        _check_range(indices, x.shape[self.axis])
        return (np.take(x, indices, self.axis),)


@operator
class TakeAlong(Operator):
    """numpy.take_along_axis(x, indices, axis) (torch.gather). Inputs: x, indices of the same rank."""

    axis: int = 0

    def infer(self, *inputs: Spec) -> tuple[Spec, ...]:
        x, indices = inputs
        return (Spec(indices.shape, x.dtype),)

    def evaluate(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        x, indices = inputs
        _check_range(indices, x.shape[self.axis])
        cut = tuple(slice(0, n) if a != self.axis else slice(None) for a, n in enumerate(indices.shape))
        return (np.take_along_axis(x[cut], indices, self.axis),)
