"""Each rewrite clears what its rule objects to and changes no value; what cannot be cleared is said."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from instep.emit.tflite import write
from instep.graph import Graph, Value, ops
from instep.graph.validate import validate
from instep.runtime import run
from instep.targets import check_facts, facts_of_graph, load
from instep.targets.legalize import legalize
from instep.targets.numbers import Numbers, check_numbers, measure, measure_some, note

RNG = np.random.default_rng(7)


def weights(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


class Sketch:
    """A small lowered graph in the making."""

    def __init__(self, *shapes: Sequence[int], dtype: str = "float32") -> None:
        self.graph = Graph()
        for i, shape in enumerate(shapes):
            self.graph.inputs.append(Value(f"x{i}", shape, dtype))
            self.graph.input_names.append(f"x{i}")

    def constant(self, array: np.ndarray) -> Value:
        return self.graph.constant(array, f"c{len(self.graph.weights)}")

    def __call__(self, op: object, *inputs: Value | np.ndarray) -> Value:
        values = [self.constant(v) if isinstance(v, np.ndarray) else v for v in inputs]
        name = f"n{len(self.graph.nodes)}"
        return self.graph.add(op, values, scope=name, names=[name]).output  # type: ignore[arg-type]

    def end(self, *outputs: Value) -> Graph:
        self.graph.outputs = list(outputs)
        self.graph.output_names = [f"y{i}" for i in range(len(outputs))]
        validate(self.graph)
        return self.graph


def grouped(groups: int, channels: int, out: int, activation: str = "") -> Callable[[], Graph]:
    def build() -> Graph:
        s = Sketch((1, 9, 8, channels))
        op = ops.Conv2d((2, 1), ((1, 1), (0, 1)), groups=groups, layout="NHWC", activation=activation)
        return s.end(s(op, s.graph.inputs[0], weights(out, 3, 2, channels // groups), weights(out)))

    return build


def grouped_computed() -> Graph:
    """A convolution of three groups whose kernel depends on the picture."""
    s = Sketch((1, 5, 8, 6))
    x = s.graph.inputs[0]
    kernel = s(ops.Reshape((6, 3, 5, 2)), s(ops.Slice((0, 0, 0, 0), (1, 5, 6, 6), (1, 1, 1, 1)), x))
    return s.end(s(ops.Conv2d((1, 1), ((1, 1), (2, 2)), groups=3, layout="NHWC"), x, kernel, weights(6)))


def conv(kernel: int, stride: int, pads: tuple[int, int], dilation: int = 1, size: int = 33) -> Callable[[], Graph]:
    def build() -> Graph:
        s = Sketch((1, size, size + 2, 3))
        op = ops.Conv2d((stride, stride), (pads, pads), (dilation, dilation), layout="NHWC", activation="relu")
        return s.end(s(op, s.graph.inputs[0], weights(5, kernel, kernel, 3), weights(5)))

    return build


def unary(op: object, *shape: int) -> Callable[[], Graph]:
    def build() -> Graph:
        s = Sketch(shape or (1, 6, 5, 8))
        return s.end(s(op, s.graph.inputs[0]))

    return build


def same(op: object) -> Callable[[], Graph]:
    def build() -> Graph:
        s = Sketch((1, 4, 4, 8))
        y = s(ops.Exp(), s.graph.inputs[0])
        return s.end(s(op, y, y))

    return build


def two(op: object, first: Sequence[int], second: Sequence[int]) -> Callable[[], Graph]:
    def build() -> Graph:
        s = Sketch(first, second)
        return s.end(s(op, *s.graph.inputs))

    return build


def with_constant(op: object, shape: Sequence[int], *constants: Sequence[int]) -> Callable[[], Graph]:
    def build() -> Graph:
        s = Sketch(shape)
        return s.end(s(op, s.graph.inputs[0], *(weights(*c) for c in constants)))

    return build


def beside_constants(shape: Sequence[int], axis: int, size: int) -> Callable[[], Graph]:
    """A value and its double, between two constants of ``size`` along ``axis``."""

    def build() -> Graph:
        s = Sketch(shape)
        x, side = s.graph.inputs[0], (*shape[:axis], size, *shape[axis + 1 :])
        return s.end(s(ops.Concat(axis), weights(*side), x, s(ops.Add(), x, x), weights(*side)))

    return build


def padded(op: object) -> Callable[[], Graph]:
    def build() -> Graph:
        s = Sketch((1, 9, 8, 4))
        return s.end(s(op, s(ops.Pad(((0, 0), (1, 1), (1, 1), (0, 0))), s.graph.inputs[0])))

    return build


def tokens() -> Graph:
    """Attention over 12 tokens of 8 numbers, as rank 2 and 3."""
    s = Sketch((1, 3, 4, 8))
    x = s(ops.Reshape((12, 8)), s.graph.inputs[0])
    q, k = (s(ops.Linear(), x, weights(8, 8)) for _ in range(2))
    scores = s(ops.Softmax(1), s(ops.MatMul(False, True), q, k))
    mixed = s(ops.Add(), s(ops.MatMul(), scores, x), x)
    return s.end(s(ops.Reshape((1, 3, 4, 8)), mixed))


def select() -> Graph:
    s = Sketch((1, 4, 4, 8))
    x = s.graph.inputs[0]
    return s.end(s(ops.Where(), s(ops.Greater(), x, np.asarray([0.1], np.float32)), x, weights(1, 1, 1, 8)))


def integers(op: object, shape: Sequence[int], first: bool = False) -> Callable[[], Graph]:
    """What a constant of integers makes of an image's."""

    def build() -> Graph:
        s = Sketch((1, 4, 5, 8))
        x, fixed = s(ops.Cast("int32"), s.graph.inputs[0]), RNG.integers(-2, 3, shape).astype(np.int32)
        return s.end(s(ops.Cast("float32"), s(op, fixed, x) if first else s(op, x, fixed)))

    return build


