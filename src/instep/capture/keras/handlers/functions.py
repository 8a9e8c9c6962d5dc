"""Functions of keras.ops, by the names of their operations; TensorFlow's of the same meaning share them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from instep.capture.keras.builder import Builder
from instep.capture.keras.handlers.shape import repeated
from instep.capture.keras.registry import Unsupported, function
from instep.graph import Operator, Value, ops

__all__: list[str] = []

_UNARY: dict[str, Callable[[], Operator]] = {
    "Absolute": ops.Abs, "Abs": ops.Abs, "Negative": ops.Neg, "Exp": ops.Exp, "Log": ops.Log, "Sqrt": ops.Sqrt,
    "Rsqrt": ops.Rsqrt, "Square": ops.Square, "Sin": ops.Sin, "Cos": ops.Cos, "Floor": ops.Floor, "Ceil": ops.Ceil,
    "Round": ops.Round, "Sign": ops.Sign, "Reciprocal": ops.Reciprocal, "Erf": ops.Erf, "LogicalNot": ops.LogicalNot,
    "tf.math.abs": ops.Abs, "tf.abs": ops.Abs, "tf.math.negative": ops.Neg, "tf.__operators__.neg": ops.Neg,
    "tf.math.exp": ops.Exp, "tf.math.log": ops.Log, "tf.math.sqrt": ops.Sqrt, "tf.math.rsqrt": ops.Rsqrt,
    "tf.math.square": ops.Square, "tf.math.sin": ops.Sin, "tf.math.cos": ops.Cos, "tf.math.floor": ops.Floor,
    "tf.math.ceil": ops.Ceil, "tf.math.round": ops.Round, "tf.math.sign": ops.Sign, "tf.math.erf": ops.Erf,
    "tf.math.reciprocal": ops.Reciprocal, "tf.math.sigmoid": ops.Sigmoid, "tf.nn.sigmoid": ops.Sigmoid,
    "tf.math.tanh": ops.Tanh, "tf.nn.tanh": ops.Tanh, "tf.nn.relu": ops.Relu, "tf.nn.selu": ops.Selu,
    "tf.nn.relu6": lambda: ops.Clip(0.0, 6.0), "tf.nn.silu": ops.Silu, "tf.nn.swish": ops.Silu,
    "tf.math.softplus": ops.Softplus, "tf.nn.softplus": ops.Softplus, "tf.math.logical_not": ops.LogicalNot,
    "tf.keras.activations.relu": ops.Relu, "tf.keras.activations.sigmoid": ops.Sigmoid,
    "tf.keras.activations.swish": ops.Silu, "tf.keras.activations.tanh": ops.Tanh,
}  # fmt: skip
_BINARY: dict[str, Callable[[], Operator]] = {
    "Add": ops.Add, "Subtract": ops.Sub, "Multiply": ops.Mul, "Divide": ops.Div, "TrueDivide": ops.Div,
    "Power": ops.Pow, "Maximum": ops.Maximum, "Minimum": ops.Minimum, "FloorDivide": ops.FloorDiv, "Mod": ops.FloorMod,
    "Equal": ops.Equal, "NotEqual": ops.NotEqual, "Less": ops.Less, "LessEqual": ops.LessEqual, "Greater": ops.Greater,
    "GreaterEqual": ops.GreaterEqual, "LogicalAnd": ops.LogicalAnd, "LogicalOr": ops.LogicalOr, "Arctan2": ops.Atan2,
    "tf.__operators__.add": ops.Add, "tf.math.add": ops.Add, "tf.add": ops.Add, "tf.__operators__.sub": ops.Sub,
    "tf.math.subtract": ops.Sub, "tf.subtract": ops.Sub, "tf.math.multiply": ops.Mul, "tf.multiply": ops.Mul,
    "tf.__operators__.mul": ops.Mul, "tf.math.truediv": ops.Div, "tf.math.divide": ops.Div, "tf.divide": ops.Div,
    "tf.__operators__.truediv": ops.Div, "tf.math.pow": ops.Pow, "tf.__operators__.pow": ops.Pow,
    "tf.math.maximum": ops.Maximum, "tf.maximum": ops.Maximum, "tf.math.minimum": ops.Minimum,
    "tf.minimum": ops.Minimum, "tf.math.floordiv": ops.FloorDiv, "tf.math.floormod": ops.FloorMod,
    "tf.math.squared_difference": ops.SquaredDifference, "tf.math.equal": ops.Equal, "tf.math.less": ops.Less,
    "tf.math.greater": ops.Greater, "tf.math.greater_equal": ops.GreaterEqual, "tf.math.less_equal": ops.LessEqual,
    "tf.math.not_equal": ops.NotEqual, "tf.math.logical_and": ops.LogicalAnd, "tf.math.logical_or": ops.LogicalOr,
}  # fmt: skip
_REDUCE: dict[str, Any] = {
    "Mean": ops.ReduceMean, "Sum": ops.ReduceSum, "Max": ops.ReduceMax, "Min": ops.ReduceMin, "Prod": ops.ReduceProd,
    "Amax": ops.ReduceMax, "Amin": ops.ReduceMin, "Any": ops.ReduceAny, "All": ops.ReduceAll,
    "tf.math.reduce_mean": ops.ReduceMean, "tf.reduce_mean": ops.ReduceMean, "tf.math.reduce_sum": ops.ReduceSum,
    "tf.reduce_sum": ops.ReduceSum, "tf.math.reduce_max": ops.ReduceMax, "tf.math.reduce_min": ops.ReduceMin,
    "tf.math.reduce_prod": ops.ReduceProd,
}  # fmt: skip


def _unary(name: str, made: Callable[[], Operator]) -> None:
    @function(name)
    def handler(b: Builder, x: Value, name: Any = None) -> Value:
        return b(made(), x)


def _binary(name: str, made: Callable[[], Operator]) -> None:
    @function(name)
    def handler(b: Builder, first: Any = None, second: Any = None, name: Any = None, **given: Any) -> Value:
        # Keras 3 calls them x1 and x2, TensorFlow x and y or a and b
        left = next((given[k] for k in ("x1", "x", "a") if k in given), first)
        right = next((given[k] for k in ("x2", "y", "b_") if k in given), second if left is first else first)
        return _both(b, made(), left, right)


def _both(b: Builder, op: Operator, left: Any, right: Any) -> Value:
    """Numbers take the tensor's type; integers that meet a fraction become floating."""
    values = [v for v in (left, right) if isinstance(v, Value)]
    if not values:
        raise Unsupported("none of its operands is a tensor")
    dtypes = {v.dtype for v in values}
    dtype = next((d for d in ("float64", "float32", "float16") if d in dtypes), values[0].dtype)
    fraction = any(isinstance(v, float) and not v.is_integer() for v in (left, right))
    if dtype == "bool" and not isinstance(op, ops.LogicalAnd | ops.LogicalOr | ops.Equal | ops.NotEqual):
        dtype = "int32"
    if np.dtype(dtype).kind != "f" and (fraction or isinstance(op, ops.Div)):
        dtype = "float32"
    return b(op, b.operand(left, dtype), b.operand(right, dtype))


