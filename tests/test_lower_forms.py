"""Lowering takes the forms that are fast on XNNPACK, and they compute the same."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from instep.emit.tflite import write
from instep.graph import Graph, Operator, Value, ops
from instep.rewrite.driver import Rewrite
from instep.rewrite.driver import run as rewrite
from instep.rewrite.lower import lower
from instep.rewrite.tune.lanes import fill_lanes
from instep.runtime import run, tflite_info


class Net:
    """A small chain of operators on one NHWC image."""

    def __init__(self, *shape: int) -> None:
        self.graph = Graph()
        self.last = Value("image", shape)
        self.graph.inputs, self.graph.input_names = [self.last], ["image"]
        self.rng = np.random.default_rng(0)

    def weight(self, *shape: int) -> Value:
        return self.graph.constant(self.rng.uniform(-1, 1, shape).astype(np.float32), f"w{len(self.graph.weights)}")

    def then(self, op: Operator, *more: Value) -> Net:
        self.last = self.graph.add(op, [self.last, *more], scope=f"layer{len(self.graph.nodes)}").output
        return self

    def check(self, folder: Path, engine: str = "xnnpack", *tunings: Rewrite) -> Counter[str]:
        """Lower, tune, write, run and compare with the definition; returns the file's operators."""
        self.graph.outputs, self.graph.output_names = [self.last], ["result"]
        lowered, _ = rewrite(self.graph, [lower, *tunings])
        path = folder / "net.tflite"
        write(lowered, path)
        x = self.rng.uniform(-2, 2, self.graph.inputs[0].shape).astype(np.float32)
        result = run(path, [x], engine=engine)
        assert not result.failed, result.message
        want = self.graph.run([x.astype(np.float64)], keep=[self.last])[self.last]
        np.testing.assert_allclose(result.outputs[0], want, rtol=1e-4, atol=1e-5 * float(np.abs(want).max()))
        return tflite_info(path).histogram


@pytest.mark.parametrize("kernel", [3, 5, 2])
@pytest.mark.parametrize("factor", [2, 3])
def test_nearest_upsampling_joins_the_convolution_behind_it(tmp_path: Path, kernel: int, factor: int) -> None:
    net = Net(1, 5, 7, 3)
    net.then(ops.Resize2d((5 * factor, 7 * factor), "nearest", "asymmetric", layout="NHWC"))
    before, after = (kernel - 1) // 2, kernel // 2
    conv = ops.Conv2d(padding=((before, after), (after, before)), layout="NHWC", activation="relu")
    net.then(conv, net.weight(4, kernel, kernel, 3), net.weight(4))
    histogram = net.check(tmp_path)
    assert histogram["DEPTH_TO_SPACE"] == 1
    assert not histogram.keys() & {"RESIZE_NEAREST_NEIGHBOR", "TRANSPOSE_CONV", "CONCATENATION"}


def test_upsampling_with_another_reader_stays(tmp_path: Path) -> None:
    net = Net(1, 4, 4, 2).then(ops.Resize2d((8, 8), "nearest", "asymmetric", layout="NHWC"))
    up = net.last
    net.then(ops.Conv2d(padding=((1, 1), (1, 1)), layout="NHWC"), net.weight(2, 3, 3, 2)).then(ops.Add(), up)
    assert net.check(tmp_path)["CONCATENATION"] == 2


@pytest.mark.parametrize(
    ("stride", "kernel", "crop", "extra"), [(2, 4, 1, 0), (2, 3, 1, 1), (2, 2, 0, 0), (4, 9, 4, 3), (3, 2, 0, 1)]
)
def test_transposed_convolution_becomes_phases(tmp_path: Path, stride: int, kernel: int, crop: int, extra: int) -> None:
    op = ops.ConvTranspose2d((stride,) * 2, ((crop,) * 2,) * 2, (extra,) * 2, layout="NHWC")
    net = Net(2, 6, 5, 3)
    net.then(op, net.weight(3, kernel, kernel, 4), net.weight(4))
    assert "TRANSPOSE_CONV" not in net.check(tmp_path)


def test_transposed_convolution_that_would_grow_the_file_keeps_its_operator(tmp_path: Path) -> None:
    net = Net(1, 2, 2, 512)
    net.then(ops.ConvTranspose2d((2, 2), ((1, 1), (1, 1)), (1, 1), layout="NHWC"), net.weight(512, 3, 3, 512))
    assert net.check(tmp_path) == {"TRANSPOSE_CONV": 1, "SLICE": 1}


