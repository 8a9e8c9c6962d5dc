"""Functions that sum up, count, order or run along axes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from instep.capture.keras.builder import Builder
from instep.capture.keras.handlers.calculus import are_numbers
from instep.capture.keras.registry import Unsupported, function
from instep.capture.logarithms import of_sum
from instep.capture.scans import prefixes
from instep.graph import Value, ops

__all__ = ["moments_of", "ordered"]

_REDUCE: dict[str, Any] = {
    "Mean": ops.ReduceMean, "Sum": ops.ReduceSum, "Max": ops.ReduceMax, "Min": ops.ReduceMin, "Prod": ops.ReduceProd,
    "Amax": ops.ReduceMax, "Amin": ops.ReduceMin, "Any": ops.ReduceAny, "All": ops.ReduceAll,
    "tf.math.reduce_mean": ops.ReduceMean, "tf.reduce_mean": ops.ReduceMean, "tf.math.reduce_sum": ops.ReduceSum,
    "tf.reduce_sum": ops.ReduceSum, "tf.math.reduce_max": ops.ReduceMax, "tf.math.reduce_min": ops.ReduceMin,
    "tf.math.reduce_prod": ops.ReduceProd, "tf.reduce_max": ops.ReduceMax, "tf.reduce_min": ops.ReduceMin,
    "tf.reduce_prod": ops.ReduceProd, "tf.reduce_any": ops.ReduceAny, "tf.reduce_all": ops.ReduceAll,
    "tf.math.reduce_any": ops.ReduceAny, "tf.math.reduce_all": ops.ReduceAll,
}  # fmt: skip


def _reduce(key: str, made: Any) -> None:
    @function(key)
    def handler(b: Builder, x: Value, axis: Any = None, keepdims: bool = False, initial: Any = None,
                name: Any = None, input_tensor: Any = None) -> Value:  # fmt: skip
        if made in (ops.ReduceAny, ops.ReduceAll):
            x = b.cast(x, "bool")
        elif made is ops.ReduceMean and key == "Mean":  # TensorFlow's own divides whole numbers without rest
            x = b.floating(x)
        elif x.dtype == "bool" and made in (ops.ReduceMax, ops.ReduceMin):
            return b((ops.ReduceAny if made is ops.ReduceMax else ops.ReduceAll)(b.all_axes(axis, x.rank), keepdims), x)
        elif x.dtype == "bool":
            x = b.cast(x, "int32")
        y = b(made(b.all_axes(axis, x.rank), bool(keepdims)), x)
        if initial is None:
            return y
        edge = ops.Maximum() if made is ops.ReduceMax else ops.Minimum()
        return b(edge, y, b.operand(initial, y.dtype))


for _name, _made in _REDUCE.items():
    _reduce(_name, _made)


# -- moments -----------------------------------------------------------------------------------------------------------
@function("Var", "Std", "tf.math.reduce_variance", "tf.math.reduce_std")
def variance(b: Builder, x: Value, axis: Any = None, keepdims: bool = False, name: Any = None) -> Value:
    x = b.floating(x)
    spread = moments_of(b, x, b.all_axes(axis, x.rank), bool(keepdims))[1]
    root = "std" in (b.place.layer.config.get("function") or b.place.layer.kind).lower()
    return b(ops.Sqrt(), spread) if root else spread


def moments_of(b: Builder, x: Value, axes: Sequence[int], keepdims: bool) -> tuple[Value, Value]:
    """Mean and variance."""
    axes = tuple(axes)
    mean = b(ops.ReduceMean(axes, True), x)
    spread = b(ops.ReduceMean(axes, keepdims), b(ops.Square(), b(ops.Sub(), x, mean)))
    return (mean if keepdims else b.reshape(mean, spread.shape)), spread


@function("Moments", "tf.nn.moments")
def moments(b: Builder, x: Value, axes: Any = None, keepdims: bool = False, synchronized: bool = False,
            shift: Any = None, name: Any = None) -> tuple[Value, Value]:  # fmt: skip
    return moments_of(b, x, b.all_axes(axes, x.rank), bool(keepdims))


@function("Average")
def average(b: Builder, x: Value, weights: Any = None, axis: Any = None) -> Value:
    x, axes = b.floating(x), b.all_axes(axis, x.rank)
    if weights is None:
        return b(ops.ReduceMean(axes, False), x)
    w = b.floating(b.operand(weights, "float32"))
    if w.rank == 1 and x.rank > 1 and len(axes) == 1:
        w = b.reshape(w, [n if a == axes[0] else 1 for a, n in enumerate(x.shape)])
    w = b.expand(w, x.shape)
    total = b(ops.ReduceSum(axes, False), b(ops.Mul(), x, w))
    return b(ops.Div(), total, b(ops.ReduceSum(axes, False), w))


@function("Ptp")
def peak_to_peak(b: Builder, x: Value, axis: Any = None, keepdims: bool = False) -> Value:
    axes = b.all_axes(axis, x.rank)
    low, high = (b(made(axes, bool(keepdims)), x) for made in (ops.ReduceMin, ops.ReduceMax))
    return b(ops.Sub(), high, low)


@function("CountNonzero", "tf.math.count_nonzero")
def count_nonzero(b: Builder, x: Value, axis: Any = None, **_: Any) -> Value:
    shown = x if x.dtype == "bool" else b(ops.NotEqual(), x, b.scalar(0, x.dtype))
    return b(ops.ReduceSum(b.all_axes(axis, x.rank), False), b.cast(shown, "int32"))


@function("Logsumexp", "tf.reduce_logsumexp", "tf.math.reduce_logsumexp")
def logsumexp(b: Builder, x: Value, axis: Any = None, keepdims: bool = False, name: Any = None) -> Value:
    axes = b.all_axes(axis, x.rank)
    y = of_sum(b, x, axes)
    return y if keepdims else b.reshape(y, [n for a, n in enumerate(x.shape) if a not in axes])


# -- places ------------------------------------------------------------------------------------------------------------
@function("Argmax", "Argmin", "tf.math.argmax", "tf.argmax", "tf.math.argmin", "tf.argmin")
def arg_extreme(b: Builder, x: Value, axis: Any = None, keepdims: bool = False, output_type: Any = None,
                dimension: Any = None, name: Any = None) -> Value:  # fmt: skip
    of_keras = b.place.layer.kind.startswith("Arg")
    if axis is None and of_keras:
        flat = b.reshape(x, (x.size,))
        y = _place(b, flat, 0, False)
        y = b.reshape(y, (1,) * x.rank) if keepdims else y
    else:
        y = _place(b, x, b.axis(axis or 0, x.rank), bool(keepdims))
    kind = "int32" if of_keras or "int32" in str(output_type) else "int64"
    return b.cast(y, kind)


def _place(b: Builder, x: Value, axis: int, keepdims: bool) -> Value:
    name = (b.place.layer.config.get("function") or b.place.layer.kind).lower()
    return b((ops.ArgMin if name.endswith("min") else ops.ArgMax)(axis, keepdims), x)


@function("TopK", "tf.math.top_k", "tf.nn.top_k")
def top_k(b: Builder, x: Value, k: Any = 1, sorted: Any = True, index_type: Any = None,
          name: Any = None) -> tuple[Value, ...]:  # fmt: skip
    if not isinstance(k, int):
        raise Unsupported(f"its k is {str(k)[:60]}")
    if not sorted and k > 1:
        raise Unsupported("without sorted=True its order is the backend's own; ask for a sorted one")
    values, places = b.node(ops.TopK(k), x).outputs
    return values, b.cast(places, "int32")


def ordered(b: Builder, x: Value, axis: int) -> tuple[Value, Value]:
    """x in rising order along ``axis``, and the places that this takes it from."""
    order = [*(a for a in range(x.rank) if a != axis), axis]
    back = [order.index(a) for a in range(x.rank)]
    turned = b(ops.Neg(), b.permute(x, order))
    values, places = b.node(ops.TopK(x.shape[axis]), turned).outputs
    return b.permute(b(ops.Neg(), values), back), b.permute(places, back)


@function("Sort", "Argsort", "tf.sort", "tf.argsort")
def sort(b: Builder, x: Value, axis: Any = -1, values: Any = None, direction: str = "ASCENDING", stable: bool = False,
         name: Any = None) -> Value:  # fmt: skip
    if str(direction).upper() != "ASCENDING":
        raise Unsupported("it orders from the largest on; take the top k instead")
    if axis is None:
        x, axis = b.reshape(x, (x.size,)), 0
    values_, places = ordered(b, x, b.axis(axis, x.rank))
    name = (b.place.layer.config.get("function") or b.place.layer.kind).lower()
    return b.cast(places, "int32") if "arg" in name else values_


@function("InTopK")
def in_top_k(b: Builder, targets: Value, predictions: Value, k: int = 1) -> Value:
    """Whether fewer than k classes are above the target's."""
    own = b(ops.TakeAlong(1), predictions, b.reshape(targets, (targets.size, 1)))
    above = b.cast(b(ops.Greater(), predictions, own), "int32")
    return b(ops.Less(), b(ops.ReduceSum((1,), False), above), b.scalar(k, "int32"))


