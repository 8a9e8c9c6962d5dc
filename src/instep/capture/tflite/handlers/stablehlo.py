"""Handlers of StableHLO's operators in TFLite files, and of those that LiteRT computes with the same kernels.

https://openxla.org/stablehlo/spec defines them. LiteRT's interpreter runs few: STABLEHLO_ADD, MULTIPLY, MAXIMUM,
MINIMUM, AND, PAD, GATHER, REDUCE_WINDOW, SHIFT_LEFT, CASE, COMPOSITE, and DILATE and REDUCE_WINDOW.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from instep.capture.einsum import contracted
from instep.capture.tflite.builder import Builder
from instep.capture.tflite.handlers.shape import dynamic_update_slice
from instep.capture.tflite.registry import Unsupported, reads
from instep.graph import Operator, Value, ops

__all__: list[str] = []

_MAX_SLICES = 1 << 12
_MAX_MADE = 1 << 26
_UNARY: dict[str, Operator] = {
    "LOGISTIC": ops.Sigmoid(), "ABS": ops.Abs(), "COSINE": ops.Cos(), "EXPONENTIAL": ops.Exp(), "FLOOR": ops.Floor(),
    "LOG": ops.Log(), "NEGATE": ops.Neg(), "RSQRT": ops.Rsqrt(), "TANH": ops.Tanh(),
}  # fmt: skip
#: Operator, and the kinds of numbers (numpy's letters) of which it means this.
_BINARY: dict[str, tuple[Operator, str]] = {
    "ADD": (ops.Add(), "fiu"), "SUBTRACT": (ops.Sub(), "fiu"), "MULTIPLY": (ops.Mul(), "fiu"),
    "DIVIDE": (ops.Div(), "f"), "POWER": (ops.Pow(), "f"), "MAXIMUM": (ops.Maximum(), "fiu"),
    "MINIMUM": (ops.Minimum(), "fiu"), "AND": (ops.LogicalAnd(), "b"), "OR": (ops.LogicalOr(), "b"),
}  # fmt: skip
#: By the schema's ComparisonDirection.
_COMPARED: tuple[Operator, ...] = (
    ops.Equal(), ops.NotEqual(), ops.GreaterEqual(), ops.Greater(), ops.LessEqual(), ops.Less(),
)  # fmt: skip


def _kind(x: Value) -> str:
    return np.dtype(x.dtype).kind


def _unary(name: str, op: Operator) -> None:
    @reads(f"STABLEHLO_{name}")
    def handler(b: Builder, x: Value) -> Value:
        return b(op, x)


def _binary(name: str, op: Operator, kinds: str) -> None:
    @reads(f"STABLEHLO_{name}")
    def handler(b: Builder, x: Value, y: Value) -> Value:
        if _kind(x) not in kinds:
            raise Unsupported(f"it computes with {x.dtype}")
        return b(op, x, y)


for _name, _op in _UNARY.items():
    _unary(_name, _op)
for _name, (_op, _kinds) in _BINARY.items():
    _binary(_name, _op, _kinds)


def _numbers(b: Builder, accessor: str, count: int, default: int = 0) -> list[int]:
    """A list of integers among the options, one for each of ``count`` axes."""
    given = b.option(f"{accessor}AsNumpy", 0)
    found = [default] * count if isinstance(given, int) else [int(n) for n in given]
    if len(found) != count:
        raise Unsupported(f"its {accessor} {found[:8]} does not fit {count} axes")
    return found


def _axes(b: Builder, accessor: str, rank: int) -> list[int]:
    """A list of axes among the options."""
    given = b.option(f"{accessor}AsNumpy", 0)
    return [] if isinstance(given, int) else [b.axis(int(n), rank) for n in given]


# -- elementwise -----------------------------------------------------------------------------------------------------
@reads("STABLEHLO_SHIFT_LEFT")
def shift_left(b: Builder, x: Value, count: Value) -> Value:
    places = b.array(count)
    if places is None or (places < 0).any() or (places >= 8 * np.dtype(x.dtype).itemsize - 1).any():
        raise Unsupported("how far it shifts is computed, or further than its numbers reach")
    return b(ops.Mul(), x, b.constant(np.left_shift(np.ones_like(places), places), "factors"))


@reads("STABLEHLO_CBRT")
def cube_root(b: Builder, x: Value) -> Value:
    return b(ops.Mul(), b(ops.Sign(), x), b(ops.Pow(), b(ops.Abs(), x), b.scalar(1 / 3, x.dtype)))


@reads("STABLEHLO_COMPARE", "StablehloCompareOptions")
def compare(b: Builder, x: Value, y: Value) -> Value:
    direction = b.option("ComparisonDirection")
    if not 0 <= direction < len(_COMPARED):
        raise Unsupported(f"its direction is {direction}")
    return b(_COMPARED[direction], x, y)


@reads("STABLEHLO_SELECT")
def select(b: Builder, condition: Value, x: Value, y: Value) -> Value:
    return b(ops.Where(), condition, x, y)


@reads("STABLEHLO_CLAMP")
def clamp(b: Builder, low: Value, x: Value, high: Value) -> Value:
    return b(ops.Minimum(), b(ops.Maximum(), x, low), high)


@reads("STABLEHLO_CONVERT")
def convert(b: Builder, x: Value) -> Value:
    return b.cast(x, b.declared[0].meaning)


# -- moving elements -------------------------------------------------------------------------------------------------
@reads("STABLEHLO_RESHAPE")
def reshape(b: Builder, x: Value) -> Value:
    return b.reshape(x, b.declared[0].shape)


@reads("STABLEHLO_TRANSPOSE", "StablehloTransposeOptions")
def transpose(b: Builder, x: Value) -> Value:
    return b.permute(x, _numbers(b, "Permutation", x.rank))


@reads("STABLEHLO_BROADCAST_IN_DIM", "StablehloBroadcastInDimOptions")
def broadcast_in_dim(b: Builder, x: Value) -> Value:
    """Each axis of x becomes the axis of the result that its number names."""
    wanted = b.declared[0].shape
    axes = _numbers(b, "BroadcastDimensions", x.rank)
    sizes = [1] * len(wanted)
    for axis, size in zip(axes, x.shape, strict=True):
        sizes[b.axis(axis, len(wanted))] = size
    order = sorted(range(x.rank), key=lambda i: axes[i])
    return b.expand(b.reshape(b.permute(x, order), sizes), wanted)


@reads("STABLEHLO_CONCATENATE", "StablehloConcatenateOptions")
def concatenate(b: Builder, *parts: Value) -> Value:
    return b.concat(list(parts), b.axis(b.option("Dimension"), parts[0].rank))


@reads("STABLEHLO_SLICE", "StablehloSliceOptions")
def cut(b: Builder, x: Value) -> Value:
    starts, stops = (_numbers(b, name, x.rank) for name in ("StartIndices", "LimitIndices"))
    steps = _numbers(b, "Strides", x.rank, 1)
    return b(ops.Slice(tuple(starts), tuple(stops), tuple(steps)), x)


@reads("STABLEHLO_DYNAMIC_SLICE", "StablehloDynamicSliceOptions")
def dynamic_slice(b: Builder, x: Value, *starts: Value) -> Value:
    # the start is moved until the slice fits
    sizes = _numbers(b, "SliceSizes", x.rank)
    found = [b.integer(v, "start") for v in starts]
    first = [min(max(s, 0), n - w) for s, n, w in zip(found, x.shape, sizes, strict=True)]
    stops = [s + w for s, w in zip(first, sizes, strict=True)]
    return b(ops.Slice(tuple(first), tuple(stops), (1,) * x.rank), x)


@reads("STABLEHLO_DYNAMIC_UPDATE_SLICE")
def update_slice(b: Builder, x: Value, update: Value, *starts: Value) -> Value:
    found = np.asarray([b.integer(v, "start") for v in starts], np.int32)
    return dynamic_update_slice(b, x, update, b.constant(found, "start"))


@reads("STABLEHLO_IOTA", "StablehloIotaOptions")
def iota(b: Builder) -> Value:
    tensor = b.declared[0]
    if tensor.size > _MAX_MADE >> 6:
        raise Unsupported(f"it counts {tensor.size} elements")
    along = b.axis(b.option("IotaDimension"), len(tensor.shape))
    sizes = [n if a == along else 1 for a, n in enumerate(tensor.shape)]
    numbers = np.arange(tensor.shape[along]).reshape(sizes)
    return b.constant(np.broadcast_to(numbers, tensor.shape).astype(tensor.meaning), "iota")


def _fill(b: Builder, value: Value) -> float:
    found = b.array(value)
    if found is None or found.size != 1:
        raise Unsupported("what it pads with is computed")
    return found.item()


def _dilated(b: Builder, x: Value, between: Sequence[int], fill: float) -> Value:
    """``x`` with as many elements ``fill`` between any two neighbours of an axis."""
    if min(between, default=0) < 0 or x.size * math.prod(n + 1 for n in between) > _MAX_MADE:
        raise Unsupported(f"it spreads {list(x.shape)} by {list(between)}")
    for axis, count in enumerate(between):
        if not count:
            continue
        before, behind, size = x.shape[:axis], x.shape[axis + 1 :], x.shape[axis]
        rows = b.reshape(x, (math.prod(before) * size, 1, math.prod(behind)))
        rows = b.pad(rows, [(0, 0), (0, count), (0, 0)], "constant", fill)
        grown = b.reshape(rows, (*before, size * (count + 1), *behind))
        x = b.slice(grown, axis, 0, (size - 1) * (count + 1) + 1)
    return x


@reads("DILATE")
def dilate(b: Builder, x: Value, dilations: Value, fill: Value) -> Value:
    steps = b.ints(dilations, "dilations")
    if len(steps) != x.rank:
        raise Unsupported(f"its dilations {steps[:8]} do not fit {list(x.shape)}")
    return _dilated(b, x, [n - 1 for n in steps], _fill(b, fill))


@reads("STABLEHLO_PAD", "StablehloPadOptions")
def pad(b: Builder, x: Value, fill: Value) -> Value:
    low, high = (_numbers(b, f"EdgePadding{side}", x.rank) for side in ("Low", "High"))
    number = _fill(b, fill)
    x = _dilated(b, x, _numbers(b, "InteriorPadding", x.rank), number)
    return b.pad(x, list(zip(low, high, strict=True)), "constant", number)


@reads("STABLEHLO_GATHER", "StablehloGatherOptions")
def gather(b: Builder, x: Value, starts: Value) -> Value:
    """Windows of x where the vectors of ``starts`` name their first element, moved until they fit: elements are counted
    in row-major order, a window's from its first."""
    sizes = _numbers(b, "SliceSizes", x.rank)
    rank = len(b.declared[0].shape)
    named, gone = _axes(b, "StartIndexMap", x.rank), _axes(b, "CollapsedSliceDims", x.rank)
    vector, offsets = b.option("IndexVectorDim"), _axes(b, "OffsetDims", rank)
    if vector == starts.rank:
        starts = b.reshape(starts, (*starts.shape, 1))
    vector = b.axis(vector, starts.rank)
    starts = b.permute(starts, [a for a in range(starts.rank) if a != vector] + [vector])
    batch, kept = starts.shape[:-1], [n for a, n in enumerate(sizes) if a not in gone]
    fits = all(n <= m for n, m in zip(sizes, x.shape, strict=True))
    if not fits or starts.shape[-1] != len(named) or len(kept) != len(offsets):
        raise Unsupported(f"windows {sizes[:8]} at {list(starts.shape)} do not fit {list(x.shape)}")
    steps = [math.prod(x.shape[a + 1 :]) for a in range(x.rank)]
    most = np.asarray([x.shape[a] - sizes[a] for a in named], starts.dtype)
    placed = b(ops.Maximum(), b(ops.Minimum(), starts, b.constant(most, "last")), b.scalar(0, starts.dtype))
    factors = b.constant(np.asarray([steps[a] for a in named], starts.dtype), "steps")
    first = b(ops.ReduceSum((starts.rank - 1,), False), b(ops.Mul(), placed, factors))
    inside = np.tensordot(steps, np.indices(sizes), 1).reshape(kept).astype(starts.dtype)
    places = b(ops.Add(), b.reshape(first, (*batch, *(1,) * len(kept))), b.constant(inside, "window"))
    found = b(ops.Gather(0), b.reshape(x, (x.size,)), places)
    rows = iter(range(len(batch)))
    columns = iter(range(len(batch), found.rank))
    return b.permute(found, [next(columns) if a in offsets else next(rows) for a in range(rank)])