def beside_mean(op: object) -> Callable[[], Graph]:
    """An image beside its mean, a scalar."""

    def build() -> Graph:
        s = Sketch((1, 4, 5, 8))
        x = s.graph.inputs[0]
        return s.end(s(ops.Cast("float32"), s(op, x, s(ops.ReduceMean((0, 1, 2, 3), False), x))))

    return build


def masked(fill: float, *shape: int) -> Callable[[], Graph]:
    def build() -> Graph:
        s = Sketch((1, 4, 8, 8))
        mask = np.triu(np.ones((8, 8), bool), 1).reshape(shape or (8, 8))
        return s.end(s(ops.Where(), mask, np.asarray(fill, np.float32), s.graph.inputs[0]))

    return build


def gather(axis: int, index: list[int]) -> Callable[[], Graph]:
    def build() -> Graph:
        s = Sketch((1, 4, 5, 8))
        return s.end(s(ops.Gather(axis), s.graph.inputs[0], np.asarray(index, np.int32)))

    return build


DEPTHWISE = ops.Conv2d(groups=4, layout="NHWC")
UPSAMPLING = ops.ConvTranspose2d((2, 2), ((0, 1), (1, 1)), layout="NHWC")
DECONVOLUTION = ops.ConvTranspose2d((2, 2), layout="NHWC", activation="relu6")
FOURFOLD = ops.Resize2d((16, 24), "nearest", "asymmetric", layout="NHWC")
CASES = [
    ("litert-gpu", "GPU-CONV-GROUPS", grouped(4, 12, 8)),
    ("litert-gpu", "GPU-CONV-GROUPS", grouped(2, 6, 10, "relu")),
    ("litert-gpu", "GPU-CONV-WEIGHTS", grouped_computed),
    ("portable-4d", "PORTABLE-CONV", grouped(3, 6, 9, "relu6")),
    ("portable-4d", "PORTABLE-STRIDE", conv(7, 4, (2, 3))),
    ("portable-4d", "PORTABLE-STRIDE", conv(4, 4, (0, 0), size=32)),
    ("portable-4d", "PORTABLE-STRIDE", conv(5, 8, (1, 0), size=40)),
    ("portable-4d", "PORTABLE-MULTIPLIER", with_constant(DEPTHWISE, (1, 5, 5, 4), (8, 3, 3, 1), (8,))),
    ("portable-4d", "PORTABLE-OPERATOR", unary(ops.DepthToSpace(3, "DCR", "NHWC"), 1, 4, 5, 18)),
    ("portable-4d", "PORTABLE-OPERATOR", unary(ops.SpaceToDepth(2, "DCR", "NHWC"), 1, 4, 6, 3)),
    ("ethos-u-vela3", "ETHOS-OPERATOR", unary(ops.DepthToSpace(2, "DCR", "NHWC"), 1, 4, 5, 16)),
    ("portable-4d", "PORTABLE-OPERATOR", unary(ops.LeakyRelu(0.2))),
    ("tflite-gpu", "GPU-MEAN-EXTENT", unary(ops.ReduceMean((1, 2), True), 1, 256, 256, 4)),
    ("tflite-gpu", "GPU-MEAN-EXTENT", unary(ops.ReduceMean((1, 2), False), 1, 256, 260, 2)),
    ("portable-4d", "PORTABLE-OPERATOR", unary(ops.HardSwish())),
    ("portable-4d", "PORTABLE-OPERATOR", unary(ops.Square())),
    ("portable-4d", "PORTABLE-OPERATOR", unary(ops.Neg())),
    ("portable-4d", "PORTABLE-OPERATOR", unary(ops.Abs())),
    ("portable-4d", "PORTABLE-OPERATOR", unary(ops.Clip(-1.0, 1.0))),
    ("portable-4d", "PORTABLE-OPERATOR", unary(ops.Clip(-0.5, 2.0))),
    ("portable-4d", "PORTABLE-OPERATOR", unary(ops.ReduceSum((1, 2), True))),
    ("portable-4d", "PORTABLE-OPERATOR", unary(ops.Gelu())),
    ("hexagon", "HEXAGON-OPERATOR", unary(ops.Gelu())),
    ("portable-4d", "PORTABLE-MEAN", unary(ops.ReduceMean((2,), True), 1, 12, 8)),
    ("portable-4d", "PORTABLE-MEAN", unary(ops.ReduceMean((1, 2), False), 1, 12, 8)),
    ("portable-4d", "PORTABLE-MEAN", unary(ops.ReduceMean((1, 3), True))),
    ("coral-edgetpu", "CORAL-MEAN", unary(ops.ReduceMean((3,), True), 1, 6, 5, 6)),
    ("portable-4d", "PORTABLE-CONCATENATION", beside_constants((1, 12, 8), 1, 2)),
    ("portable-4d", "PORTABLE-OPERATOR", unary(ops.Permute((0, 2, 1, 3)), 1, 12, 3, 8)),
    ("portable-4d", "PORTABLE-OPERATOR", unary(ops.Permute((0, 2, 1, 3)), 1, 3, 12, 8)),
    ("portable-4d", "PORTABLE-OPERATOR", unary(ops.Permute((0, 3, 1, 2)))),
    ("portable-4d", "PORTABLE-OPERATOR", unary(ops.Permute((3, 2, 1, 0)), 1, 4, 3, 5)),
    ("portable-4d", "PORTABLE-OPERATOR", unary(ops.Permute((2, 1, 0)), 3, 4, 5)),
    ("portable-4d", "PORTABLE-CONCATENATION", beside_constants((1, 4, 5, 8), 3, 3)),
    ("portable-4d", "PORTABLE-OPERATOR", two(ops.Maximum(), (1, 4, 4, 8), (1, 4, 4, 8))),
    ("ethos-u55", "ETHOS-TWO-COMPUTED", with_constant(ops.Minimum(), (1, 4, 4, 8), (8,))),
    ("portable-4d", "PORTABLE-OPERATOR", two(ops.SquaredDifference(), (1, 4, 4, 8), (1, 4, 4, 8))),
    ("portable-4d", "PORTABLE-BROADCAST", two(ops.Mul(), (1, 4, 4, 8), (4, 8))),
    ("ethos-u-vela3", "ETHOS-OPERATOR", unary(ops.Elu(), 1, 4, 4, 4)),
    ("hexagon", "HEXAGON-OPERATOR", with_constant(ops.Prelu(), (1, 4, 4, 8), (8,))),
    ("mediatek-mdla-2", "MDLA-GELU", unary(ops.Gelu())),
    ("litert-gpu", "GPU-SAME-INPUT", same(ops.Maximum())),
    ("litert-gpu", "GPU-SAME-INPUT", same(ops.Sub())),
    ("litert-gpu", "GPU-SAME-INPUT", same(ops.Div())),
    ("portable-4d", "PORTABLE-CONCATENATION", lambda: _join(9)),
    ("xnnpack", "XNN-CONCATENATION", lambda: _join(7)),
    ("xnnpack", "XNN-OPERATOR", unary(ops.Pad(((0, 0), (2, 1), (1, 2), (0, 0)), "reflect"))),
    ("portable-4d", "PORTABLE-PAD", unary(ops.Pad(((0, 0), (2, 1), (0, 0), (1, 2))))),
    ("portable-4d", "PORTABLE-PAD", unary(ops.Pad(((0, 0), (0, 0), (0, 0), (0, 5))))),
    ("ethos-u-vela3", "ETHOS-OPERATOR", unary(ops.Pad(((0, 0), (2, 1), (0, 1), (0, 0)), "constant", 3.0))),
    ("portable-4d", "PORTABLE-RESIZE", unary(FOURFOLD, 1, 4, 6, 3)),
    ("ethos-u-vela3", "ETHOS-TRANSPOSE", unary(ops.Permute((0, 3, 1, 2)), 1, 6, 5, 4)),
    ("ethos-u-vela3", "ETHOS-TRANSPOSE", unary(ops.Permute((0, 2, 3, 1)), 1, 6, 5, 4)),
    ("ethos-u-vela3", "ETHOS-LINEAR", with_constant(ops.Linear(), (1, 4, 4, 8), (3, 8), (3,))),
    ("ethos-u-vela3", "ETHOS-BROADCAST", two(ops.Add(), (1, 4, 1, 8), (1, 1, 5, 8))),
    ("litert-gpu", "GPU-CONV-GROUPS", grouped(6, 12, 24)),
    ("litert-gpu", "LITERT-GPU-SHUFFLE-BATCH", unary(ops.DepthToSpace(2, "DCR", "NHWC"), 2, 4, 5, 8)),
    ("litert-gpu", "LITERT-GPU-SHUFFLE-BATCH", unary(ops.SpaceToDepth(2, "DCR", "NHWC"), 3, 4, 6, 2)),
    ("litert-gpu", "LITERT-GPU-SLOPE", unary(ops.LeakyRelu(1.5))),
    ("litert-gpu", "LITERT-GPU-PRELU", with_constant(ops.Prelu(), (1, 4, 5, 8), (1, 5, 8))),
    ("litert-gpu", "LITERT-GPU-PADDED-POOL", padded(ops.AvgPool2d((3, 3), (2, 2), layout="NHWC"))),
    ("litert-gpu", "LITERT-GPU-PADDED-POOL", unary(ops.AvgPool2d((3, 3), (2, 2), ((1, 1), (1, 1)), layout="NHWC"))),
    ("litert-gpu", "LITERT-GPU-PADDED-POOL", padded(ops.MaxPool2d((3, 3), (2, 2), layout="NHWC"))),
    ("litert-gpu", "LITERT-GPU-MATMUL-BATCH", two(ops.MatMul(), (1, 3, 5, 8), (1, 1, 8, 6))),
    ("litert-gpu", "LITERT-GPU-MATMUL-BATCH", two(ops.MatMul(False, True), (3, 5, 8), (6, 8))),
    ("litert-gpu", "LITERT-GPU-MATMUL-BATCH", two(ops.MatMul(), (1, 5, 8), (3, 8, 6))),
    ("litert-gpu", "LITERT-GPU-MATMUL-TEXTURE", two(ops.MatMul(), (4, 42, 2, 196), (4, 42, 196, 8))),
    ("litert-gpu", "LITERT-GPU-MATMUL-TEXTURE", two(ops.MatMul(), (1, 1, 70000), (1, 70000, 1))),
    ("litert-gpu", "LITERT-GPU-MATMUL-TEXTURE", two(ops.MatMul(False, True), (1, 9, 70000), (1, 2, 70000))),
    ("litert-gpu", "LITERT-GPU-MATMUL-TEXTURE", two(ops.MatMul(), (1, 1, 1), (1, 1, 70000))),
    ("litert-gpu", "LITERT-GPU-MATMUL-TEXTURE", two(ops.MatMul(), (1, 2, 5), (1, 5, 70000))),
    ("litert-gpu", "LITERT-GPU-MATMUL-TWICE", same(ops.MatMul(False, True))),
    ("litert-gpu", "LITERT-GPU-CONSTANT-BATCH", with_constant(ops.Add(), (5, 8), (5, 8))),
    ("litert-gpu", "LITERT-GPU-CONSTANT-BATCH", with_constant(ops.Mul("relu"), (3, 4, 8), (3, 1, 8))),
    ("litert-gpu", "LITERT-GPU-CONSTANT-BATCH", with_constant(ops.Sub(), (8,), (8,))),
    ("litert-gpu", "LITERT-GPU-VECTOR", unary(ops.Softmax(0), 8)),
    ("litert-gpu", "LITERT-GPU-CUMSUM", unary(ops.CumSum(0), 5, 8)),
    ("litert-gpu", "LITERT-GPU-PAD-BATCH", unary(ops.Pad(((1, 2), (0, 0), (0, 1))), 3, 4, 8)),
    ("litert-gpu", "LITERT-GPU-PAD-BATCH", unary(ops.Pad(((1, 2), (0, 0), (0, 1), (0, 0))), 3, 4, 5, 8)),
    ("litert-gpu", "GPU-PAD", unary(ops.Pad(((1, 0), (0, 2))), 12, 3)),
    ("litert-gpu", "GPU-MATMUL-CONSTANT", lambda: _constant_first()),
    ("litert-gpu", "LITERT-GPU-DECONVOLUTION-SAME", with_constant(UPSAMPLING, (1, 5, 6, 8), (8, 3, 4, 6), (6,))),
    ("litert-gpu", "LITERT-GPU-DECONVOLUTION-VERSION", with_constant(DECONVOLUTION, (1, 5, 6, 8), (8, 2, 2, 6), (6,))),
    ("litert-gpu", "LITERT-GPU-ARG-MAX", unary(ops.ArgMax(3), 1, 4, 5, 7)),
    ("litert-gpu", "LITERT-GPU-TOPK", lambda: _largest(3)),
    ("litert-gpu", "LITERT-GPU-OPERATOR", unary(ops.ArgMin(3), 1, 4, 5, 6)),
    ("litert-gpu", "LITERT-GPU-BIAS", lambda: _computed_bias()),
    ("litert-gpu", "LITERT-GPU-LINEAR-WEIGHTS", lambda: _computed_weights()),
    ("litert-gpu", "LITERT-GPU-INTEGER-RANK", integers(ops.Add(), (8,))),
    ("litert-gpu", "LITERT-GPU-INTEGER-RANK", integers(ops.Equal(), (4, 1, 1))),
    ("litert-gpu", "LITERT-GPU-INTEGER-FIRST", integers(ops.Sub(), (1, 1, 1, 8), True)),
    ("litert-gpu", "LITERT-GPU-INTEGER-FIRST", integers(ops.LessEqual(), (1, 1, 1, 8), True)),
    ("litert-gpu", "LITERT-GPU-SCALAR", beside_mean(ops.Sub())),
    ("litert-gpu", "LITERT-GPU-SCALAR", beside_mean(ops.Greater())),
    ("litert-gpu", "LITERT-GPU-CONDITION", masked(-2.0)),
    ("xnnpack", "XNN-OPERATOR", masked(-2.0, 1, 1, 8, 8)),
    ("tflite-gpu", "GPU-BATCH", tokens),
    ("tflite-gpu", "GPU-SELECT", select),
    ("tflite-gpu", "GPU-SLICE", unary(ops.Slice((2, 0), (9, 3), (1, 1)), 12, 3)),
    ("tflite-gpu", "GPU-PAD", unary(ops.Pad(((1, 0), (0, 2))), 12, 3)),
    ("tflite-gpu", "GPU-MATMUL-CONSTANT", with_constant(ops.MatMul(False, True), (1, 3, 4, 5), (1, 3, 6, 5))),
    ("tflite-gpu", "GPU-MATMUL-CONSTANT", lambda: _constant_first()),
    ("hexagon", "HEXAGON-OPERATOR", gather(3, [4, 5, 6, 1, 0])),
    ("hexagon", "HEXAGON-OPERATOR", gather(1, [3, 3, 0])),
]  # fmt: skip