@function("Median", "Quantile", "Percentile")
def quantile(b: Builder, x: Value, q: Any = 0.5, axis: Any = None, method: str = "linear",
             keepdims: bool = False) -> Value:  # fmt: skip
    """What lies at the part q of the ordered elements, between two of them by ``method``."""
    if method != "linear" and b.place.layer.kind == "Quantile":
        raise Unsupported(f"its method is {method!r}, which Keras itself forgets in a model; use percentile")
    x, axes = b.floating(x), b.all_axes(axis, x.rank)
    parts = np.asarray(q, np.float64) if isinstance(q, int | float | list) else None
    if parts is None or parts.ndim > 1:
        raise Unsupported("its q is computed")
    parts = parts / 100 if b.place.layer.kind == "Percentile" else parts
    rest = [a for a in range(x.rank) if a not in axes]
    size = math.prod(x.shape[a] for a in axes)
    flat = b.reshape(b.permute(x, (*rest, *axes)), (*(x.shape[a] for a in rest), size))
    rising = ordered(b, flat, flat.rank - 1)[0]
    shape = [1 if a in axes else n for a, n in enumerate(x.shape)] if keepdims else [x.shape[a] for a in rest]
    found = [b.reshape(_at(b, rising, float(p) * (size - 1), method), shape) for p in parts.reshape(-1)]
    return found[0] if not parts.ndim else b.concat([b.reshape(f, (1, *shape)) for f in found], 0)


