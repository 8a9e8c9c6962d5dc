"""Operators that reduce, scan or rank along axes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from instep.graph.operator import Operator, Spec, operator

__all__ = [
    "ArgMax", "ArgMin", "CumSum", "LogSoftmax", "REDUCTIONS", "ReduceAll", "ReduceAny", "ReduceMax", "ReduceMean",
    "ReduceMin", "ReduceProd", "ReduceSum", "Softmax", "TopK",
]  # fmt: skip


def _reduced(shape: tuple[int, ...], axes: tuple[int, ...], keepdims: bool) -> tuple[int, ...]:
    if any(not 0 <= a < len(shape) for a in axes):
        raise ValueError(f"axes {list(axes)} do not fit {list(shape)}")
    if keepdims:
        return tuple(1 if i in axes else n for i, n in enumerate(shape))
    return tuple(n for i, n in enumerate(shape) if i not in axes)


class _Reduction(Operator):
    function: ClassVar[Callable[..., Any]]
    axes: tuple[int, ...]
    keepdims: bool

    def infer(self, *inputs: Spec) -> tuple[Spec, ...]:
        (x,) = inputs
        return (Spec(_reduced(x.shape, self.axes, self.keepdims), x.dtype),)

    def evaluate(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        (x,) = inputs
        result = np.asarray(type(self).function(x, axis=self.axes, keepdims=self.keepdims))
        return (result.astype(x.dtype, copy=False),)


def _reduction(name: str, function: Callable[..., np.ndarray], doc: str) -> Any:
    body = {
        "function": staticmethod(function),
        "__doc__": doc + " Non-negative ``axes``; ``keepdims`` keeps them as size 1.",
        "__module__": __name__,
        "__annotations__": {"axes": "tuple[int, ...]", "keepdims": "bool"},
        "keepdims": False,
    }
    return operator(type(name, (_Reduction,), body))


ReduceMean = _reduction("ReduceMean", np.mean, "Arithmetic mean over axes.")
ReduceSum = _reduction("ReduceSum", np.sum, "Sum over axes.")
ReduceMax = _reduction("ReduceMax", np.max, "Maximum over axes.")
ReduceMin = _reduction("ReduceMin", np.min, "Minimum over axes.")
ReduceProd = _reduction("ReduceProd", np.prod, "Product over axes.")
ReduceAny = _reduction("ReduceAny", np.any, "Logical or over axes.")
ReduceAll = _reduction("ReduceAll", np.all, "Logical and over axes.")

REDUCTIONS = (ReduceMean, ReduceSum, ReduceMax, ReduceMin, ReduceProd, ReduceAny, ReduceAll)


@operator
class Softmax(Operator):
    """exp(x) / Σ exp(x) along ``axis`` (non-negative), computed after subtracting the maximum."""

    axis: int
    each = 64

    def infer(self, *inputs: Spec) -> tuple[Spec, ...]:
        (x,) = inputs
        if not 0 <= self.axis < len(x.shape):
            raise ValueError(f"axis {self.axis} does not fit {list(x.shape)}")
        return (x,)

    def evaluate(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        (x,) = inputs
        e = np.exp(x - x.max(self.axis, keepdims=True))
        return (e / e.sum(self.axis, keepdims=True),)


@operator
class LogSoftmax(Operator):
    """x - log Σ exp(x) along ``axis`` (non-negative)."""

    axis: int
    each = 64

    def infer(self, *inputs: Spec) -> tuple[Spec, ...]:
        return (inputs[0],)

    def evaluate(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        (x,) = inputs
        shifted = x - x.max(self.axis, keepdims=True)
        return (shifted - np.log(np.exp(shifted).sum(self.axis, keepdims=True)),)


class _Arg(Operator):
    axis: int
    keepdims: bool
    function: ClassVar[Callable[..., Any]]

    def infer(self, *inputs: Spec) -> tuple[Spec, ...]:
        (x,) = inputs
        return (Spec(_reduced(x.shape, (self.axis,), self.keepdims), "int64"),)

    def evaluate(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        (x,) = inputs
        return (np.asarray(type(self).function(x, axis=self.axis, keepdims=self.keepdims)).astype(np.int64),)


@operator
class ArgMax(_Arg):
    """Index (int64) of the first maximum along ``axis``."""

    axis: int
    keepdims: bool = False
    function = staticmethod(np.argmax)


@operator
class ArgMin(_Arg):
    """Index (int64) of the first minimum along ``axis``."""

    axis: int
    keepdims: bool = False
    function = staticmethod(np.argmin)


@operator
class CumSum(Operator):
    """Inclusive running sum along ``axis``."""

    axis: int

    def infer(self, *inputs: Spec) -> tuple[Spec, ...]:
        return (inputs[0],)

    def evaluate(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        (x,) = inputs
        return (np.cumsum(x, self.axis).astype(x.dtype),)


@operator
class TopK(Operator):
    """The ``k`` largest values along the last axis in falling order, and their int64 indices (two outputs)."""

    k: int

    def infer(self, *inputs: Spec) -> tuple[Spec, ...]:
        (x,) = inputs
        if not 1 <= self.k <= x.shape[-1]:
            raise ValueError(f"k={self.k} does not fit the last axis of {list(x.shape)}")
        shape = (*x.shape[:-1], self.k)
        return Spec(shape, x.dtype), Spec(shape, "int64")

    def evaluate(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        (x,) = inputs
        index = np.argsort(-x, axis=-1, kind="stable")[..., : self.k]
        return np.take_along_axis(x, index, -1), index.astype(np.int64)