def _join(parts: int) -> Graph:
    s = Sketch(*[(1, 4, 4, 2)] * parts)
    return s.end(s(ops.Concat(3), *s.graph.inputs))


def _largest(count: int) -> Graph:
    s = Sketch((1, 4, 5, 7))
    best = s.graph.add(ops.TopK(count), s.graph.inputs, scope="best", names=["best", "places"])
    return s.end(*best.outputs)


def _computed_bias() -> Graph:
    s = Sketch((1, 5, 6, 8), (4,))
    op = ops.Conv2d(padding=((1, 1), (1, 1)), layout="NHWC", activation="relu")
    return s.end(s(op, s.graph.inputs[0], weights(4, 3, 3, 8), s(ops.Exp(), s.graph.inputs[1])))


def _computed_weights() -> Graph:
    s = Sketch((5, 8), (6, 8))
    return s.end(s(ops.Linear("relu"), *s.graph.inputs, weights(6)))


def _constant_first() -> Graph:
    s = Sketch((1, 3, 5, 7))
    return s.end(s(ops.MatMul(), weights(1, 3, 4, 5), s.graph.inputs[0]))


def values(graph: Graph) -> list[np.ndarray]:
    """The outputs in float64 on one seeded input."""
    rng = np.random.default_rng(3)
    given = [rng.standard_normal(v.shape) for v in graph.inputs]
    table = graph.run(given, keep=())
    return [table[v] for v in graph.outputs]