# -- products and reductions -----------------------------------------------------------------------------------------
@reads("STABLEHLO_DOT_GENERAL", "StablehloDotGeneralOptions")
def dot_general(b: Builder, x: Value, y: Value) -> Value:
    """Products summed over the contracting axes; the result has the batch's axes, those of x and those of y."""
    terms: list[list[str]] = [[""] * x.rank, [""] * y.rank]
    names = iter("abcdefghijklmnopqrstuvwxyz")
    common: list[str] = []
    for kind in ("BatchingDimensions", "ContractingDimensions"):
        left, right = _axes(b, f"Lhs{kind}", x.rank), _axes(b, f"Rhs{kind}", y.rank)
        for i, j in zip(left, right, strict=True):
            terms[0][i] = terms[1][j] = next(names)
            common += [terms[0][i]] if kind == "BatchingDimensions" else []
    own: list[str] = []
    for term in terms:
        for i in [i for i, letter in enumerate(term) if not letter]:
            term[i] = next(names)
            own.append(term[i])
    return contracted(b, [("".join(t), v) for t, v in zip(terms, (x, y), strict=True)], "".join((*common, *own)))


#: What joins two elements, by the operator of a reduction's body: graph operator, reduction, what changes nothing.
_JOINS: dict[str, tuple[Operator, Callable[..., Operator], float]] = {
    "ADD": (ops.Add(), ops.ReduceSum, 0.0),
    "MULTIPLY": (ops.Mul(), ops.ReduceProd, 1.0),
    "MAXIMUM": (ops.Maximum(), ops.ReduceMax, -math.inf),
    "MINIMUM": (ops.Minimum(), ops.ReduceMin, math.inf),
    "AND": (ops.LogicalAnd(), ops.ReduceAll, 1.0),
    "OR": (ops.LogicalOr(), ops.ReduceAny, 0.0),
}
_ALIKE = {"MUL": "MULTIPLY", "LOGICAL_AND": "AND", "LOGICAL_OR": "OR"}
#: By the schema's ReduceWindowFunction.
_FUNCTIONS = ("", "ADD", "MULTIPLY", "MINIMUM", "MAXIMUM", "AND", "OR")


