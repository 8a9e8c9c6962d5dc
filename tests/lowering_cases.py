"""Random cases for every operator: hypothesis strategies that draw an operator, its inputs and its constants."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st

from instep.graph import Graph, Operator, Value, ops

Case = tuple[Graph, list[np.ndarray]]
CASES: dict[str, Callable[[Any], Case]] = {}


def case(*kinds: type[Operator]) -> Callable[[Callable[..., Case]], Callable[..., Case]]:
    """Register a function (draw, operator class) → case for these operators."""

    def register(function: Callable[..., Case]) -> Callable[..., Case]:
        for kind in kinds:
            CASES[kind.__name__] = lambda draw, kind=kind: function(draw, kind)
        return function

    return register


def numbers(draw: Any, shape: tuple[int, ...], low: float = -3.0, high: float = 3.0) -> np.ndarray:
    rng = np.random.default_rng(draw(st.integers(0, 2**31)))
    return rng.uniform(low, high, shape).astype(np.float32)


def shape_of(draw: Any, rank: tuple[int, int] = (1, 4), top: int = 6) -> tuple[int, ...]:
    return tuple(draw(st.lists(st.integers(1, top), min_size=rank[0], max_size=rank[1])))


def image(draw: Any, low: int = 3, channels: int = 5) -> tuple[int, int, int, int]:
    sizes = st.integers(low, 9)
    return draw(st.integers(1, 2)), draw(sizes), draw(sizes), draw(st.integers(1, channels))


def make(op: Operator, *arrays: np.ndarray, constants: tuple[int, ...] = ()) -> Case:
    """A graph of one node; arrays named in ``constants`` (by position) are weights, the others inputs."""
    graph, values, inputs = Graph(), [], []
    for i, array in enumerate(arrays):
        if i in constants:
            values.append(graph.constant(array, f"constant{i}"))
            continue
        value = Value(f"input{i}", array.shape, str(array.dtype))
        graph.inputs.append(value)
        graph.input_names.append(value.name)
        values.append(value)
        inputs.append(array)
    count = len(op.infer(*(v.spec for v in values)))
    node = graph.add(op, values, scope="net.layer", names=["result", "second"][:count])
    graph.outputs = list(node.outputs)
    graph.output_names = [v.name for v in node.outputs]
    return graph, inputs


def pair(draw: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Two shapes that broadcast."""
    shape = shape_of(draw)
    other = tuple(n if draw(st.booleans()) else 1 for n in shape)
    if draw(st.booleans()):
        other = other[draw(st.integers(0, len(other) - 1)) :]
    return (shape, other) if draw(st.booleans()) else (other, shape)


pads2 = st.tuples(st.tuples(st.integers(0, 2), st.integers(0, 2)), st.tuples(st.integers(0, 2), st.integers(0, 2)))
steps2 = st.tuples(st.integers(1, 3), st.integers(1, 3))
activations = st.sampled_from(["", "", "relu", "relu6", "relu1"])


@case(
    ops.Relu, ops.Sigmoid, ops.Tanh, ops.Exp, ops.Abs, ops.Neg, ops.Sin, ops.Cos, ops.Floor, ops.Ceil, ops.Round,
    ops.Sign, ops.Square, ops.Erf, ops.Silu, ops.HardSwish, ops.HardSigmoid, ops.Mish, ops.Selu,
)  # fmt: skip
def unary(draw: Any, kind: Any) -> Case:
    reach = draw(st.sampled_from([1.0, 4.0, 12.0]))
    return make(kind(), numbers(draw, shape_of(draw), -reach, reach))


@case(ops.Log, ops.Sqrt, ops.Rsqrt, ops.Reciprocal)
def unary_positive(draw: Any, kind: Any) -> Case:
    return make(kind(), numbers(draw, shape_of(draw), 0.05, 9.0))


@case(ops.LogicalNot)
def logical_not(draw: Any, kind: Any) -> Case:
    return make(kind(), numbers(draw, shape_of(draw)) > 0)