@pytest.mark.parametrize(("target", "code", "build"), CASES, ids=lambda c: c if isinstance(c, str) else "")
def test_a_rule_fires_and_its_rewrite_clears_it(target: str, code: str, build: Callable[[], Graph]) -> None:
    graph, profile = build(), load(target)
    before = check_facts(facts_of_graph(graph), profile)
    fired = [v for v in before if v.code == code]
    assert fired and all(v.clears for v in fired), before
    result = legalize(graph, profile)
    assert not [v for v in result.left if v.code == code], result.left
    assert any(v.code == code for v in result.cleared)
    for was, now in zip(values(graph), values(result.graph), strict=True):
        np.testing.assert_allclose(now, was, rtol=2e-7, atol=2e-7 * float(np.abs(was).max()))
    validate(result.graph, stage="lowered")


@pytest.mark.parametrize(("target", "code", "build"), CASES[::3], ids=lambda c: c if isinstance(c, str) else "")
def test_the_legal_file_computes_the_same_on_the_runtime(
    target: str, code: str, build: Callable[[], Graph], tmp_path: Path
) -> None:
    graph = build()
    result = legalize(graph, load(target))
    write(result.graph, tmp_path / "legal.tflite")
    rng = np.random.default_rng(3)
    given = [rng.standard_normal(v.shape) for v in graph.inputs]
    ran = run(tmp_path / "legal.tflite", [a.astype(np.float32) for a in given], engine="builtin")
    assert not ran.failed, ran.message
    table = graph.run(given, keep=())
    for made, value in zip(ran.outputs, graph.outputs, strict=True):
        np.testing.assert_allclose(made, table[value], rtol=1e-4, atol=1e-4 * float(np.abs(table[value]).max()))