def _reduce(name: str, made: Any) -> None:
    @function(name)
    def handler(
        b: Builder, x: Value, axis: Any = None, keepdims: bool = False, name: Any = None, input_tensor: Any = None
    ) -> Value:
        return b(made(_axes(b, axis, x.rank), bool(keepdims)), x)


def _axes(b: Builder, axis: Any, rank: int) -> tuple[int, ...]:
    if axis is None:
        return tuple(range(rank))
    return tuple(sorted({b.axis(a, rank) for a in (axis if isinstance(axis, list) else [axis])}))


for _name, _made in _UNARY.items():
    _unary(_name, _made)
for _name, _made in _BINARY.items():
    _binary(_name, _made)
for _name, _made in _REDUCE.items():
    _reduce(_name, _made)


# -- shapes ------------------------------------------------------------------------------------------------------------
@function("Reshape", "tf.reshape")
def reshape(b: Builder, x: Value, newshape: Any = None, shape: Any = None, name: Any = None) -> Value:
    sizes = _sizes(newshape if newshape is not None else shape)
    if sizes[:1] == [-1] and sizes.count(-1) > 1:
        sizes[0] = x.shape[0]
    if sizes.count(-1) > 1:
        raise Unsupported(f"its shape {sizes} leaves several sizes open")
    return b.reshape(x, sizes)