@case(ops.Gelu)
def gelu(draw: Any, kind: Any) -> Case:
    return make(kind(draw(st.booleans())), numbers(draw, shape_of(draw), -6, 6))


@case(ops.LeakyRelu)
def leaky(draw: Any, kind: Any) -> Case:
    return make(kind(draw(st.sampled_from([0.01, 0.2, 1.5, -0.5]))), numbers(draw, shape_of(draw)))


@case(ops.Elu, ops.Celu)
def elu(draw: Any, kind: Any) -> Case:
    return make(kind(draw(st.sampled_from([1.0, 0.5, 2.5]))), numbers(draw, shape_of(draw)))


@case(ops.Dropout)
def dropout(draw: Any, kind: Any) -> Case:
    shape = shape_of(draw)
    shared = tuple(draw(st.sets(st.integers(0, len(shape) - 1)))) if shape else ()
    return make(kind(draw(st.sampled_from([0.2, 0.5])), shared), numbers(draw, shape))


@case(ops.Softplus)
def softplus(draw: Any, kind: Any) -> Case:
    op = kind(draw(st.sampled_from([1.0, 0.5, 3.0])), draw(st.sampled_from([20.0, 2.0, math.inf])))
    return make(op, numbers(draw, shape_of(draw), -30, 30))


@case(ops.Clip)
def clip(draw: Any, kind: Any) -> Case:
    bounds = [(0, 6), (-1, 1), (0, 1), (-0.5, 2), (-np.inf, 1), (0, np.inf), (-np.inf, np.inf)]
    low, high = draw(st.sampled_from(bounds))
    return make(kind(float(low), float(high)), numbers(draw, shape_of(draw), -9, 9))


@case(ops.Cast)
def cast(draw: Any, kind: Any) -> Case:
    source, target = draw(st.permutations(["float32", "int32", "int64", "bool"]))[:2]
    return make(kind(target), numbers(draw, shape_of(draw), -5, 5).astype(source))


@case(ops.Prelu)
def prelu(draw: Any, kind: Any) -> Case:
    shape = shape_of(draw)
    slope = numbers(draw, (*[1] * (len(shape) - 1), shape[-1]) if draw(st.booleans()) else (1,))
    return make(kind(), numbers(draw, shape), slope, constants=(1,))


@case(ops.Add, ops.Sub, ops.Mul, ops.Div)
def arithmetic(draw: Any, kind: Any) -> Case:
    a, c = pair(draw)
    right = numbers(draw, c, 0.3, 3) * draw(st.sampled_from([-1, 1]))
    return make(kind(draw(activations)), numbers(draw, a), right, constants=draw(st.sampled_from([(), (1,)])))


@case(ops.Maximum, ops.Minimum, ops.SquaredDifference, ops.Atan2)
def binary(draw: Any, kind: Any) -> Case:
    a, c = pair(draw)
    return make(kind(), numbers(draw, a), numbers(draw, c))


@case(ops.FloorDiv, ops.FloorMod)
def floors(draw: Any, kind: Any) -> Case:
    a, c = pair(draw)
    dtype = draw(st.sampled_from(["float32", "int32", "int64"]))
    sign = draw(st.sampled_from([-1, 1]))
    return make(kind(), numbers(draw, a, -20, 20).astype(dtype), (numbers(draw, c, 1, 6) * sign).astype(dtype))


@case(ops.Pow)
def power(draw: Any, kind: Any) -> Case:
    shape = shape_of(draw)
    exponent = draw(st.sampled_from([2.0, 0.5, -0.5, -1.0, 1.0, 3.0, 4.0, 1.7]))
    return make(kind(), numbers(draw, shape, 0.1, 3), np.full((1,) * len(shape), exponent, np.float32), constants=(1,))