def test_a_legal_graph_is_left_as_it_is() -> None:
    graph = conv(3, 1, (1, 1))()
    result = legalize(graph, load("litert-gpu"))
    assert result.graph is graph and not result.passes and not result.left


def test_what_cannot_be_cleared_is_left_with_its_reason() -> None:
    graph = unary(ops.Sin())()
    result = legalize(graph, load("portable-4d"))
    assert [(v.code, v.operator, v.scope) for v in result.errors] == [("PORTABLE-OPERATOR", "SIN", "n0")]


def test_infinity_behind_a_mask_is_the_lowest_float_where_select_is_spelled_out() -> None:
    graph = masked(-np.inf)()
    result = legalize(graph, load("xnnpack"))
    assert not any(isinstance(n.op, ops.Where) for n in result.graph.nodes)
    (was,), (now,) = values(graph), values(result.graph)
    seen = np.isfinite(was)
    np.testing.assert_array_equal(now[seen], was[seen])
    assert np.all(now[~seen] == -np.finfo(np.float32).max) and not seen.all()


def norm(scale: float) -> Graph:
    """A LayerNorm spelled out, of values about ``scale`` large."""
    s = Sketch((1, 16, 16, 64))
    x = s(ops.Mul(), s.graph.inputs[0], np.asarray([scale], np.float32))
    centred = s(ops.Sub(), x, s(ops.ReduceMean((3,), True), x))
    variance = s(ops.ReduceMean((3,), True), s(ops.Mul(), centred, centred))
    root = s(ops.Rsqrt(), s(ops.Add(), variance, np.asarray([1e-5], np.float32)))
    return s.end(s(ops.Mul(), centred, root))


