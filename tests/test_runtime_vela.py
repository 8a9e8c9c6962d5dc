"""Vela as an engine that only compiles: who runs what, why not, and bounds on the compiler."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from conftest import CommandLine
from instep.report.results import Bench
from instep.report.terminal import console, estimate_table
from instep.runtime import Placed, Placement, TFLiteError, available, place, run
from instep.runtime.vela import _reasons
from raw_tflite import Tensor, raw_tflite, schema

missing = available("ethos-u55-128")
with_vela = pytest.mark.skipif(missing is not None, reason=missing or "")

SHAPE = (1, 8, 8, 8)


def quantised(path: Path, last: str) -> Path:
    """An int8 convolution, an addition, and one operator more."""
    conv, add = schema.Conv2DOptionsT(), schema.AddOptionsT()
    conv.strideH = conv.strideW = 1
    conv.padding = 0
    rng = np.random.default_rng(0)
    tensors: list[Tensor] = [
        ("x", SHAPE, "int8", None, 0.05),
        ("weight", (8, 3, 3, 8), "int8", rng.integers(-127, 127, (8, 3, 3, 8)), 0.01),
        ("bias", (8,), "int32", np.zeros(8), 0.0005),
        ("filtered", SHAPE, "int8", None, 0.1),
        ("sum", SHAPE, "int8", None, 0.2),
        ("y", SHAPE, "int8", None, 0.2),
    ]
    calls = [("CONV_2D", [0, 1, 2], [3], conv), ("ADD", [3, 0], [4], add), (last, [4], [5], None)]
    return raw_tflite(path, tensors, calls, [0], [5])


@with_vela
def test_a_quantised_file_is_placed_on_the_npu_with_estimates(tmp_path: Path) -> None:
    path = quantised(tmp_path / "net.tflite", "RELU")
    found = place(path, "ethos-u55-128", out=tmp_path / "compiled.tflite")
    assert found.outcome == "compiled" and found.resident and found.left == []
    assert [(p.operator, p.tensor, p.on) for p in found.operators] == [
        ("CONV_2D", "filtered", "NPU"), ("ADD", "sum", "NPU"), ("RELU", "y", "NPU")
    ]  # fmt: skip
    assert found.operators[0].macs == found.macs == 8 * 8 * 8 * 3 * 3 * 8
    assert (
        found.cycles > 0 and found.sram >= 8 * 8 * 8 and found.per_second == pytest.approx(1 / found.seconds, rel=1e-3)
    )
    assert (tmp_path / "compiled.tflite").read_bytes()[4:8] == b"TFL3"
    larger = place(path, "ethos-u55-256")
    assert larger.operators[0].cycles < found.operators[0].cycles


@with_vela
def test_what_stays_on_the_cpu_says_why(tmp_path: Path) -> None:
    found = place(quantised(tmp_path / "net.tflite", "COS"), "ethos-u55-128")
    assert found.outcome == "compiled" and not found.resident
    assert [(p.operator, p.tensor) for p in found.left] == [("COS", "y")]
    assert found.left[0].reasons == ("Unsupported opType",)


@with_vela
def test_whatever_happens_to_the_compiler_is_a_result(tmp_path: Path) -> None:
    path = quantised(tmp_path / "net.tflite", "RELU")
    assert place(path, "ethos-u55-128", timeout=0.05).outcome == "timed out"
    assert place(path, "ethos-u55-128", memory=1 << 20).outcome == "out of memory"
    refused = place(path, "ethos-u55-128", system="No_Such_System")
    assert refused.outcome == "refused" and refused.message


def test_a_compiler_and_an_engine_are_not_each_other(tmp_path: Path) -> None:
    path = quantised(tmp_path / "net.tflite", "RELU")
    with pytest.raises(ValueError, match="runs files"):
        place(path, "litert-gpu")
    with pytest.raises(ValueError, match="only compiles"):
        run(path, [np.zeros(SHAPE, np.int8)], engine="ethos-u55-128")
    with pytest.raises(TFLiteError):
        place(tmp_path / "absent.tflite", "ethos-u55-128")


def test_reasons_are_read_to_their_end() -> None:
    log = """
Warning (supported operators) operator: LOGISTIC, ofm: 'a, b'
Reason: Operation has tensor with unsupported DataType Float32 (conv)
Feature-map dataTypes must be one of {"INT8"}

Warning (supported operators) operator: GATHER_ND, ofm: 'y'
Reason: Unsupported opType
################################################################################
Performance for NPU Grap
"""
    assert _reasons(log) == {
        "a, b": ["Operation has tensor with unsupported DataType Float32 (conv); Feature-map dataTypes must be one of "
                 '{"INT8"}'],
        "y": ["Unsupported opType"],
    }  # fmt: skip


@with_vela
def test_bench_prints_the_estimate_of_an_engine_that_only_compiles(instep: CommandLine) -> None:
    for name, last in (("all", "RELU"), ("part", "COS")):
        quantised(instep.folder / f"{name}.tflite", last)
    files = ("all.tflite", "part.tflite")
    done = instep("bench", *files, "--on", "ethos-u55-128", "--json")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["engine"] == "ethos-u55-128" and [f["median_ms"] for f in said["files"]] == [None, None]
    whole, part = (f["estimate"] for f in said["files"])
    for found in (whole, part):
        assert found["cycles"] > 0 and found["sram"] > 0 and found["flash"] > 0 and found["macs"] == 36864
        assert found["per_second"] == pytest.approx(found["clock"] / found["cycles"], rel=1e-3)
    assert [o["on"] for o in whole["operators"]] == ["NPU", "NPU", "NPU"]
    assert [(o["operator"], o["on"], o["reasons"]) for o in part["operators"]][2] == (
        "COS", "CPU", ["Unsupported opType"]
    )  # fmt: skip
    text = instep("bench", *files, "--on", "ethos-u55-128").stdout
    assert "left to the CPU of part.tflite" in text and "1 COS" in text and "Unsupported opType" in text
    assert "left to the CPU of all.tflite" not in text and "Ethos_U55_High_End_Embedded" in text


def test_a_file_that_the_compiler_refuses_has_its_message_beside_the_others() -> None:
    fine = Placement("ethos-u55-128", operators=[Placed("ADD", "y", "NPU")], cycles=7, per_second=2.5)
    files = ["fine.tflite", "bad.tflite"]
    result = Bench(
        files, {}, {"bad.tflite": "Vela refuses the file: why"}, dict.fromkeys(files, 9), 1, fine.engine,
        {"fine.tflite": fine},
    )  # fmt: skip
    assert not result.ok
    assert [(f["failed"], f["estimate"] is None) for f in result.to_json()["files"]] == [
        (None, False), ("Vela refuses the file: why", True)
    ]  # fmt: skip
    shown = console()
    with shown.capture() as captured:
        shown.print(estimate_table(result))
    assert "Vela refuses the file: why" in captured.get() and "2.5" in captured.get()


def test_a_proof_on_a_compiler_is_told_what_runs_and_what_gives_an_estimate(instep: CommandLine) -> None:
    quantised(instep.folder / "net.tflite", "RELU")
    done = instep("verify", "net.tflite", "net.tflite", "--on", "ethos-u55")
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "ethos-u55-256 only compiles" in done.stderr and "instep bench FILE --on ethos-u55-256" in done.stderr