def _join(name: str) -> tuple[Operator, Callable[..., Operator], float]:
    found = _JOINS.get(_ALIKE.get(name, name))
    if found is None:
        raise Unsupported(f"it reduces by {name or 'something'} that is no sum, product, maximum, minimum, and, or")
    return found


def _body(b: Builder) -> str:
    """The one operator that a reduction's subgraph is."""
    names = b.operators_of(b.option("BodySubgraphIndex"))
    return names[0].removeprefix("STABLEHLO_") if len(names) == 1 else f"{len(names)} operators"


def _started(b: Builder, op: Operator, x: Value, start: Value, nothing: float) -> Value:
    """``start`` joined to ``x`` unless it changes nothing."""
    found = b.array(start)
    if found is not None and found.size == 1:
        number = float(found.item())
        lowest = float(np.finfo(np.float32).max) if _kind(x) == "f" else math.inf
        if number == nothing or (math.isinf(nothing) and abs(number) >= lowest and (number > 0) == (nothing > 0)):
            return x
    return b(op, x, b.reshape(start, ()))


@reads("STABLEHLO_REDUCE", "StablehloReduceOptions")
def reduce(b: Builder, x: Value, start: Value) -> Value:
    op, kind, nothing = _join(_body(b))
    axes = tuple(sorted(_axes(b, "Dimensions", x.rank)))
    return _started(b, op, b(kind(axes, False), x) if axes else x, start, nothing)