def measured(graph: Graph, folder: Path) -> Numbers:
    write(graph, folder / "draft.tflite")
    numbers = measure(folder / "draft.tflite", facts_of_graph(graph))
    assert not numbers.failed
    return numbers


def test_a_norm_that_overflows_float16_is_scaled_before_it_squares(tmp_path: Path) -> None:
    graph, profile = norm(200.0), load("litert-gpu")
    numbers = measured(graph, tmp_path)
    result = legalize(graph, profile, numbers=numbers)
    assert any(v.code == "GPU-HALF-RANGE" for v in result.cleared)
    assert result.passes[0].name == "scale-before-square"
    for was, now in zip(values(graph), values(result.graph), strict=True):
        np.testing.assert_allclose(now, was, rtol=1e-9)
    # what counts: in float16 the plain form is wrong and the scaled one right
    assert _half_error(graph) > 0.5
    assert _half_error(result.graph) < 0.01
    after = measured(result.graph, tmp_path)
    assert max(after.energy.values()) < 65504
    assert measure_some(graph).energy == pytest.approx(numbers.energy, rel=1e-3)


def explosive() -> Graph:
    """A norm of what grows with the eighth power of the contrast: in noise to 1e80, in calm inputs not."""
    s = Sketch((1, 8, 8, 16))
    x = s(ops.Sub(), s.graph.inputs[0], s(ops.ReduceMean((1, 2), True), s.graph.inputs[0]))
    for _ in range(3):
        x = s(ops.Mul(), s(ops.Mul(), x, np.asarray([2e6], np.float32)), x)
    weight = np.eye(16).reshape(16, 1, 1, 16)
    x = s(ops.Conv2d(layout="NHWC"), x, weight.astype(np.float32))
    return s.end(s(ops.ReduceMean((3,), True), s(ops.Mul(), x, x)))