@case(ops.Equal, ops.NotEqual, ops.Less, ops.LessEqual, ops.Greater, ops.GreaterEqual)
def comparison(draw: Any, kind: Any) -> Case:
    a, c = pair(draw)
    dtype = draw(st.sampled_from(["float32", "int32", "int64"]))
    return make(kind(), np.round(numbers(draw, a)).astype(dtype), np.round(numbers(draw, c)).astype(dtype))


@case(ops.LogicalAnd, ops.LogicalOr)
def logical(draw: Any, kind: Any) -> Case:
    a, c = pair(draw)
    return make(kind(), numbers(draw, a) > 0, numbers(draw, c) > 0)


@case(ops.Where)
def where(draw: Any, kind: Any) -> Case:
    a, c = pair(draw)
    return make(kind(), numbers(draw, a) > 0, numbers(draw, c), numbers(draw, a))


@case(ops.Linear)
def linear(draw: Any, kind: Any) -> Case:
    x = numbers(draw, shape_of(draw, (1, 5)))
    out = draw(st.integers(1, 6))
    bias = [numbers(draw, (out,))] * draw(st.booleans())
    return make(kind(draw(activations)), x, numbers(draw, (out, x.shape[-1])), *bias, constants=(1, 2))


@case(ops.MatMul)
def matmul(draw: Any, kind: Any) -> Case:
    batch_a, batch_b = draw(st.sampled_from([((), ()), ((2,), (2,)), ((2, 3), (2, 3)), ((2, 1), (1, 3)), ((4,), (1,))]))
    m, k, n = (draw(st.integers(1, 5)) for _ in range(3))
    ta, tb = draw(st.booleans()), draw(st.booleans())
    a, c = ((k, m) if ta else (m, k)), ((n, k) if tb else (k, n))
    return make(
        kind(ta, tb), numbers(draw, (*batch_a, *a)), numbers(draw, (*batch_b, *c)),
        constants=draw(st.sampled_from([(), (1,), (0,)])),
    )  # fmt: skip


@case(ops.BatchNorm)
def batch_norm(draw: Any, kind: Any) -> Case:
    shape = shape_of(draw, (2, 4))
    axis = draw(st.integers(1, len(shape) - 1))
    c = (shape[axis],)
    vectors = numbers(draw, c), numbers(draw, c), numbers(draw, c), numbers(draw, c, 0.2, 3)
    return make(kind(1e-3, axis), numbers(draw, shape), *vectors, constants=(1, 2, 3, 4))


@case(ops.GroupNorm)
def group_norm(draw: Any, kind: Any) -> Case:
    groups, per = draw(st.sampled_from([(1, 4), (2, 3), (3, 1), (4, 2)]))
    shape = list(shape_of(draw, (3, 4), 5))
    axis = draw(st.integers(1, len(shape) - 1))
    shape[axis] = groups * per
    c = (groups * per,)
    x = numbers(draw, tuple(shape), -3, 5)
    op = kind(groups, 1e-5 if x.size > 60 else 0.1, axis)
    return make(op, x, numbers(draw, c), numbers(draw, c), constants=(1, 2))


@case(ops.LayerNorm)
def layer_norm(draw: Any, kind: Any) -> Case:
    shape = (*shape_of(draw, (1, 3)), draw(st.integers(3, 9)))
    axes = tuple(range(draw(st.integers(1, len(shape) - 1)), len(shape)))
    size = tuple(shape[a] for a in axes)
    return make(kind(axes, 1e-2), numbers(draw, shape), numbers(draw, size), numbers(draw, size), constants=(1, 2))


@case(ops.RmsNorm)
def rms_norm(draw: Any, kind: Any) -> Case:
    shape = (*shape_of(draw, (1, 3)), draw(st.integers(3, 9)))
    return make(kind((len(shape) - 1,)), numbers(draw, shape), numbers(draw, shape[-1:]), constants=(1,))