def _at(b: Builder, rising: Value, place: float, method: str) -> Value:
    """What is at ``place``; between two elements what the method says, in proportion as a rule."""
    axis, low = rising.rank - 1, math.floor(place)
    picks = {"lower": low, "higher": math.ceil(place), "nearest": round(place), "linear": place}
    picks["midpoint"] = (low + math.ceil(place)) / 2
    if method not in picks:
        raise Unsupported(f"its method is {method!r}")
    place, low = picks[method], math.floor(picks[method])
    first = b.slice(rising, axis, low, low + 1)
    if place == low:
        return first
    step = b(ops.Sub(), b.slice(rising, axis, low + 1, low + 2), first)
    return b(ops.Add(), first, b(ops.Mul(), step, b.scalar(place - low, rising.dtype)))


# -- running -----------------------------------------------------------------------------------------------------------
@function("Cumsum", "Cumprod", "tf.cumsum", "tf.math.cumsum", "tf.math.cumprod")
def running(b: Builder, x: Value, axis: Any = None, dtype: Any = None, exclusive: bool = False, reverse: bool = False,
            name: Any = None) -> Value:  # fmt: skip
    if exclusive or reverse:
        raise Unsupported("it runs backwards or leaves the element itself out")
    if axis is None and "f" in b.place.layer.kind[:2].lower():  # TensorFlow's runs along the first axis
        axis = 0
    x, axis = (b.reshape(x, (x.size,)), 0) if axis is None else (x, b.axis(axis, x.rank))
    x = b.cast(x, "int32") if x.dtype == "bool" else x
    if "prod" in (b.place.layer.config.get("function") or b.place.layer.kind):
        return prefixes(b, x, axis, lambda p, q: b(ops.Mul(), p, q), 1)
    return b(ops.CumSum(axis), x)