def test_inputs_that_overflow_are_measured_with_less_contrast(tmp_path: Path) -> None:
    graph = explosive()
    for numbers in (measured(graph, tmp_path), measure_some(graph)):
        assert all("·" in name for name in numbers.inputs), numbers.inputs
        assert all(np.isfinite(v) for v in numbers.energy.values())


def _half_error(graph: Graph) -> float:
    x = np.random.default_rng(3).standard_normal(graph.inputs[0].shape)
    exact = graph.run([x], keep=())[graph.outputs[0]]
    half = graph.run([x.astype(np.float16)], keep=())[graph.outputs[0]].astype(np.float64)
    return float(np.abs(np.nan_to_num(half, nan=1e3) - exact).max() / np.abs(exact).max())


def test_a_norm_that_fits_is_left_alone(tmp_path: Path) -> None:
    graph = norm(1.0)
    result = legalize(graph, load("litert-gpu"), numbers=measured(graph, tmp_path))
    assert not result.passes and not result.left


def pooled(scale: float) -> Graph:
    """A MAX_POOL_2D of values from -8 to -1, times ``scale``."""
    s = Sketch((1, 8, 6, 8))
    low = s(ops.Sub(), s(ops.Sigmoid(), s.graph.inputs[0]), np.asarray([2.0], np.float32))
    low = s(ops.Mul(), low, np.asarray([scale], np.float32))
    return s.end(s(ops.MaxPool2d((2, 2), (2, 2), layout="NHWC"), low))