@case(ops.ReduceMean, ops.ReduceSum, ops.ReduceMax, ops.ReduceMin, ops.ReduceProd, ops.ReduceAny, ops.ReduceAll)
def reduction(draw: Any, kind: Any) -> Case:
    shape = shape_of(draw)
    axes = sorted(draw(st.sets(st.integers(0, len(shape) - 1), min_size=1)))
    x = numbers(draw, shape, -1.5, 1.5)
    logical = kind in (ops.ReduceAny, ops.ReduceAll)
    return make(kind(tuple(axes), draw(st.booleans())), x > draw(st.sampled_from([-1, 0, 1])) if logical else x)


@case(ops.Softmax, ops.LogSoftmax, ops.CumSum)
def along_axis(draw: Any, kind: Any) -> Case:
    shape = shape_of(draw)
    return make(kind(draw(st.integers(0, len(shape) - 1))), numbers(draw, shape))


@case(ops.ArgMax, ops.ArgMin)
def arg(draw: Any, kind: Any) -> Case:
    shape = shape_of(draw)
    return make(kind(draw(st.integers(0, len(shape) - 1)), draw(st.booleans())), numbers(draw, shape))


@case(ops.TopK)
def top_k(draw: Any, kind: Any) -> Case:
    shape = shape_of(draw)
    return make(kind(draw(st.integers(1, shape[-1]))), numbers(draw, shape))


@case(ops.Reshape)
def reshape(draw: Any, kind: Any) -> Case:
    shape = shape_of(draw)
    return make(kind(tuple(draw(st.permutations(shape)))), numbers(draw, shape))


@case(ops.Permute)
def permute(draw: Any, kind: Any) -> Case:
    shape = shape_of(draw, (2, 4))
    return make(kind(tuple(draw(st.permutations(range(len(shape)))))), numbers(draw, shape))


@case(ops.Slice)
def cut(draw: Any, kind: Any) -> Case:
    shape = shape_of(draw, (1, 4), 9)
    starts = tuple(draw(st.integers(0, n - 1)) for n in shape)
    stops = tuple(draw(st.integers(a + 1, n)) for a, n in zip(starts, shape, strict=True))
    steps = tuple(draw(st.sampled_from([1, 1, 2, 3])) for _ in shape)
    return make(kind(starts, stops, steps), numbers(draw, shape))


@case(ops.Concat)
def concat(draw: Any, kind: Any) -> Case:
    shape = shape_of(draw)
    axis = draw(st.integers(0, len(shape) - 1))
    parts = [
        numbers(draw, tuple(draw(st.integers(1, 4)) if a == axis else n for a, n in enumerate(shape)))
        for _ in range(draw(st.integers(1, 12)))
    ]
    return make(kind(axis), *parts, constants=draw(st.sampled_from([(), (0,)])) if len(parts) > 1 else ())


@case(ops.Pad)
def pad(draw: Any, kind: Any) -> Case:
    shape = shape_of(draw, (2, 4))
    mode = draw(st.sampled_from(["constant", "reflect", "replicate", "circular"]))
    most = {"constant": 3, "reflect": -1, "replicate": 3, "circular": 0}[mode]
    pads = []
    for i, n in enumerate(shape):
        reach = st.integers(0, (3 if most == 3 else max(0, min(3, n + most))) if i else 0)
        pads.append((draw(reach), draw(reach)))
    value = draw(st.sampled_from([0.0, 1.5, -np.inf])) if mode == "constant" else 0.0
    return make(kind(tuple(pads), mode, value), numbers(draw, shape))


@case(ops.Expand)
def expand(draw: Any, kind: Any) -> Case:
    shape = shape_of(draw)
    small = tuple(n if draw(st.booleans()) else 1 for n in shape)[draw(st.integers(0, len(shape) - 1)) :]
    x = numbers(draw, small)
    return make(kind(shape), draw(st.sampled_from([x, x > 0, x.astype(np.int64)])))