def test_scale_and_shift_per_channel_is_one_operator(tmp_path: Path) -> None:
    net = Net(1, 4, 5, 6)
    variance = net.graph.constant(np.full(6, 2.0, np.float32), "variance")
    net.then(ops.BatchNorm(1e-5, 3), *(net.weight(6) for _ in range(3)), variance)
    assert net.check(tmp_path) == {"DEPTHWISE_CONV_2D": 1}


def test_no_depthwise_kernel_beyond_25_taps(tmp_path: Path) -> None:
    net = Net(1, 12, 12, 8)
    net.then(ops.Conv2d(padding=((3, 3), (3, 3)), groups=8, layout="NHWC", activation="relu"), net.weight(8, 7, 7, 1))
    assert net.check(tmp_path)["DEPTHWISE_CONV_2D"] == 3


def test_no_depthwise_convolution_of_more_channels_than_tensorflows_kernel_ends_with(tmp_path: Path) -> None:
    net = Net(1, 3, 3, 2500)
    net.then(ops.Conv2d(groups=2500, layout="NHWC", activation="relu"), net.weight(5000, 2, 2, 1), net.weight(5000))
    assert net.check(tmp_path) == {"SLICE": 2, "DEPTHWISE_CONV_2D": 2, "CONCATENATION": 1}


def test_reflected_border_is_sliced(tmp_path: Path) -> None:
    net = Net(1, 9, 8, 3).then(ops.Pad(((0, 0), (3, 3), (3, 3), (0, 0)), "reflect"))
    assert "MIRROR_PAD" not in net.check(tmp_path)


def test_every_second_place_is_no_strided_slice(tmp_path: Path) -> None:
    net = Net(1, 9, 8, 3).then(ops.Slice((0, 1, 0, 0), (1, 9, 8, 3), (1, 2, 2, 1)))
    assert net.check(tmp_path) == {"SLICE": 1, "DEPTHWISE_CONV_2D": 1}


@pytest.mark.parametrize(("out", "stride", "width"), [(3, 1, 40), (1, 1, 48), (6, 2, 41), (4, 1, 43)])
def test_few_output_channels_are_computed_side_by_side(tmp_path: Path, out: int, stride: int, width: int) -> None:
    net = Net(1, 60 * stride, width, 5)
    conv = ops.Conv2d((stride, stride), ((1, 1), (1, 0)), layout="NHWC", activation="relu")
    net.then(conv, net.weight(out, 3, 3, 5), net.weight(out))
    columns = net.last.shape[2]
    packed = any(columns % p == 0 for p in range(2, 16 // out + 1))
    assert net.check(tmp_path, "xnnpack", fill_lanes)["RESHAPE"] == packed


@pytest.mark.parametrize(("out", "parts"), [(25, 1), (36, 2), (48, 2), (20, 2), (32, 1), (64, 1)])
def test_output_channels_beyond_whole_lanes_are_computed_apart(tmp_path: Path, out: int, parts: int) -> None:
    net = Net(1, 48, 48, 40)
    conv = ops.Conv2d(padding=((1, 1), (1, 1)), layout="NHWC", activation="relu")
    net.then(conv, net.weight(out, 3, 3, 40), net.weight(out))
    histogram = net.check(tmp_path, "xnnpack", fill_lanes)
    assert histogram["CONV_2D"] == parts
    assert (histogram["CONCATENATION"], histogram["SLICE"]) == (parts - 1, int(out == 25))


@pytest.mark.parametrize(("behind", "turned"), [(4, True), (8, True), (9, False)])
def test_softmax_with_short_rows_behind_it_is_turned(tmp_path: Path, behind: int, turned: bool) -> None:
    histogram = Net(1, 5, 6, behind).then(ops.Softmax(2)).check(tmp_path)
    assert histogram == ({"TRANSPOSE": 2, "SOFTMAX": 1} if turned else histogram)
    assert ("EXP" in histogram) is not turned


def test_runs_of_an_index() -> None:
    from instep.rewrite.lower.joins import RUNS, _runs

    assert _runs(np.array([3, 4, 5])) == [(3, 6, 1)]
    assert _runs(np.array([0, 2, 4, 7, 6, 6])) == [(0, 5, 2), (7, 8, 1), (6, 7, 1), (6, 7, 1)]
    assert _runs(np.array([9])) == [(9, 10, 1)]
    assert len(_runs(np.zeros(1 << 24, np.int64))) == RUNS + 1, "and at once"
