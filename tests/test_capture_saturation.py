"""Ranges of quantised tensors that are activations: captured as LiteRT saturates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from instep.capture import capture
from instep.capture.base import Captured
from instep.graph import ops
from instep.runtime import run
from instep.verify.origin import verify_origin
from raw_tflite import Tensor, raw_tflite, schema

RNG = np.random.default_rng(0)
WEIGHT, BIAS = RNG.integers(-127, 128, (5, 8)), RNG.integers(-40, 40, 5)
#: Scales whose int8 ranges from zero on end at 6, and beyond all that the layer makes of ``INPUT``.
SIX, WIDE = 6 / 255, 60 / 255
INPUT = (RNG.integers(-127, 128, (2, 8)) / 8).astype(np.float32)


def names(captured: Captured) -> list[str]:
    return [type(n.op).__name__ for n in captured.graph.nodes]


def linear(path: Path, scale: float, zero: int, activation: int = 0) -> Path:
    """int8: x · Wᵀ + b, its result held with ``scale`` and ``zero``."""
    tensors: list[Tensor] = [
        ("x", (2, 8), "float32", None),
        ("held", (2, 8), "int8", None, 1 / 8),
        ("weight", (5, 8), "int8", WEIGHT, 1 / 256),
        ("bias", (5,), "int32", BIAS, 1 / 2048),
        ("made", (2, 5), "int8", None, scale, zero),
        ("y", (2, 5), "float32", None),
    ]
    options: Any = schema.FullyConnectedOptionsT()
    options.fusedActivationFunction = activation
    calls = [("QUANTIZE", [0], [1], None), ("FULLY_CONNECTED", [1, 2, 3], [4], options), ("DEQUANTIZE", [4], [5], None)]
    return raw_tflite(path, tensors, calls, [0], [5])


@pytest.mark.parametrize(
    ("scale", "zero", "activation", "expected"),
    [
        (SIX, -128, 0, ["Linear", "Clip"]),
        (WIDE, -128, 0, ["Linear", "Relu"]),
        (WIDE, -128, 1, ["Linear", "Relu"]),  # the file says it: not twice
        (WIDE, 0, 0, ["Linear"]),  # a range of both signs is no activation
    ],
)
def test_a_layer_whose_integers_begin_at_zero_has_the_activation_that_its_file_leaves_out(
    scale: float, zero: int, activation: int, expected: list[str], tmp_path: Path
) -> None:
    file = linear(tmp_path / "net.tflite", scale, zero, activation)
    captured = capture(str(file))
    assert names(captured) == expected
    real = INPUT.astype(np.float64) @ WEIGHT.T / 256 + BIAS / 2048
    assert real.min() < -1 and 6.5 < real.max() < 30, "both ends are tried"
    truth = captured.reference.run([INPUT], dtype="float64")[captured.graph.outputs[0].name]
    result = run(file, [INPUT], engine="builtin")
    assert not result.failed, result.message
    assert np.abs(result.outputs[0] - truth).max() <= scale


def test_a_sum_of_what_is_never_negative_has_none(tmp_path: Path) -> None:
    held: list[Tensor] = [("a", (4,), "int8", None, 0.1, -128), ("b", (4,), "int8", None, 0.1, -128)]
    file = raw_tflite(
        tmp_path / "net.tflite",
        [*held, ("sum", (4,), "int8", None, 0.2, -128), ("less", (4,), "int8", None, 0.2, -128)],
        [("ADD", [0, 1], [2], schema.AddOptionsT()), ("SUB", [0, 1], [3], schema.SubOptionsT())],
        [0, 1],
        [2, 3],
    )
    assert names(capture(str(file))) == ["Add", "Sub", "Relu"]


def test_what_is_quantised_and_back_is_clipped_to_the_ends_of_the_range(tmp_path: Path) -> None:
    tensors: list[Tensor] = [
        ("x", (2, 8), "float32", None),
        ("wide", (2, 8), "int8", None, 0.1, 100),
        ("narrow", (2, 8), "int8", None, 0.05, 20),
        ("y", (2, 8), "float32", None),
    ]
    calls = [("QUANTIZE", [0], [1], None), ("QUANTIZE", [1], [2], None), ("DEQUANTIZE", [2], [3], None)]
    file = raw_tflite(tmp_path / "net.tflite", tensors, calls, [0], [3])
    captured = capture(str(file))
    assert [n.op for n in captured.graph.nodes] == [ops.Clip(-7.4, 2.7)]
    assert any("fake quantisation" in note for note in captured.notes)
    truth = captured.reference.run([INPUT], dtype="float64")[captured.graph.outputs[0].name]
    result = run(file, [INPUT], engine="builtin")
    assert not result.failed, result.message
    assert np.abs(result.outputs[0] - truth).max() <= 0.1


def test_fake_quantisation_is_read_as_its_ends_and_no_truth_for_rounding(tmp_path: Path) -> None:
    options: Any = schema.FakeQuantOptionsT()
    options.min, options.max, options.numBits = -1.0, 1.5, 8
    tensors: list[Tensor] = [("x", (2, 8), "float32", None), ("y", (2, 8), "float32", None)]
    file = raw_tflite(tmp_path / "net.tflite", tensors, [("FAKE_QUANT", [0], [1], options)], [0], [1])
    captured = capture(str(file))
    assert [n.op for n in captured.graph.nodes] == [ops.Clip(-1.0, 1.5)]
    assert any("FAKE_QUANT" in note for note in captured.notes)
    assert verify_origin(captured.reference, file, captured.graph) is None
    result = run(file, [INPUT], engine="builtin")
    assert not result.failed, result.message
    truth = captured.reference.run([INPUT], dtype="float64")[captured.graph.outputs[0].name]
    assert np.abs(result.outputs[0] - truth).max() <= 2.5 / 255