@case(ops.Flip)
def flip(draw: Any, kind: Any) -> Case:
    shape = shape_of(draw)
    return make(kind(tuple(sorted(draw(st.sets(st.integers(0, len(shape) - 1), min_size=1))))), numbers(draw, shape))


@case(ops.Roll)
def roll(draw: Any, kind: Any) -> Case:
    shape = shape_of(draw)
    axes = tuple(draw(st.sets(st.integers(0, len(shape) - 1), min_size=1)))
    return make(kind(tuple(draw(st.integers(-7, 7)) for _ in axes), axes), numbers(draw, shape))


@case(ops.Gather)
def gather(draw: Any, kind: Any) -> Case:
    shape = shape_of(draw, (1, 3))
    axis = draw(st.integers(0, len(shape) - 1))
    dtype = draw(st.sampled_from(["int32", "int64"]))
    index = numbers(draw, shape_of(draw, (0, 2), 4), 0, shape[axis] - 0.01).astype(dtype)
    spelled = draw(st.sampled_from(["anything", "steps", "groups"]))
    if spelled == "steps":
        index = np.arange(draw(st.integers(0, shape[axis] - 1)), shape[axis], draw(st.integers(1, 2)))
    if spelled == "groups":
        groups, members = draw(st.integers(2, 7)), draw(st.integers(2, 7))
        shape = (*shape[:axis], groups * members, *shape[axis + 1 :])
        index = np.arange(groups * members).reshape(groups, members).T.reshape(-1)
    return make(kind(axis), numbers(draw, shape), index, constants=draw(st.sampled_from([(), (1,)])))


@case(ops.TakeAlong)
def take_along(draw: Any, kind: Any) -> Case:
    shape = shape_of(draw, (1, 4))
    axis = draw(st.integers(0, len(shape) - 1))
    size = tuple(draw(st.integers(1, 5)) if a == axis else n for a, n in enumerate(shape))
    index = numbers(draw, size, 0, shape[axis] - 0.01).astype(np.int64)
    if draw(st.booleans()):
        line = index[tuple(slice(None) if a == axis else slice(0, 1) for a in range(len(shape)))]
        index = np.ascontiguousarray(np.broadcast_to(line, size))
    return make(kind(axis), numbers(draw, shape), index, constants=draw(st.sampled_from([(), (1,)])))


