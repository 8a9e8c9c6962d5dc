"""Loops, state, branches and complex numbers in files of Google's converter: unrolled, and equal to LiteRT."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from instep.api import convert, port, verify
from instep.capture import CaptureError, capture
from instep.graph import ops
from instep.graph.validate import validate
from instep.runtime import run, tflite_info
from instep.runtime.sessions import open_session
from instep.verify.origin import verify_origin

NAMES = (
    "lstm", "gru", "bidirectional", "cells", "stateful", "fused", "fused_both", "fused_half",
    "spectrum", "decided",
)  # fmt: skip


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    for needed in ("tensorflow", "tf_keras"):
        pytest.importorskip(needed)
    folder = tmp_path_factory.mktemp("converted")
    cases = Path(__file__).with_name("tflite_recurrent_cases.py")
    made = subprocess.run([sys.executable, str(cases), str(folder)], env=os.environ, capture_output=True, text=True)
    assert made.returncode == 0, made.stderr[-2000:]
    return folder


def names_of(file: Path) -> set[str]:
    return {op.name for op in tflite_info(file).ops}


@pytest.mark.parametrize("name", NAMES)
def test_a_file_of_the_converter_is_read_as_litert_runs_it(files: Path, name: str) -> None:
    file = files / f"{name}.tflite"
    captured = capture(str(file))
    validate(captured.graph, stage="captured")
    rng = np.random.default_rng(1)
    for sign in (1, -1):
        inputs = [sign * abs(rng.standard_normal(v.shape)).astype(np.float32) for v in captured.graph.inputs]
        result = run(file, inputs, engine="builtin")
        assert not result.failed, result.message
        table = captured.reference.run(inputs, dtype="float64")
        for value, array in zip(captured.graph.outputs, result.outputs, strict=True):
            np.testing.assert_allclose(array, table[value.name], atol=2e-5 * max(1.0, abs(array).max()))


def test_the_files_are_what_they_are_said_to_be(files: Path) -> None:
    assert "WHILE" in names_of(files / "gru.tflite") and "WHILE" in names_of(files / "decided.tflite")
    assert {"CALL_ONCE", "READ_VARIABLE", "ASSIGN_VARIABLE"} <= names_of(files / "stateful.tflite")
    assert "UNIDIRECTIONAL_SEQUENCE_LSTM" in names_of(files / "fused.tflite")
    assert {"RFFT2D", "REAL"} <= names_of(files / "spectrum.tflite")


def test_an_unrolled_list_is_joined_once(files: Path) -> None:
    """TensorFlow joins the list anew in every round; what stays is one join of all steps."""
    nodes = capture(str(files / "lstm.tflite")).graph.nodes
    joins = [n for n in nodes if isinstance(n.op, ops.Concat)]
    assert len(joins) == 1 and len(joins[0].inputs) == 5
    assert sum(isinstance(n.op, ops.Linear) for n in nodes) == 10


@pytest.mark.parametrize("engine", ["builtin", "xnnpack"])
@pytest.mark.parametrize("name", ["fused", "stateful"])
def test_a_run_of_a_network_with_state_starts_afresh(files: Path, name: str, engine: str) -> None:
    file = files / f"{name}.tflite"
    x = np.ones((1, 5, 3), np.float32)
    session = open_session(str(file), engine)
    session.give([x])
    session.invoke()
    first = session.read(session.outputs[0]).copy()
    session.invoke()
    assert not np.allclose(session.read(session.outputs[0]), first)  # LiteRT goes on from where it was
    session.give([x])
    session.invoke()
    assert np.array_equal(session.read(session.outputs[0]), first)


@pytest.mark.parametrize("name", ["gru", "fused", "stateful", "spectrum"])
def test_what_was_read_is_converted_and_proved(files: Path, name: str, tmp_path: Path) -> None:
    file, out = files / f"{name}.tflite", tmp_path / "out.tflite"
    result = convert(str(file), out)
    assert result.ok and result.verdict is not None
    assert any("itself computes what was captured from it" in note for note in result.verdict.notes)
    assert not names_of(out) & {"WHILE", "CALL_ONCE", "UNIDIRECTIONAL_SEQUENCE_LSTM", "RFFT2D"}
    assert verify(str(file), out).ok


def test_state_is_remarked(files: Path) -> None:
    for name in ("fused", "stateful"):
        assert any("keeps state between runs (2 tensors)" in n for n in capture(str(files / f"{name}.tflite")).notes)
    assert not any("state" in n for n in capture(str(files / "gru.tflite")).notes)


def test_tensors_of_the_file_itself_anchor_what_was_read(files: Path) -> None:
    """No value of a loop's round takes the name of a tensor of the file, by which the two are compared."""
    captured = capture(str(files / "cells.tflite"))
    verdict = verify_origin(captured.reference, files / "cells.tflite", captured.graph)
    assert verdict is not None and verdict.ok


@pytest.mark.parametrize(("to", "suffix"), [("torch", ".py"), ("keras", ".py"), ("text", ".yaml")])
@pytest.mark.parametrize("name", ["gru", "fused"])
def test_loops_go_on_into_other_forms(files: Path, name: str, to: str, suffix: str, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    out = tmp_path / f"net{suffix}"
    assert port(str(files / f"{name}.tflite"), out, to=to).ok
    assert "for i in range(" in out.read_text()


def test_a_loop_whose_end_is_computed_is_refused(files: Path) -> None:
    with pytest.raises(CaptureError, match=r"WHILE '.*' \(asked.tflite:\d\).*how many rounds"):
        capture(str(files / "asked.tflite"))