@pytest.mark.parametrize("scale", [1.0, 20000.0, 1e20])
def test_values_below_the_start_of_a_maximum_are_scaled_before_they_pool(scale: float) -> None:
    graph, profile = pooled(scale), load("litert-gpu")
    numbers = measure_some(graph, profile.watched)
    assert "MAX_POOL_2D" in profile.watched and numbers.lowest
    found = [v.code for v in check_facts(note(facts_of_graph(graph), numbers), profile)]
    assert found == ([] if scale == 1 else ["GPU-POOL-START"])
    result = legalize(graph, profile, numbers=numbers)
    assert [p.name for p in result.passes] == ([] if scale == 1 else ["scale-before-pool"])
    assert not result.errors
    # a power of two: not one bit changes
    for was, now in zip(values(graph), values(result.graph), strict=True):
        np.testing.assert_array_equal(now, was)


def test_gelu_without_a_quotient_is_gelu_where_it_is_small_and_where_it_is_flat() -> None:
    s = Sketch((1, 1, 1, 4001))
    graph = s.end(s(ops.Gelu(), s.graph.inputs[0]))
    legal = legalize(graph, load("portable-4d")).graph
    x = np.concatenate([np.linspace(-12, 12, 3001), np.geomspace(1e-6, 1e6, 1000)]).reshape(1, 1, 1, -1)
    true, made = (g.run([x], keep=())[g.outputs[0]] for g in (graph, legal))
    np.testing.assert_allclose(made, true, rtol=2e-8, atol=5e-8)


def test_a_mask_beyond_float16_is_named_without_a_run() -> None:
    for fill, told in ((-1e30, ["GPU-HALF-RANGE"]), (-6e4, []), (-np.inf, [])):
        s = Sketch((1, 1, 8, 8))
        mask = np.where(np.triu(np.ones((1, 1, 8, 8), bool), 1), fill, 0).astype(np.float32)
        graph = s.end(s(ops.Softmax(3), s(ops.Add(), s.graph.inputs[0], mask)))
        found = check_numbers(facts_of_graph(graph), load("litert-gpu"), Numbers())
        assert [v.code for v in found] == told
        assert all("1e+30, which is infinity in float16" in v.message for v in found)


def test_the_scale_before_a_square() -> None:
    from instep.targets.rewrites.norms import SAFE, power_for

    assert power_for(SAFE) == 1.0 and power_for(4 * SAFE) == 2.0
    assert power_for(float("inf")) == power_for(float("nan")) == 1.0, "noise that overflows says nothing"