def _sizes(value: Any, low: int = -1) -> list[int]:
    """Sizes as plain integers; an open one is -1."""
    items = value if isinstance(value, list) else [value]
    items = [-1 if n is None else n for n in items]
    if any(not isinstance(n, int) or isinstance(n, bool) or n < low for n in items):
        raise Unsupported(
            f"its shape {str(value)[:80]} is computed while the network runs; only static shapes can be captured"
        )
    return items


@function("Transpose", "tf.transpose", "tf.compat.v1.transpose")
def transpose(
    b: Builder, x: Value, axes: Any = None, perm: Any = None, name: Any = None, conjugate: Any = None
) -> Value:
    order = axes if axes is not None else perm
    return b.permute(x, [b.axis(a, x.rank) for a in order] if order is not None else range(x.rank)[::-1])


@function("Swapaxes")
def swapaxes(b: Builder, x: Value, axis1: Any = 0, axis2: Any = 1) -> Value:
    order, i, k = list(range(x.rank)), b.axis(axis1, x.rank), b.axis(axis2, x.rank)
    order[i], order[k] = k, i
    return b.permute(x, order)


@function("Moveaxis")
def moveaxis(b: Builder, x: Value, source: Any = 0, destination: Any = 0) -> Value:
    given, wanted = ([b.axis(a, x.rank) for a in (p if isinstance(p, list) else [p])] for p in (source, destination))
    if len(given) != len(wanted):
        raise Unsupported(f"it moves {len(given)} axes to {len(wanted)} places")
    rest = [a for a in range(x.rank) if a not in given]
    order = [given[wanted.index(place)] if place in wanted else rest.pop(0) for place in range(x.rank)]
    return b.permute(x, order)


@function("Squeeze", "tf.squeeze")
def squeeze(b: Builder, x: Value, axis: Any = None, name: Any = None) -> Value:
    ones = [a for a, n in enumerate(x.shape) if n == 1]
    axes = _axes(b, axis, x.rank) if axis is not None else tuple(a for a in ones if a)
    if any(x.shape[a] != 1 for a in axes):
        raise Unsupported(f"axes {list(axes)} of {list(x.shape)} are not of size 1")
    return b.reshape(x, [n for a, n in enumerate(x.shape) if a not in axes])


@function("ExpandDims", "tf.expand_dims")
def expand_dims(b: Builder, x: Value, axis: Any = 0, name: Any = None) -> Value:
    shape = list(x.shape)
    axes = axis if isinstance(axis, list) else [axis]
    for a in sorted(b.axis(a, x.rank + len(axes)) for a in axes):
        shape.insert(a, 1)
    return b.reshape(x, shape)


@function("Concatenate", "tf.concat")
def concatenate(b: Builder, xs: Any = None, axis: int = -1, values: Any = None, name: Any = None) -> Value:
    parts = _tensors(xs if xs is not None else values)
    return b.concat(parts, b.axis(axis, parts[0].rank))


@function("Stack", "tf.stack")
def stack(b: Builder, x: Any, axis: int = 0, name: Any = None) -> Value:
    parts = _tensors(x)
    at = b.axis(axis, parts[0].rank + 1)
    return b.concat([b.reshape(p, [*p.shape[:at], 1, *p.shape[at:]]) for p in parts], at)


def _tensors(parts: Any) -> list[Value]:
    if not isinstance(parts, list) or not parts or any(not isinstance(p, Value) for p in parts):
        raise Unsupported("it is not called with a list of tensors")
    return parts