def _windows(
    b: Builder, x: Value, start: Value, name: str, sizes: Sequence[int], strides: Sequence[int], apart: Sequence[int]
) -> Value:
    """Each window's elements joined, axis after axis: slices of x, one for each place in a window."""
    op, _, nothing = _join(name)
    if not len(sizes) == len(strides) == len(apart) == x.rank or min(*sizes, *strides, *apart) < 1:
        raise Unsupported(f"windows {list(sizes)[:8]} do not fit {list(x.shape)}")
    if sum(sizes) > _MAX_SLICES:
        raise Unsupported(f"its windows {list(sizes)} take more than {_MAX_SLICES} slices")
    for axis, (size, stride, step) in enumerate(zip(sizes, strides, apart, strict=True)):
        count = (x.shape[axis] - (size - 1) * step - 1) // stride + 1
        if count < 1:
            raise Unsupported(f"windows {list(sizes)} do not fit {list(x.shape)}")
        last = (count - 1) * stride + 1
        parts = [b.slice(x, axis, i * step, i * step + last, stride) for i in range(size)]
        x = parts[0]
        for part in parts[1:]:
            x = b(op, x, part)
    return _started(b, op, x, start, nothing)


@reads("REDUCE_WINDOW", "ReduceWindowOptions")
def reduce_window(b: Builder, x: Value, start: Value, sizes: Value, strides: Value, apart: Value) -> Value:
    function = b.option("ReduceFunction")
    name = _FUNCTIONS[function] if 0 <= function < len(_FUNCTIONS) else ""
    found = [b.ints(v, what) for v, what in ((sizes, "window"), (strides, "strides"), (apart, "dilations"))]
    return _windows(b, x, start, name, *found)


@reads("STABLEHLO_REDUCE_WINDOW", "StablehloReduceWindowOptions")
def stablehlo_reduce_window(b: Builder, x: Value, start: Value) -> Value:
    rank, fill = x.rank, _fill(b, start)
    sizes = _numbers(b, "WindowDimensions", rank, 1)
    strides, base, apart = (
        _numbers(b, name, rank, 1) for name in ("WindowStrides", "BaseDilations", "WindowDilations")
    )
    pads = _numbers(b, "Padding", 2 * rank)
    x = _dilated(b, x, [n - 1 for n in base], fill)
    x = b.pad(x, list(zip(pads[::2], pads[1::2], strict=True)), "constant", fill)
    return _windows(b, x, start, _body(b), sizes, strides, apart)