def kernel_of(draw: Any, size: tuple[int, int], pads: Any, dilation: tuple[int, int]) -> tuple[int, int]:
    most = [max(1, (n + sum(p) - 1) // d + 1) for n, p, d in zip(size, pads, dilation, strict=True)]
    return draw(st.integers(1, min(4, most[0]))), draw(st.integers(1, min(4, most[1])))


@case(ops.Conv2d)
def conv2d(draw: Any, kind: Any) -> Case:
    n, h, w, _ = image(draw)
    pads, stride, dilation = draw(pads2), draw(steps2), draw(st.sampled_from([(1, 1), (1, 1), (2, 2), (1, 2)]))
    groups, cin, cout = draw(st.sampled_from([(1, 3, 5), (1, 1, 4), (1, 2, 1), (2, 4, 6), (3, 3, 3), (4, 4, 8)]))
    kh, kw = kernel_of(draw, (h, w), pads, dilation)
    if groups > 2 and draw(st.booleans()):
        kh, kw, dilation = (*draw(st.sampled_from([(7, 7), (9, 9), (5, 7), (13, 13)])), (1, 1))
        h, w = h + kh - 3, w + kw - 3
        pads = draw(st.sampled_from([((kh // 2,) * 2, (kw // 2,) * 2), ((0, 0), (0, 0)), ((kh - 1, 0), (0, 2))]))
    bias = [numbers(draw, (cout,))] * draw(st.booleans())
    op = kind(stride, pads, dilation, groups, "NHWC", draw(activations))
    weight = numbers(draw, (cout, kh, kw, cin // groups))
    return make(op, numbers(draw, (n, h, w, cin)), weight, *bias, constants=draw(st.sampled_from([(1, 2), (2,)])))


@case(ops.ConvTranspose2d)
def conv_transpose2d(draw: Any, kind: Any) -> Case:
    n, h, w, _ = image(draw, 2)
    stride, dilation = draw(steps2), draw(st.sampled_from([(1, 1), (1, 1), (1, 1), (2, 2)]))
    groups, cin, cout = draw(st.sampled_from([(1, 3, 5), (1, 1, 2), (1, 4, 1), (2, 4, 6), (3, 3, 3)]))
    kh, kw = draw(st.integers(1, 5)), draw(st.integers(1, 5))
    pads, extra = [], []
    for size, k, s, d in zip((h, w), (kh, kw), stride, dilation, strict=True):
        more = draw(st.integers(0, max(s, d) - 1))
        span = (size - 1) * s + d * (k - 1) + 1
        before = draw(st.integers(0, min(d * (k - 1), (span - 1) // 2)))
        after = before if draw(st.booleans()) else draw(st.integers(0, min(d * (k - 1), (span - 1) // 2)))
        pads.append((before, after))
        extra.append(more)
    bias = [numbers(draw, (cout,))] * draw(st.booleans())
    op = kind(stride, tuple(pads), tuple(extra), dilation, groups, "NHWC", draw(activations))
    weight = numbers(draw, (cin, kh, kw, cout // groups))
    return make(op, numbers(draw, (n, h, w, cin)), weight, *bias, constants=draw(st.sampled_from([(1, 2), (2,)])))


@case(ops.Conv3d)
def conv3d(draw: Any, kind: Any) -> Case:
    groups, cin, cout = draw(st.sampled_from([(1, 2, 3), (2, 4, 2)]))
    pads = tuple((draw(st.integers(0, 1)), draw(st.integers(0, 1))) for _ in range(3))
    kernel = draw(st.sampled_from([(2, 3, 2), (1, 2, 3), (2, 1, 1)]))
    pads = tuple((0, 0) if k == 1 and kernel != (1, 2, 3) else p for k, p in zip(kernel, pads, strict=True))
    stride = draw(st.sampled_from([(1, 1, 1), (2, 1, 2), (2, 1, 1)]))
    op = kind(stride, pads, draw(st.sampled_from([(1, 1, 1), (2, 1, 1)])), groups, "NHWC", draw(activations))
    x = numbers(draw, (draw(st.integers(1, 2)), draw(st.integers(3, 5)), 4, 5, cin))
    return make(op, x, numbers(draw, (cout, *kernel, cin // groups)), numbers(draw, (cout,)), constants=(1, 2))


@case(ops.MaxPool2d)
def max_pool(draw: Any, kind: Any) -> Case:
    shape = image(draw)
    dilation = draw(st.sampled_from([(1, 1), (1, 1), (2, 2)]))
    kernel = kernel_of(draw, shape[1:3], ((0, 0), (0, 0)), dilation)
    pads = tuple((draw(st.integers(0, k // 2)), draw(st.integers(0, k // 2))) for k in kernel)
    return make(kind(kernel, draw(steps2), pads, dilation, "NHWC", draw(activations)), numbers(draw, shape))


@case(ops.AvgPool2d)
def avg_pool(draw: Any, kind: Any) -> Case:
    shape = image(draw)
    kernel = kernel_of(draw, shape[1:3], ((0, 0), (0, 0)), (1, 1))
    pads = tuple((p := draw(st.integers(0, k // 2)), p if draw(st.booleans()) else k // 2) for k in kernel)
    stride = draw(steps2)
    reach = [max(0, min(s, k - p[1]) - 1) for s, k, p in zip(stride, kernel, pads, strict=True)]
    over = (draw(st.integers(0, reach[0])), draw(st.integers(0, reach[1])))
    op = kind(kernel, stride, pads, draw(st.booleans()), over, "NHWC", draw(activations))
    return make(op, numbers(draw, shape))


@case(ops.AdaptiveAvgPool2d, ops.AdaptiveMaxPool2d)
def adaptive(draw: Any, kind: Any) -> Case:
    return make(kind((draw(st.integers(1, 12)), draw(st.integers(1, 7))), "NHWC"), numbers(draw, image(draw)))


@case(ops.Resize2d)
def resize(draw: Any, kind: Any) -> Case:
    shape = image(draw)
    mode = draw(st.sampled_from(["bilinear", "nearest", "bicubic"]))
    coordinates = draw(st.sampled_from(["half_pixel", "asymmetric", "align_corners"]))
    if mode == "nearest":
        coordinates = draw(st.sampled_from(["asymmetric", "half_pixel"]))
    factor = draw(st.sampled_from([2.0, 3.0, 0.5, 1.5, 1.3, 2.0 / 3]))
    if draw(st.booleans()):
        size = tuple(draw(st.integers(1, 20)) for _ in range(2))
        scale = None
    else:
        size = tuple(max(1, int(n * factor)) for n in shape[1:3])
        scale = (factor, factor) if draw(st.booleans()) and coordinates != "align_corners" else None
    antialias = mode != "nearest" and coordinates == "half_pixel" and draw(st.booleans())
    return make(kind(size, mode, coordinates, scale, antialias, "NHWC"), numbers(draw, shape))


@case(ops.DepthToSpace)
def depth_to_space(draw: Any, kind: Any) -> Case:
    n, h, w, c = image(draw, 1)
    block = draw(st.integers(2, 3))
    op = kind(block, draw(st.sampled_from(["CRD", "DCR"])), "NHWC")
    return make(op, numbers(draw, (n, h, w, c * block * block)))


@case(ops.SpaceToDepth)
def space_to_depth(draw: Any, kind: Any) -> Case:
    n, h, w, c = image(draw, 1)
    block = draw(st.integers(2, 3))
    op = kind(block, draw(st.sampled_from(["CRD", "DCR"])), "NHWC")
    return make(op, numbers(draw, (n, h * block, w * block, c)))


@case(ops.Unfold2d)
def unfold(draw: Any, kind: Any) -> Case:
    shape = image(draw)
    pads, dilation = draw(pads2), draw(st.sampled_from([(1, 1), (2, 1)]))
    kernel = kernel_of(draw, shape[1:3], pads, dilation)
    if draw(st.booleans()):  # windows of many places are cut out
        shape = (draw(st.integers(1, 2)), draw(st.integers(11, 16)), draw(st.integers(6, 12)), draw(st.integers(1, 3)))
        kernel = (draw(st.integers(5, 6)), draw(st.integers(6, 6)))
    op = kind(kernel, draw(steps2), pads, dilation, "NHWC")
    return make(op, numbers(draw, shape))


@case(ops.Fold2d)
def fold(draw: Any, kind: Any) -> Case:
    n, h, w, c = image(draw)
    pads, dilation = draw(pads2), draw(st.sampled_from([(1, 1), (2, 1)]))
    kernel = kernel_of(draw, (h, w), pads, dilation)
    op = kind((h, w), kernel, draw(steps2), pads, dilation, "NHWC")
    oh, ow = op.windows()
    return make(op, numbers(draw, (n, oh * ow, c * kernel[0] * kernel[1])))


@case(ops.GridSample)
def grid_sample(draw: Any, kind: Any) -> Case:
    n, h, w, c = image(draw)
    grid = numbers(draw, (n, draw(st.integers(1, 5)), draw(st.integers(1, 5)), 2), -1.3, 1.3)
    mode, pad_mode = draw(st.sampled_from(["bilinear", "nearest"])), draw(st.sampled_from(["zeros", "border"]))
    return make(kind(mode, pad_mode, draw(st.booleans()), "NHWC"), numbers(draw, (n, h, w, c)), grid)
