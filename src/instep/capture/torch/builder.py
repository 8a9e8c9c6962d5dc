"""What handlers build with: adds operators for the step at hand, makes constants, settles dtypes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from instep.capture.torch.program import Program, Step
from instep.capture.torch.registry import Unsupported
from instep.graph import Graph, Node, Operator, Value, ops

__all__ = ["Builder", "dtype_name", "numpy_of"]

Scalar = int | float | bool


def dtype_name(dtype: torch.dtype) -> str:
    """numpy's name of a torch dtype. bfloat16, which numpy lacks, is carried as float32."""
    name = str(dtype).removeprefix("torch.")
    return "float32" if name == "bfloat16" else name


def numpy_of(tensor: torch.Tensor) -> np.ndarray:
    """The tensor's memory as numpy, not copied (bfloat16 becomes float32)."""
    tensor = tensor.detach().resolve_conj().resolve_neg()
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).cpu().numpy()


class Builder:
    """Adds to ``graph`` what the current ``step`` of ``program`` means."""

    def __init__(self, graph: Graph, program: Program) -> None:
        self.graph = graph
        self.program = program
        self.step: Step = Step("call", "")
        self.stem = ""
        self.names: set[str] = set()
        self._scalars: dict[tuple[Any, ...], Value] = {}

    # -- the step ------------------------------------------------------------------------------------------------
    def begin(self, step: Step) -> None:
        self.step = step
        self.stem = f"{step.scope}/{step.name}" if step.scope else step.name

    def unique(self, name: str) -> str:
        unique, i = name, 1
        while unique in self.names:
            unique, i = f"{name}.{i}", i + 1
        self.names.add(unique)
        return unique

    def dtype(self, i: int = 0) -> str:
        """numpy name of the dtype of the step's result (of its i-th result)."""
        val = self.step.val
        return dtype_name((val[i] if isinstance(val, (list, tuple)) else val).dtype)

    def shape(self, i: int = 0) -> tuple[int, ...]:
        """Shape of the step's (i-th) result."""
        val = self.step.val
        return tuple((val[i] if isinstance(val, (list, tuple)) else val).shape)

    # -- adding --------------------------------------------------------------------------------------------------
    def node(self, op: Operator, *inputs: Value) -> Node:
        node = self.graph.add(op, inputs, scope=self.step.scope, origin=self.step.origin)
        for i, value in enumerate(node.outputs):
            value.name = self.unique(f"{self.stem}.{op.name.lower()}{i or ''}")
        return node

    def __call__(self, op: Operator, *inputs: Value) -> Value:
        """Add ``op`` and return its output."""
        return self.node(op, *inputs).output

    def constant(self, array: np.ndarray, hint: str = "constant") -> Value:
        """A new constant that belongs to this step."""
        return self.graph.constant(np.ascontiguousarray(array), self.unique(f"{self.stem}.{hint}"))

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
        starts, stops, steps = [0] * x.rank, list(x.shape), [1] * x.rank
        starts[axis], stops[axis], steps[axis] = start, stop, step
        return self(ops.Slice(tuple(starts), tuple(stops), tuple(steps)), x)

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

    # -- dtypes --------------------------------------------------------------------------------------------------
    def common(self, *operands: Value | Scalar) -> str:
        """The dtype that torch promotes these operands to (its rules for dimensions, 0-d tensors and numbers)."""
        values = [v for v in operands if isinstance(v, Value)]
        if len({v.dtype for v in values}) == 1:
            kinds = {type(v) for v in operands if not isinstance(v, Value)}
            kind = np.dtype(values[0].dtype).kind
            if kind == "f" or not kinds or (kind in "iu" and kinds <= {int, bool}) or kinds == {bool}:
                return values[0].dtype
        result: Any = None
        probes = [
            torch.empty((0,) * min(v.rank, 1), dtype=getattr(torch, v.dtype)) if isinstance(v, Value) else v
            for v in operands
        ]
        result = probes[0]
        for probe in probes[1:]:
            dtype = torch.result_type(result, probe)
            ranks = [p.dim() for p in (result, probe) if isinstance(p, torch.Tensor)]
            result = torch.empty((0,) * max(ranks, default=0), dtype=dtype)
        return dtype_name(result.dtype)

    def fail(self, why: str) -> Unsupported:
        return Unsupported(why)
