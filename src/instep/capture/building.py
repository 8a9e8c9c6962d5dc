"""What the handlers of every framework build with: operators, constants and small steps in the terms of the graph."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from instep.graph import Graph, Node, Operator, Value, ops

__all__ = ["Building", "Scalar"]

Scalar = int | float | bool


class Building:
    """Adds to ``graph``; what is added gets ``scope`` and ``origin``, and a unique name that starts with ``stem``."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.stem = ""
        self.scope = ""
        self.origin = ""
        self.names: set[str] = set()
        self._scalars: dict[tuple[Any, ...], Value] = {}

    def unique(self, name: str) -> str:
        """``name``, or ``name_1`` and so on when a value has it already."""
        unique, i = name, 1
        while unique in self.names:
            unique, i = f"{name}_{i}", i + 1
        self.names.add(unique)
        return unique

    # -- adding --------------------------------------------------------------------------------------------------
    def node(self, op: Operator, *inputs: Value) -> Node:
        node = self.graph.add(op, inputs, scope=self.scope, origin=self.origin)
        for i, value in enumerate(node.outputs):
            value.name = self.unique(f"{self.stem}.{op.name.lower()}{i or ''}")
        return node

    def __call__(self, op: Operator, *inputs: Value) -> Value:
        """Add ``op`` and return its output."""
        return self.node(op, *inputs).output

    def constant(self, array: np.ndarray, hint: str = "constant") -> Value:
        """A new constant that belongs to the operation at hand."""
        # not ascontiguousarray, which makes an array of one axis of a number
        return self.graph.constant(np.asarray(array, order="C"), self.unique(f"{self.stem}.{hint}"))

    def apart(self, hint: str) -> str:
        """A name for a constant that is no weight of the source: it has a "/", and is not trained."""
        return self.unique(f"{self.stem}{'.' if '/' in self.stem else '/'}{hint}")

    def scalar(self, number: Scalar, dtype: str) -> Value:
        """A 0-d constant; equal ones are one Value."""
        array = np.asarray(number).astype(dtype)
        key = (dtype, array.tobytes())
        if key not in self._scalars:
            self._scalars[key] = self.graph.constant(array, self.unique(f"scalar/{dtype}/{number}"))
        return self._scalars[key]

    def full(self, shape: Sequence[int], number: Scalar, dtype: str) -> Value:
        """A constant filled with one number."""
        return self.constant(np.full(tuple(shape), number, dtype), "full")

    def array(self, value: Any) -> np.ndarray | None:
        """The array behind a constant Value, else None."""
        return self.graph.weights.get(value) if isinstance(value, Value) else None

    # -- small steps ---------------------------------------------------------------------------------------------
    def cast(self, x: Value, dtype: str) -> Value:
        """``x`` in ``dtype``; nothing is added when it has it. Scalar constants are cast at once."""
        if x.dtype == dtype:
            return x
        array = self.array(x)
        if array is not None and array.size <= 16:
            return self.constant(array.astype(dtype), "cast") if array.ndim else self.scalar(array.item(), dtype)
        return self(ops.Cast(dtype), x)

    def operand(self, x: Value | Scalar, dtype: str) -> Value:
        """A tensor or number as a Value of ``dtype``."""
        return self.cast(x, dtype) if isinstance(x, Value) else self.scalar(x, dtype)

    def reshape(self, x: Value, shape: Sequence[int]) -> Value:
        """``x`` reshaped (one size may be -1); nothing is added when it has that shape."""
        shape = list(shape)
        if -1 in shape:
            rest = math.prod(d for d in shape if d != -1)
            shape[shape.index(-1)] = x.size // rest if rest else 0
        return x if x.shape == tuple(shape) else self(ops.Reshape(tuple(int(d) for d in shape)), x)

    def permute(self, x: Value, perm: Sequence[int]) -> Value:
        perm = tuple(p % x.rank for p in perm)
        return x if perm == tuple(range(x.rank)) else self(ops.Permute(perm), x)

    def expand(self, x: Value, shape: Sequence[int]) -> Value:
        return x if x.shape == tuple(shape) else self(ops.Expand(tuple(shape)), x)

    def slice(self, x: Value, axis: int, start: int, stop: int, step: int = 1) -> Value:
        """``x[..., start:stop:step, ...]`` on one axis, 0 ≤ start ≤ stop ≤ size."""
        if start == 0 and stop == x.shape[axis] and step == 1:
            return x
        return self(ops.Slice.along(x.shape, axis, start, stop, step), x)

    def concat(self, parts: Sequence[Value], axis: int) -> Value:
        return parts[0] if len(parts) == 1 else self(ops.Concat(axis), *parts)

    def pad(self, x: Value, pads: Sequence[tuple[int, int]], mode: str = "constant", value: float = 0.0) -> Value:
        """Pad per axis; negative pads cut."""
        starts = [max(-a, 0) for a, _ in pads]
        stops = [n - max(-b, 0) for n, (_, b) in zip(x.shape, pads, strict=True)]
        if any(starts) or stops != list(x.shape):
            x = self(ops.Slice(tuple(starts), tuple(stops), (1,) * x.rank), x)
        grown = tuple((max(a, 0), max(b, 0)) for a, b in pads)
        return self(ops.Pad(grown, mode, value), x) if any(a or b for a, b in grown) else x

    def spread(
        self,
        x: Value,
        first: int,
        kernel: Sequence[int],
        stride: Sequence[int],
        dilation: Sequence[int],
        crops: Sequence[tuple[int, int]],
        more: Sequence[int],
    ) -> Value:
        """What a convolution of stride 1 with the flipped kernel makes the transposed convolution of: ``stride`` − 1
        zeros behind each element of the axes from ``first`` on, and pads as far as the kernel reaches, less ``crops``
        and with ``more`` at the end."""
        count = len(stride)
        before, size, behind = x.shape[:first], x.shape[first : first + count], x.shape[first + count :]
        y = self.reshape(x, (*before, *(v for s in size for v in (s, 1)), *behind))
        between = [p for s in stride for p in ((0, 0), (0, s - 1))]
        y = self.pad(y, [*((0, 0) for _ in before), *between, *((0, 0) for _ in behind)])
        y = self.reshape(y, (*before, *(s * t for s, t in zip(size, stride, strict=True)), *behind))
        pads = [
            (d * (k - 1) - low, d * (k - 1) - high + e - (s - 1))
            for k, s, d, (low, high), e in zip(kernel, stride, dilation, crops, more, strict=True)
        ]
        return self.pad(y, [*((0, 0) for _ in before), *pads, *((0, 0) for _ in behind)])
