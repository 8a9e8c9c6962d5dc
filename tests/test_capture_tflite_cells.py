"""Fused recurrent layers in the forms that older converters wrote: both directions at once, single steps, SVDF."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from instep.api import convert
from instep.capture import CaptureError, capture
from instep.graph.validate import validate
from instep.runtime import run
from raw_tflite import Tensor, options, raw_tflite, schema

RNG = np.random.default_rng(11)
TANH, RELU = schema.ActivationFunctionType.TANH, schema.ActivationFunctionType.RELU
TIME, BATCH, FEATURES, UNITS = 5, 2, 4, 3
#: An array is a constant, a shape a state that is an input of the network, "x" and "beside" are its inputs proper.
Given = np.ndarray | tuple[int, ...] | str | None


def reals(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32) / 2


def gates(features: int = FEATURES, *, coupled: bool = False, peep: bool = False, project: int = 0) -> list[Given]:
    """The weights of one direction in the operator's order."""
    inner = project or UNITS
    found: list[Given] = [reals(UNITS, n) for n in [features] * 4 + [inner] * 4]
    found += [reals(UNITS) if peep else None for _ in range(3)]
    found += [reals(UNITS) for _ in range(4)]
    if coupled:
        found[0] = found[4] = found[8] = found[11] = None
    return [*found, *([reals(project, UNITS), reals(project)] if project else [None, None])]


def states(project: int = 0) -> list[Given]:
    return [(BATCH, project or UNITS), (BATCH, UNITS)]


def cell(features: int = FEATURES) -> list[Given]:
    """Weights and the state of one direction of a plain recurrent layer."""
    return [reals(UNITS, features), reals(UNITS, UNITS), reals(UNITS), (BATCH, UNITS)]


def second(count: int) -> list[Given]:
    """Weights of two directions for a second input."""
    return ["beside", *[reals(UNITS, FEATURES) for _ in range(2 * count)]]


SEQUENCE, STEP = (BATCH, TIME, FEATURES), (BATCH, FEATURES)
BOTH = (BATCH, TIME, UNITS)
LSTM2 = "BIDIRECTIONAL_SEQUENCE_LSTM", "BidirectionalSequenceLSTMOptions"
RNN2 = "BIDIRECTIONAL_SEQUENCE_RNN", "BidirectionalSequenceRNNOptions"
Case = tuple[tuple[str, str], dict[str, Any], list[Given], tuple[int, ...], list[tuple[int, ...]]]


def lstm2(middle: list[Given], behind: list[Given], *results: tuple[int, ...], x: tuple[int, ...] = SEQUENCE,
          **fields: Any) -> Case:  # fmt: skip
    behind = [*behind, *[None] * (9 - len(behind))]
    # the schema says of this operator alone that time is its first axis by default
    fields = {"fusedActivationFunction": TANH, "timeMajor": False, **fields}
    return LSTM2, fields, ["x", *middle, *behind], x, list(results)


def rnn2(given: list[Given], *results: tuple[int, ...], x: tuple[int, ...] = SEQUENCE, **fields: Any) -> Case:
    fields = {"fusedActivationFunction": TANH, **fields}
    return RNN2, fields, ["x", *given, *[None] * (11 - len(given))], x, list(results)


