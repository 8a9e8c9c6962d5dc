"""Every form that suits XNNPACK can be left out, and the plain form that takes its place computes the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from instep.emit.tflite import write
from instep.graph import Graph, Operator, Value, ops
from instep.rewrite.pipelines import FORMS, to_tflite
from instep.runtime import run, tflite_info


class Net:
    """One NCHW image through a few operators."""

    def __init__(self, *shape: int) -> None:
        self.graph = Graph()
        self.rng = np.random.default_rng(0)
        self.image = Value("image", shape)
        self.graph.inputs, self.graph.input_names = [self.image], ["image"]

    def weight(self, *shape: int) -> Value:
        return self.graph.constant(self.rng.uniform(-1, 1, shape).astype(np.float32), f"w{len(self.graph.weights)}")

    def then(self, x: Value, op: Operator, *more: Value) -> Value:
        return self.graph.add(op, [x, *more], scope=f"layer{len(self.graph.nodes)}").output

    def conv(self, x: Value, out: int, kernel: int = 3, groups: int = 1) -> Value:
        pad = (kernel // 2, kernel // 2)
        weight = self.weight(out, x.shape[1] // groups, kernel, kernel)
        return self.then(x, ops.Conv2d(padding=(pad, pad), groups=groups, layout="NCHW"), weight, self.weight(out))


def scale(net: Net) -> Value:
    x = net.then(net.conv(net.image, 64), ops.Tanh())
    x = net.then(x, ops.Mul(), net.weight(64, 1, 1))
    return net.then(net.then(x, ops.Add(), net.weight(64, 1, 1)), ops.Tanh())


def short_rows(net: Net) -> Value:
    return net.then(net.then(net.conv(net.image, 6), ops.Tanh()), ops.Mul(), net.weight(6, 1, 1))


def scores(net: Net) -> Value:
    query, key = (net.then(net.conv(net.image, 6), ops.Reshape((1, 2, 3, 96))) for _ in range(2))
    return net.then(net.then(query, ops.Permute((0, 1, 3, 2))), ops.MatMul(), key)


def mixed_rows(net: Net) -> Value:
    x = net.then(net.then(net.conv(net.image, 10), ops.Reshape((1, 5, 2, 96))), ops.Permute((0, 2, 3, 1)))
    x = net.then(x, ops.Linear(), net.weight(4, 5), net.weight(4))
    return net.then(net.then(x, ops.Permute((0, 3, 1, 2))), ops.Softmax(3))


def softmax_of_rows(net: Net) -> Value:
    return net.then(net.conv(net.image, 12), ops.Softmax(2))


def large_kernel(net: Net) -> Value:
    return net.conv(net.conv(net.image, 8), 8, 7, groups=8)


def multiplier(net: Net) -> Value:
    return net.conv(net.conv(net.image, 8), 16, 3, groups=8)


def transposed(net: Net) -> Value:
    op = ops.ConvTranspose2d((2, 2), ((1, 1), (1, 1)), (1, 1), (2, 1), layout="NCHW")
    return net.then(net.conv(net.image, 8), op, net.weight(8, 3, 3, 4))


def border(net: Net) -> Value:
    return net.conv(net.then(net.image, ops.Pad(((0, 0), (0, 0), (2, 2), (1, 3)), "reflect")), 4)


def every_second(net: Net) -> Value:
    x = net.then(net.conv(net.image, 4), ops.Tanh())
    return net.then(x, ops.Slice((0, 0, 0, 0), (1, 4, 8, 12), (1, 1, 2, 2)))


def shuffled(net: Net) -> Value:
    x = net.then(net.conv(net.image, 12), ops.Tanh())
    order = net.graph.constant(net.rng.permutation(12).astype(np.int64), "order")
    return net.then(x, ops.Add(), net.then(x, ops.Gather(1), order))


def interleaved(net: Net) -> Value:
    x = net.then(net.conv(net.image, 66), ops.Tanh())
    order = net.graph.constant(np.arange(66).reshape(3, 22).T.reshape(-1), "order")
    return net.then(x, ops.Add(), net.then(x, ops.Gather(1), order))


def upsampled(net: Net) -> Value:
    x = net.then(net.conv(net.image, 4), ops.Resize2d((16, 24), "nearest", "asymmetric", layout="NCHW"))
    return net.then(x, ops.Tanh())


def pooled(net: Net) -> Value:
    return net.then(net.conv(net.image, 4), ops.MaxPool2d((5, 5), (1, 1), ((2, 2), (2, 2)), layout="NCHW"))


def averaged(net: Net) -> Value:
    x = net.then(net.conv(net.image, 4), ops.Resize2d((24, 36), "bilinear", "half_pixel", layout="NCHW"))
    return net.then(x, ops.ReduceMean((2, 3), True))


#: Form → a network that has it, and the operators that only the plain form, and only the form, needs.
CASES: dict[str, tuple[Callable[[Net], Value], str, str]] = {
    "fuse-scale-and-shift": (scale, "MUL", "DEPTHWISE_CONV_2D"),
    "widen-broadcasts": (short_rows, "", ""),
    "absorb-transposes": (scores, "", ""),
    "mix-small-axes": (mixed_rows, "FULLY_CONNECTED", "BATCH_MATMUL"),
    "spell-softmax": (softmax_of_rows, "SOFTMAX", "EXP"),
    "split-depthwise": (large_kernel, "", "ADD"),
    "copy-channels": (multiplier, "", ""),
    "deconvolution-phases": (transposed, "TRANSPOSE_CONV", "DEPTH_TO_SPACE"),
    "slice-borders": (border, "MIRROR_PAD", "CONCATENATION"),
    "depthwise-strides": (every_second, "STRIDED_SLICE", "DEPTHWISE_CONV_2D"),
    "one-hot-channels": (shuffled, "GATHER", ""),
    "transpose-groups": (interleaved, "GATHER", ""),
    "join-repeats": (upsampled, "RESIZE_NEAREST_NEIGHBOR", "CONCATENATION"),
    "split-means": (averaged, "", ""),
    "pool-by-axes": (pooled, "", ""),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_form_can_be_avoided(form: str, tmp_path: Path) -> None:
    build, plain, fast = CASES[form]
    net = Net(1, 3, 8, 12)
    net.graph.outputs, net.graph.output_names = [build(net)], ["result"]
    image = net.rng.uniform(-2, 2, net.image.shape).astype(np.float32)
    want = net.graph.run([image.astype(np.float64)])[net.graph.outputs[0]]
    found = []
    for avoid in ((), (form,), tuple(FORMS)):
        path = tmp_path / "net.tflite"
        lowered, reports = to_tflite(net.graph, io="nchw", avoid=avoid)
        write(lowered, path)
        result = run(path, [image])
        assert not result.failed, result.message
        np.testing.assert_allclose(result.outputs[0], want, rtol=1e-4, atol=1e-5 * float(np.abs(want).max()))
        found.append((tflite_info(path).histogram, [(n.op, [v.shape for v in n.inputs]) for n in lowered.nodes]))
        assert form not in {r.name for r in reports} or not avoid
    (with_form, nodes), (without, other_nodes), _ = found
    assert nodes != other_nodes, f"{form} made no difference"
    assert (plain in without and plain not in with_form) or not plain, (with_form, without)
    assert (fast in with_form and fast not in without) or not fast, (with_form, without)


def test_a_name_that_is_no_form_is_refused() -> None:
    with pytest.raises(ValueError, match="no form is named widen-broadcast;"):
        to_tflite(Graph(), avoid=["widen-broadcast"])
    with pytest.raises(ValueError, match="collection of names"):
        to_tflite(Graph(), avoid="widen-broadcasts")