@function("Split", "tf.split")
def split(b: Builder, x: Value, indices_or_sections: Any = None, axis: int = 0, num_or_size_splits: Any = None,
          num: Any = None, name: Any = None) -> tuple[Value, ...]:  # fmt: skip
    at = b.axis(axis, x.rank)
    size = x.shape[at]
    given = indices_or_sections if indices_or_sections is not None else num_or_size_splits
    if isinstance(given, int) and given > 0 and size % given == 0:
        stops = [size // given * (i + 1) for i in range(given)]
    elif isinstance(given, list) and all(isinstance(n, int) and n >= 0 for n in given):
        # keras.ops gives the places to cut at, TensorFlow the sizes
        stops = [*given, size] if indices_or_sections is not None else list(np.cumsum(given).tolist())
    else:
        raise Unsupported(f"axis {at} of {list(x.shape)} does not split into {str(given)[:60]}")
    if stops != sorted(stops) or not stops or stops[-1] != size or len(stops) > 4096:
        raise Unsupported(f"{size} elements do not split at {stops[:8]}")
    return tuple(b.slice(x, at, a, e) for a, e in zip([0, *stops[:-1]], stops, strict=True))


@function("Unstack", "tf.unstack")
def unstack(b: Builder, x: Value, num: Any = None, axis: int = 0, name: Any = None) -> tuple[Value, ...]:
    at = b.axis(axis, x.rank)
    shape = [*x.shape[:at], *x.shape[at + 1 :]]
    return tuple(b.reshape(b.slice(x, at, i, i + 1), shape) for i in range(x.shape[at]))


@function("GetItem", "tf.__operators__.getitem")
def get_item(b: Builder, x: Value, key: Any = None, slice_spec: Any = None) -> Value:
    """Python's indexing: numbers, slices, an ellipsis, None."""
    spec = key if key is not None else slice_spec
    spec = list(spec) if isinstance(spec, list) else [spec]
    named = sum(1 for s in spec if s is not None and s is not Ellipsis)
    if named > x.rank or spec.count(Ellipsis) > 1:
        raise Unsupported(f"{named} indices for rank {x.rank}")
    if Ellipsis not in spec:
        spec.append(Ellipsis)
    at = spec.index(Ellipsis)
    spec[at : at + 1] = [slice(None)] * (x.rank - named)
    shape: list[int] = []
    axis = 0
    for part in spec:
        if part is None:
            shape.append(1)
            continue
        size = x.shape[axis]
        if isinstance(part, slice):
            x = _cut(b, x, axis, part, size)
            shape.append(x.shape[axis])
        elif isinstance(part, int) and -size <= part < size:
            x = b.slice(x, axis, part % size, part % size + 1)
        else:
            raise Unsupported(f"the index {str(part)[:60]} of axis {axis} of {list(x.shape)}")
        axis += 1
    return b.reshape(x, shape)


def _cut(b: Builder, x: Value, axis: int, part: slice, size: int) -> Value:
    start, stop, step = part.indices(size)
    if step > 0:
        return b.slice(x, axis, start, max(stop, start), step)
    flipped = b(ops.Flip((axis,)), x)
    return b.slice(flipped, axis, size - 1 - start, max(size - 1 - stop, size - 1 - start), -step)


@function("Pad", "tf.pad", "tf.compat.v1.pad")
def pad(b: Builder, x: Value, pad_width: Any = None, mode: str = "constant", constant_values: Any = None,
        paddings: Any = None, name: Any = None) -> Value:  # fmt: skip
    given = pad_width if pad_width is not None else paddings
    given = [[given, given]] * x.rank if isinstance(given, int) else given
    if isinstance(given, list) and len(given) == 2 and all(isinstance(n, int) for n in given):
        given = [given] * x.rank
    rows: list[list[Any]] = [p for p in given if isinstance(p, list)] if isinstance(given, list) else []
    if len(rows) != x.rank or any(len(p) != 2 or any(not isinstance(n, int) or n < 0 for n in p) for p in rows):
        raise Unsupported(f"its pads are {str(given)[:80]}")
    pairs = [(int(p[0]), int(p[1])) for p in rows]
    kind = str(mode).lower()
    if kind == "constant":
        return b.pad(x, pairs, "constant", float(constant_values or 0.0))
    if kind == "reflect" and all(max(p) < n for p, n in zip(pairs, x.shape, strict=True)):
        return b.pad(x, pairs, "reflect")
    raise Unsupported(f"its mode is {mode!r}")


@function("Flip", "tf.reverse")
def flip(b: Builder, x: Value, axis: Any = None, name: Any = None) -> Value:
    return b(ops.Flip(_axes(b, axis, x.rank)), x)


@function("Roll", "tf.roll")
def roll(b: Builder, x: Value, shift: Any = None, axis: Any = None, name: Any = None) -> Value:
    shifts = shift if isinstance(shift, list) else [shift]
    axes = axis if isinstance(axis, list) else [axis]
    if len(axes) != len(shifts) or not all(isinstance(n, int) for n in shifts):
        raise Unsupported(f"it rolls by {shift} along {axis}")
    return b(ops.Roll(tuple(shifts), tuple(b.axis(a, x.rank) for a in axes)), x)


@function("Tile", "tf.tile")
def tile(b: Builder, x: Value, repeats: Any = None, multiples: Any = None, name: Any = None) -> Value:
    times = _sizes(repeats if repeats is not None else multiples, 1)
    times = [1] * (x.rank - len(times)) + times
    if len(times) != x.rank:
        raise Unsupported(f"it repeats {list(x.shape)} {times} times")
    for axis, n in enumerate(times):
        if n > 1:
            wide = b.expand(b.reshape(x, [*x.shape[:axis], 1, *x.shape[axis:]]), [*x.shape[:axis], n, *x.shape[axis:]])
            x = b.reshape(wide, [*x.shape[:axis], n * x.shape[axis], *x.shape[axis + 1 :]])
    return x


@function("Repeat", "tf.repeat")
def repeat(b: Builder, x: Value, repeats: Any = None, axis: Any = None, name: Any = None) -> Value:
    if not isinstance(repeats, int) or repeats < 1 or axis is None:
        raise Unsupported(f"it repeats {str(repeats)[:60]} times along {axis}")
    return repeated(b, x, b.axis(axis, x.rank), repeats)


@function("BroadcastTo", "tf.broadcast_to")
def broadcast_to(b: Builder, x: Value, shape: Any = None, name: Any = None) -> Value:
    sizes = _sizes(shape)
    first = x.shape[0] if len(sizes) == x.rank else 1
    return b.expand(x, [first if n == -1 else n for n in sizes])


# -- the rest ----------------------------------------------------------------------------------------------------------
@function("Clip", "tf.clip_by_value")
def clip(b: Builder, x: Value, x_min: Any = None, x_max: Any = None, clip_value_min: Any = None,
         clip_value_max: Any = None, name: Any = None) -> Value:  # fmt: skip
    low = x_min if x_min is not None else clip_value_min
    high = x_max if x_max is not None else clip_value_max
    bounds = [v for v in (low, high) if v is not None]
    if any(not isinstance(v, int | float) for v in bounds):
        raise Unsupported("its bounds are computed")
    return b(ops.Clip(-math.inf if low is None else float(low), math.inf if high is None else float(high)), x)


@function("Cast", "tf.cast")
def cast(b: Builder, x: Value, dtype: Any = None, name: Any = None) -> Value:
    return b.cast(x, _kind(dtype))


@function("Where", "tf.where")
def where(b: Builder, condition: Value, x1: Any = None, x2: Any = None, x: Any = None, y: Any = None,
          name: Any = None) -> Value:  # fmt: skip
    left, right = x1 if x1 is not None else x, x2 if x2 is not None else y
    dtype = next((v.dtype for v in (left, right) if isinstance(v, Value)), "float32")
    return b(ops.Where(), b.cast(condition, "bool"), b.operand(left, dtype), b.operand(right, dtype))


@function("Argmax", "tf.math.argmax")
def argmax(
    b: Builder, x: Value, axis: Any = None, keepdims: bool = False, output_type: Any = None, name: Any = None
) -> Value:
    if axis is None:
        x, axis = b.reshape(x, (x.size,)), 0
    return b.cast(b(ops.ArgMax(b.axis(axis, x.rank), bool(keepdims)), x), "int32" if b.major >= 3 else "int64")


@function("Take", "tf.gather")
def take(b: Builder, x: Any = None, indices: Any = None, axis: Any = None, params: Any = None, name: Any = None,
         **rest: Any) -> Value:  # fmt: skip
    table = x if x is not None else params
    if not isinstance(table, Value) or any(v for v in rest.values()):
        raise Unsupported("it gathers in batches")
    if isinstance(indices, list | int):
        numbers = np.asarray(indices, np.int32)
        indices = b.constant(
            np.where(numbers < 0, numbers + table.shape[axis or 0], numbers).astype(np.int32), "indices"
        )
    return b(ops.Gather(b.axis(axis or 0, table.rank)), table, indices)


@function("TakeAlongAxis")
def take_along_axis(b: Builder, x: Value, indices: Any = None, axis: Any = None) -> Value:
    if not isinstance(indices, Value) or axis is None or indices.rank != x.rank:
        raise Unsupported(f"its indices are {str(indices)[:60]}, its axis {axis}")
    at = b.axis(axis, x.rank)
    x = b.expand(x, [n if i == at else max(n, m) for i, (n, m) in enumerate(zip(x.shape, indices.shape, strict=True))])
    return b(ops.TakeAlong(at), x, indices)


@function("TopK")
def top_k(b: Builder, x: Value, k: Any = 1, sorted: Any = True) -> tuple[Value, ...]:
    if not isinstance(k, int):
        raise Unsupported(f"its k is {str(k)[:60]}")
    values, places = b.node(ops.TopK(k), x).outputs
    return values, b.cast(places, "int32")


@function("Normalize", "tf.math.l2_normalize", "tf.nn.l2_normalize")
def normalize(b: Builder, x: Value, axis: Any = -1, order: Any = 2, epsilon: float | None = None,
              name: Any = None, dim: Any = None) -> Value:  # fmt: skip
    if order != 2:
        raise Unsupported(f"its order is {order}")
    total = b(ops.ReduceSum(_axes(b, axis, x.rank), True), b(ops.Square(), x))
    # keras.ops bounds the root, TensorFlow the sum
    floor = (1e-7 if epsilon is None else epsilon) ** 2 if b.major >= 3 else 1e-12 if epsilon is None else epsilon
    return b(ops.Mul(), x, b(ops.Rsqrt(), b(ops.Maximum(), total, b.scalar(float(floor), x.dtype))))


@function("Var", "Std")
def variance(b: Builder, x: Value, axis: Any = None, keepdims: bool = False) -> Value:
    axes = _axes(b, axis, x.rank)
    centred = b(ops.Sub(), x, b(ops.ReduceMean(axes, True), x))
    spread = b(ops.ReduceMean(axes, bool(keepdims)), b(ops.Square(), centred))
    return b(ops.Sqrt(), spread) if b.place.layer.kind == "Std" else spread


@function("ZerosLike", "OnesLike", "FullLike", "tf.zeros_like", "tf.ones_like")
def filled_like(b: Builder, x: Value, fill_value: Any = None, dtype: Any = None, **_: Any) -> Value:
    kind = x.dtype if dtype is None else _kind(dtype)
    ones = "Ones" in b.place.layer.kind or "ones" in b.place.layer.config.get("function", "")
    number = fill_value if fill_value is not None else float(ones)
    if not isinstance(number, int | float):
        raise Unsupported("what it is filled with is computed")
    return b.constant(np.full(x.shape, number, kind), "full")


def _kind(dtype: Any) -> str:
    """A dtype as configs write it; all that is floating is float32 here."""
    wanted = str(dtype)
    return "float32" if wanted in ("float16", "bfloat16", "float64") else np.dtype(wanted).name


@function("Identity", "ConvertToTensor", "StopGradient", "tf.identity", "tf.stop_gradient", "Copy")
def identity(b: Builder, x: Value, **_: Any) -> Value:
    return x
