"""Operators that choose among boxes, and MediaPipe's own: read as LiteRT runs them, or as their definition says."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flatbuffers import flexbuffers

from instep.api import convert
from instep.capture import Captured, CaptureError, capture
from instep.graph.validate import validate
from instep.runtime import run
from raw_tflite import Tensor, options, raw_tflite

RNG = np.random.default_rng(5)
COUNT, CLASSES = 40, 3
DETECTION = {
    "max_detections": 6, "max_classes_per_detection": 1, "num_classes": CLASSES, "nms_score_threshold": 0.3,
    "nms_iou_threshold": 0.4, "y_scale": 10.0, "x_scale": 10.0, "h_scale": 5.0, "w_scale": 5.0,
}  # fmt: skip


def boxes() -> np.ndarray:
    """Many that overlap, two corners of each in any order."""
    centres = RNG.uniform(0, 3, (COUNT, 2))
    sizes = RNG.uniform(0.5, 1.5, (COUNT, 2)) * RNG.choice([-1, 1], (COUNT, 2))
    return np.concatenate([centres - sizes / 2, centres + sizes / 2], 1).astype(np.float32)


def suppression(path: Path, sigma: float | None, score: float, count: Any = 8) -> tuple[Path, list[np.ndarray]]:
    inputs = [boxes(), RNG.uniform(0, 1, COUNT).astype(np.float32)]
    tensors: list[Tensor] = [
        ("boxes", (COUNT, 4), "float32", None), ("scores", (COUNT,), "float32", None), ("count", (), "int32", count),
        ("most", (), "float32", 0.5), ("least", (), "float32", score),
    ]  # fmt: skip
    outputs: list[Tensor] = [("indices", (8,), "int32", None), ("number", (), "int32", None)]
    version = 4
    if sigma is not None:
        tensors.append(("sigma", (), "float32", sigma))
        outputs.insert(1, ("best", (8,), "float32", None))
        version = 5
    given, made = list(range(len(tensors))), [len(tensors) + i for i in range(len(outputs))]
    op = (f"NON_MAX_SUPPRESSION_V{version}", given, made, options(f"NonMaxSuppressionV{version}Options"))
    places = [0, 1] if count is not None else [0, 1, 2]
    return raw_tflite(path, [*tensors, *outputs], [op], places, made), inputs


def detection(path: Path, background: int = 1, **more: Any) -> tuple[Path, list[np.ndarray]]:
    fields = {**DETECTION, **more}
    made = fields["max_detections"] * fields["max_classes_per_detection"]
    anchors = np.concatenate([RNG.uniform(0, 1, (COUNT, 2)), RNG.uniform(0.2, 0.6, (COUNT, 2))], 1).astype(np.float32)
    tensors: list[Tensor] = [
        ("encodings", (1, COUNT, 4), "float32", None), ("scores", (1, COUNT, CLASSES + background), "float32", None),
        ("anchors", (COUNT, 4), "float32", anchors), ("boxes", (1, made, 4), "float32", None),
        ("classes", (1, made), "float32", None), ("best", (1, made), "float32", None),
        ("number", (1,), "float32", None),
    ]  # fmt: skip
    op = ("CUSTOM:TFLite_Detection_PostProcess", [0, 1, 2], [3, 4, 5, 6], flexbuffers.Dumps(fields))
    inputs = [RNG.standard_normal((1, COUNT, 4)), RNG.uniform(0, 1, (1, COUNT, CLASSES + background))]
    return raw_tflite(path, tensors, [op], [0, 1], [3, 4, 5, 6]), [a.astype(np.float32) for a in inputs]


def same_as_litert(file: Path, inputs: list[np.ndarray]) -> tuple[Captured, list[np.ndarray]]:
    captured = capture(str(file))
    validate(captured.graph, stage="captured")
    result = run(file, inputs, engine="builtin")
    assert not result.failed, result.message
    table = captured.reference.run(inputs, dtype="float64")
    for value, array in zip(captured.graph.outputs, result.outputs, strict=True):
        assert array.shape == value.shape and str(array.dtype) == value.dtype
        np.testing.assert_allclose(array, table[value.name], atol=1e-6, err_msg=value.name)
    return captured, result.outputs


@pytest.mark.parametrize("score", [0.1, 0.9])
@pytest.mark.parametrize("sigma", [None, 0.0, 0.4])
def test_boxes_are_chosen_as_litert_chooses_them(sigma: float | None, score: float, tmp_path: Path) -> None:
    for _ in range(4):
        _, found = same_as_litert(*suppression(tmp_path / "net.tflite", sigma, score))
        assert 0 < found[-1] < 8 if score == 0.9 else found[-1] > 4


def test_without_a_threshold_as_many_are_found_as_do_not_overlap(tmp_path: Path) -> None:
    file, (given, scores) = suppression(tmp_path / "net.tflite", 0.4, -np.inf)
    given[:] = given[:1]
    given[7] += 9
    _, found = same_as_litert(file, [given, scores - 0.5])
    assert found[-1] == 2


def test_litert_chooses_a_box_without_an_area_again_and_again(tmp_path: Path) -> None:
    file, (given, scores) = suppression(tmp_path / "net.tflite", None, 0.1)
    given[3], scores[3] = (1, 1, 1, 2), 2
    _, found = same_as_litert(file, [given, scores])
    assert found[0].tolist() == [3] * 8


def test_a_computed_number_of_boxes_is_refused(tmp_path: Path) -> None:
    file, _ = suppression(tmp_path / "net.tflite", None, 0.1, None)
    with pytest.raises(CaptureError, match="max_output_size is computed while the network runs"):
        capture(str(file))


VARIANTS: dict[str, dict[str, Any]] = {
    "fast": {},
    "no_background": {"background": 0},
    "two_classes_a_box": {"max_classes_per_detection": 2},
    "regular": {"use_regular_nms": True, "detections_per_class": 4},
    "regular_few": {"use_regular_nms": True, "nms_score_threshold": 0.95, "max_detections": 12},
}


@pytest.mark.parametrize("name", sorted(VARIANTS))
def test_detections_are_those_of_litert(name: str, tmp_path: Path) -> None:
    for _ in range(4):
        _, found = same_as_litert(*detection(tmp_path / "net.tflite", **VARIANTS[name]))
        assert 0 < found[3][0] < 12 if name == "regular_few" else found[3][0] == 6


def test_what_was_read_is_converted_and_proved(tmp_path: Path) -> None:
    for number, (file, _) in enumerate(
        (detection(tmp_path / "a.tflite", max_detections=2), suppression(tmp_path / "b.tflite", 0.4, -1e9))
    ):
        result = convert(str(file), tmp_path / f"out{number}.tflite")
        assert result.ok and result.verdict is not None
        assert any("itself computes what was captured from it" in note for note in result.verdict.notes)


def test_damaged_options_of_a_custom_operator_are_one_sentence(tmp_path: Path) -> None:
    file, _ = detection(tmp_path / "net.tflite")
    whole = file.read_bytes()
    packed = bytes(flexbuffers.Dumps(DETECTION))
    at = whole.index(packed)
    for number in range(len(packed)):
        file.write_bytes(whole[: at + number] + b"\xff" + whole[at + number + 1 :])
        try:
            capture(str(file))
        except CaptureError as error:
            assert "\n" not in str(error)


# -- MediaPipe: of LiteRT XNNPACK alone runs these, and keeps the places of maxima to itself ---------------------------
SAME, VALID = 1, 2


def mediapipe(path: Path, name: str, data: bytes, tensors: list[Tensor], given: int, inputs: list[int]) -> Captured:
    op = (f"CUSTOM:{name}", list(range(given)), list(range(given, len(tensors))), data)
    captured = capture(str(raw_tflite(path, tensors, [op], inputs, op[2])))
    validate(captured.graph, stage="captured")
    return captured


@pytest.mark.parametrize(("padding", "stride", "kernel"), [(SAME, 2, 3), (SAME, 2, 2), (SAME, 3, 2), (VALID, 2, 3)])
def test_a_transposed_convolution_with_a_bias_adds_kernels(
    padding: int, stride: int, kernel: int, tmp_path: Path
) -> None:
    """Each element adds its kernel where it stands; SAME cuts half of what hangs over off the top and left."""
    x, weight, bias = (RNG.standard_normal(s).astype(np.float32) for s in ((1, 4, 5, 3), (2, kernel, kernel, 3), (2,)))
    full = np.zeros((1, 3 * stride + kernel, 4 * stride + kernel, 2)) + bias
    for y in range(4):
        for c in range(5):
            part = np.einsum("i,okli->klo", x[0, y, c], weight)
            full[0, y * stride : y * stride + kernel, c * stride : c * stride + kernel] += part
    cut = [max(0, kernel - (n - 1) % stride - 1) if padding == SAME else 0 for n in (4, 5)]
    wanted = full[:, cut[0] // 2 : full.shape[1] - (cut[0] - cut[0] // 2)]
    wanted = wanted[:, :, cut[1] // 2 : full.shape[2] - (cut[1] - cut[1] // 2)]
    tensors: list[Tensor] = [
        ("x", x.shape, "float32", None), ("w", weight.shape, "float32", weight), ("b", (2,), "float32", bias),
        ("y", wanted.shape, "float32", None),
    ]  # fmt: skip
    data = struct.pack("<3i", padding, stride, stride)
    captured = mediapipe(tmp_path / "net.tflite", "Convolution2DTransposeBias", data, tensors, 3, [0])
    np.testing.assert_allclose(captured.reference.run([x])[captured.graph.outputs[0].name], wanted, atol=1e-5)
    if stride <= kernel:  # XNNPACK takes no larger one
        result = run(tmp_path / "net.tflite", [x], engine="xnnpack")
        assert not result.failed, result.message
        np.testing.assert_allclose(result.outputs[0], wanted, atol=1e-5)


@pytest.mark.parametrize("padding", [SAME, VALID])
def test_a_pooling_tells_the_place_of_its_maximum(padding: int, tmp_path: Path) -> None:
    x = RNG.standard_normal((2, 5, 6, 3)).astype(np.float32)
    high = 3 if padding == SAME else 2
    # SAME pads one row below, where nothing is
    wide = np.pad(x, [(0, 0), (0, 1), (0, 0), (0, 0)], constant_values=-np.inf)[:, : 2 * high]
    windows = wide.reshape(2, high, 2, 3, 2, 3).transpose(0, 1, 3, 5, 2, 4).reshape(2, high, 3, 3, 4)
    tensors: list[Tensor] = [
        ("x", x.shape, "float32", None), ("y", (2, high, 3, 3), "float32", None),
        ("at", (2, high, 3, 3), "float32", None),
    ]  # fmt: skip
    data = struct.pack("<6i", padding, 2, 2, 2, 2, 0)
    captured = mediapipe(tmp_path / "net.tflite", "MaxPoolingWithArgmax2D", data, tensors, 1, [0])
    table = captured.reference.run([x])
    best, place = (table[v.name] for v in captured.graph.outputs)
    np.testing.assert_array_equal(best, windows.max(-1).astype(np.float32))
    np.testing.assert_allclose(place, windows.argmax(-1) + 0.1, rtol=1e-6)


def test_an_unpooling_undoes_a_pooling(tmp_path: Path) -> None:
    x = RNG.standard_normal((2, 3, 4, 3)).astype(np.float32)
    at = (RNG.integers(0, 4, x.shape) + 0.1).astype(np.float32)
    tensors: list[Tensor] = [
        ("x", x.shape, "float32", None), ("at", x.shape, "float32", None), ("y", (2, 6, 8, 3), "float32", None),
    ]  # fmt: skip
    data = struct.pack("<6i", SAME, 2, 2, 2, 2, 0)
    captured = mediapipe(tmp_path / "net.tflite", "MaxUnpooling2D", data, tensors, 2, [0, 1])
    wanted = np.zeros((2, 6, 8, 3), np.float32)
    for n, y, c, k in np.ndindex(*x.shape):
        row, column = divmod(int(at[n, y, c, k]), 2)
        wanted[n, 2 * y + row, 2 * c + column, k] = x[n, y, c, k]
    np.testing.assert_array_equal(captured.reference.run([x, at])[captured.graph.outputs[0].name], wanted)


def test_the_way_there_and_back_is_what_xnnpack_computes(tmp_path: Path) -> None:
    tensors: list[Tensor] = [
        ("x", (1, 4, 6, 3), "float32", None), ("y", (1, 2, 3, 3), "float32", None),
        ("at", (1, 2, 3, 3), "float32", None), ("back", (1, 4, 6, 3), "float32", None),
    ]  # fmt: skip
    data = struct.pack("<6i", VALID, 2, 2, 2, 2, 0)
    chain = [("CUSTOM:MaxPoolingWithArgmax2D", [0], [1, 2], data), ("CUSTOM:MaxUnpooling2D", [1, 2], [3], data)]
    file, x = raw_tflite(tmp_path / "net.tflite", tensors, chain, [0], [3]), RNG.standard_normal((1, 4, 6, 3))
    x = x.astype(np.float32)
    captured, result = capture(str(file)), run(file, [x], engine="xnnpack")
    assert not result.failed, result.message
    np.testing.assert_array_equal(captured.reference.run([x])[captured.graph.outputs[0].name], result.outputs[0])
    assert convert(str(file), tmp_path / "out.tflite").ok