@function("Diff")
def diff(b: Builder, a: Value, n: int = 1, axis: Any = -1) -> Value:
    """Each element less the one before, ``n`` times."""
    at = b.axis(axis, a.rank)
    for _ in range(n):
        size = a.shape[at]
        a = b(ops.Sub(), b.slice(a, at, 1, size), b.slice(a, at, 0, size - 1))
    return a


@function("Trapezoid")
def trapezoid(b: Builder, y: Value, x: Any = None, dx: float = 1.0, axis: Any = -1) -> Value:
    """The area under the line through the elements."""
    if x is not None:
        raise Unsupported("its places are given; multiply by their distances")
    y, at = b.floating(y), b.axis(axis, y.rank)
    size = y.shape[at]
    pairs = b(ops.Add(), b.slice(y, at, 1, size), b.slice(y, at, 0, size - 1))
    return b(ops.Mul(), b(ops.ReduceSum((at,), False), pairs), b.scalar(dx / 2, y.dtype))


# -- past what is no number --------------------------------------------------------------------------------------------
def _past(*names: str) -> Callable[[Callable[..., Value]], None]:
    """A reduction that leaves NaN out: of x, where x is a number, the axes and whether they stay."""

    def wrap(form: Callable[..., Value]) -> None:
        @function(*names)
        def handler(b: Builder, x: Value, axis: Any = None, keepdims: bool = False) -> Value:
            x = b.floating(x)
            return form(b, x, are_numbers(b, x), b.all_axes(axis, x.rank), bool(keepdims))

    return wrap


def _filled(b: Builder, x: Value, shown: Value, number: float) -> Value:
    return b(ops.Where(), shown, x, b.scalar(number, x.dtype))


@_past("Nansum", "Nanprod", "Nanmax", "Nanmin")
def nan_reduction(b: Builder, x: Value, shown: Value, axes: tuple[int, ...], keepdims: bool) -> Value:
    """Of nothing, a sum is 0 and a product 1; an extreme is no number."""
    made, neutral = {
        "Nansum": (ops.ReduceSum, 0.0), "Nanprod": (ops.ReduceProd, 1.0), "Nanmax": (ops.ReduceMax, -math.inf),
        "Nanmin": (ops.ReduceMin, math.inf),
    }[b.place.layer.kind]  # fmt: skip
    y = b(made(axes, keepdims), _filled(b, x, shown, neutral))
    if math.isfinite(neutral):
        return y
    return b(ops.Where(), b(ops.ReduceAny(axes, keepdims), shown), y, b.scalar(math.nan, y.dtype))


@_past("Nanmean", "Nanvar", "Nanstd")
def nan_moments(b: Builder, x: Value, shown: Value, axes: tuple[int, ...], keepdims: bool) -> Value:
    def mean(v: Value, keep: bool) -> Value:
        total = b(ops.ReduceSum(axes, keep), _filled(b, v, shown, 0.0))
        return b(ops.Div(), total, b(ops.ReduceSum(axes, keep), b.cast(shown, x.dtype)))

    if b.place.layer.kind == "Nanmean":
        return mean(x, keepdims)
    spread = mean(b(ops.Square(), b(ops.Sub(), x, mean(x, True))), keepdims)
    return b(ops.Sqrt(), spread) if b.place.layer.kind == "Nanstd" else spread


@function("Nancumsum", "Nancumprod")
def nan_running(b: Builder, x: Value, axis: Any = None, dtype: Any = None) -> Value:
    product = b.place.layer.kind == "Nancumprod"
    x = _filled(b, x, are_numbers(b, x), 1.0 if product else 0.0)
    x, at = (b.reshape(x, (x.size,)), 0) if axis is None else (x, b.axis(axis, x.rank))
    return prefixes(b, x, at, lambda p, q: b(ops.Mul(), p, q), 1) if product else b(ops.CumSum(at), x)