BOTH_STATES = [*states(), *states()]
MERGED = (BATCH, TIME, 2 * UNITS)
CASES: dict[str, Case] = {
    "both": lstm2([*gates(), *gates(), *BOTH_STATES], [], BOTH, BOTH),
    # LiteRT 2.3 reads the states of a second batch beyond their end where time is not the first axis
    "both_merged": lstm2(
        [*gates(peep=True), *gates(peep=True), *BOTH_STATES], [], (TIME, BATCH, 2 * UNITS), x=(TIME, BATCH, FEATURES),
        timeMajor=True, mergeOutputs=True,
    ),
    "both_coupled": lstm2([*gates(coupled=True), *gates(coupled=True), *BOTH_STATES], [], BOTH, BOTH, cellClip=0.5),
    "both_projected": lstm2(
        [*gates(project=2), *gates(project=2), *states(2), *states(2)], [], (BATCH, TIME, 2), (BATCH, TIME, 2)
    ),
    "both_time_first": lstm2(
        [*gates(), *gates(), *BOTH_STATES], [], (TIME, BATCH, UNITS), (TIME, BATCH, UNITS),
        x=(TIME, BATCH, FEATURES), timeMajor=True,
    ),
    "both_of_a_second_input": lstm2([*gates(), *gates(), *BOTH_STATES], second(4), BOTH, BOTH),
    "both_backwards_of_the_second": lstm2([*gates(), *gates(), *BOTH_STATES], ["beside"], BOTH, BOTH),
    "rnn_both": rnn2([*cell(), *cell()], BOTH, BOTH, fusedActivationFunction=RELU),
    "rnn_both_merged": rnn2([*cell(), *cell()], MERGED, mergeOutputs=True),
    "rnn_both_of_a_second_input": rnn2([*cell(), *cell(), *second(1)], BOTH, BOTH),
    "rnn_both_without_the_second": rnn2([*cell(), *cell(), "beside"], BOTH, BOTH),
    "rnn_both_backwards_of_the_second": rnn2(
        [*cell(), *cell(), "beside"], *[(BATCH, BATCH, UNITS)] * 2, x=(BATCH, BATCH, FEATURES), timeMajor=True
    ),
    "lstm_step": (
        ("LSTM", "LSTMOptions"), {"fusedActivationFunction": TANH, "projClip": 0.5},
        ["x", *gates(peep=True, project=2), *states(2)], STEP, [(BATCH, 2)],
    ),
    "lstm_step_normalised": (
        ("LSTM", "LSTMOptions"), {"fusedActivationFunction": TANH},
        ["x", *gates(), *states(), *[reals(UNITS) for _ in range(4)]], STEP, [(BATCH, UNITS)],
    ),
    "lstm_step_basic": (
        ("LSTM", "LSTMOptions"), {"fusedActivationFunction": TANH, "kernelType": 1},
        ["x", (BATCH, UNITS), reals(4 * UNITS, FEATURES + UNITS), reals(4 * UNITS), (BATCH, UNITS)], STEP,
        [(BATCH, UNITS), (BATCH, UNITS), (BATCH, FEATURES + UNITS), (BATCH, 4 * UNITS)],
    ),
    "rnn_step": (
        ("RNN", "RNNOptions"), {"fusedActivationFunction": TANH}, ["x", *cell()], STEP, [(BATCH, UNITS)],
    ),
    "svdf": (
        ("SVDF", "SVDFOptions"), {"rank": 2, "fusedActivationFunction": RELU},
        ["x", reals(6, FEATURES), reals(6, 7), reals(3), (BATCH, 6 * 7)], STEP, [(BATCH, 3)],
    ),
    "svdf_without_bias": (
        ("SVDF", "SVDFOptions"), {"rank": 1}, ["x", reals(6, FEATURES), reals(6, 7), None, (BATCH, 6 * 7)], STEP,
        [(BATCH, 6)],
    ),
}  # fmt: skip


def written(path: Path, case: Case, *, given_states: bool = True) -> tuple[Path, list[np.ndarray]]:
    """The file of a case, and inputs for it: with its states among them, or as variables that nobody sets."""
    (code, kind), fields, operands, shape, results = case
    tensors: list[Tensor] = []
    places, inputs, variables = [], [], []
    for operand in operands:
        places.append(-1 if operand is None else len(tensors))
        if operand is None:
            continue
        array = operand if isinstance(operand, np.ndarray) else None
        sizes = array.shape if array is not None else operand if isinstance(operand, tuple) else shape
        if isinstance(operand, tuple):
            variables.append(len(tensors))
        if isinstance(operand, str) or (isinstance(operand, tuple) and given_states):
            inputs.append(len(tensors))
        tensors.append((f"t{len(tensors)}", sizes, "float32", array))
    outputs = [len(tensors) + i for i in range(len(results))]
    tensors += [(f"out{i}", sizes, "float32", None) for i, sizes in enumerate(results)]
    raw_tflite(path, tensors, [(code, places, outputs, options(kind, **fields))], inputs, outputs, variables=variables)
    return path, [reals(*tensors[i][1]) for i in inputs]


@pytest.mark.parametrize("given_states", [True, False], ids=["states", "fresh"])
@pytest.mark.parametrize("name", sorted(CASES))
def test_a_recurrent_operator_is_read_as_litert_runs_it(name: str, given_states: bool, tmp_path: Path) -> None:
    file, inputs = written(tmp_path / "net.tflite", CASES[name], given_states=given_states)
    captured = capture(str(file))
    validate(captured.graph, stage="captured")
    result = run(file, inputs, engine="builtin")
    assert not result.failed, result.message
    table = captured.reference.run(inputs, dtype="float64")
    for value, array in zip(captured.graph.outputs, result.outputs, strict=True):
        assert array.shape == value.shape
        np.testing.assert_allclose(array, table[value.name], atol=2e-6)


@pytest.mark.parametrize("name", ["both_merged", "svdf"])
def test_what_was_read_is_converted_and_proved(name: str, tmp_path: Path) -> None:
    file, _ = written(tmp_path / "net.tflite", CASES[name], given_states=False)
    result = convert(str(file), tmp_path / "out.tflite")
    assert result.ok and result.verdict is not None
    assert any("itself computes what was captured from it" in note for note in result.verdict.notes)


def test_a_layer_without_a_state_is_refused(tmp_path: Path) -> None:
    kind, fields, operands, shape, results = CASES["rnn_step"]
    file, _ = written(tmp_path / "net.tflite", (kind, fields, [*operands[:-1], None], shape, results))
    with pytest.raises(CaptureError, match=r"RNN 'out0' .*: its 4 inputs are not"):
        capture(str(file))
