"""Quantised files on trial: inputs reach their integers, eight bits are the unit, losses are figures."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from instep.report.document import headline, sentence
from instep.runtime import tflite_info
from instep.runtime.info import TensorInfo
from instep.verify import Figures, verify
from instep.verify.files import verify_files
from instep.verify.inputs import InputSet
from instep.verify.quantised import integers_of

NETWORK = f"{Path(__file__).parents[1] / 'examples/uvq/networks.py'}:AggregationNetCore"


def checkpoint(name: str) -> Path:
    path = Path(os.environ.get("INSTEP_DATA", "")) / "checkpoints" / name
    if not path.is_file():
        pytest.skip(f"{name} is not here: set INSTEP_DATA to the folder that holds checkpoints/{name}")
    return path


def test_integers_round_shift_and_clip() -> None:
    held = TensorInfo(0, "x", (4,), "int8", 0, (0.5,), (-10,))
    reals = np.array([0.0, 0.74, 1e9, -1e9], np.float32)
    assert integers_of(reals, held).tolist() == [-10, -9, 127, -128]
    assert integers_of(reals, TensorInfo(0, "x", (4,), "float32", 0)) is reals


def test_an_input_of_the_proof_reaches_over_the_range_that_the_file_holds() -> None:
    from instep.graph import SourceView
    from instep.verify.quantised import in_range

    info = tflite_info(checkpoint("mlperf_tiny/pretrainedResnet_quant.tflite"))
    shape = info.tensors[info.inputs[0]].shape
    noise = np.random.default_rng(0).random(shape, np.float32)
    sets = [InputSet("noise", (noise,)), InputSet("cat.png", (noise,)), InputSet("zeros", (0 * noise,), True)]
    placed = in_range(sets, info, [SourceView.whole("x", shape)], ["x"])
    assert placed[0].arrays[0].min() <= 1 and placed[0].arrays[0].max() >= 254, "its integers stand for 0..255"
    assert placed[1].arrays[0] is noise and not placed[2].arrays[0].any(), "pictures and zeros stay what they are"


def test_a_float_file_against_its_int8_file_says_what_was_lost_and_where() -> None:
    floats, eight = (checkpoint(f"mlperf_tiny/pretrainedResnet{s}.tflite") for s in ("", "_quant"))
    verdict = verify_files(floats, eight)
    assert any("eight bits" in n for n in verdict.notes) and any("16 of 16" in n for n in verdict.notes)
    said = json.loads(json.dumps(verdict.to_json()))
    figures = said["lossy"]["figures"]
    assert figures["sqnr"] > 3 and figures["correlation"] > 0.85 and figures["top1"] == 1
    assert verdict.rows[0].verdict == "in step" and verdict.rows[0].sqnr > 45, "the input is only rounded to 0..255"
    losses = [r.sqnr for r in verdict.rows[1:]]
    assert max(losses) == losses[0] and max(losses) > 20, "the first layer loses least"
    assert headline(verdict) == verdict.verdict and "sqnr" in sentence(verdict)
    judged = verify_files(floats, eight, figures=Figures(sqnr=3, top1=1))
    assert judged.ok and headline(judged) == "good enough"
    assert not verify_files(floats, eight, figures=Figures(sqnr=60)).ok


def test_a_quantised_file_is_in_step_with_itself() -> None:
    eight = checkpoint("mlperf_tiny/pretrainedResnet_quant.tflite")
    assert verify_files(eight, eight).verdict == "in step"


@pytest.mark.parametrize("name", ["aggregation_net.tflite", "aggregation_net_int8.tflite"])
def test_a_pytorch_source_against_its_published_files(name: str) -> None:
    pytest.importorskip("torch")
    from instep.capture import capture

    file, weights = checkpoint(f"uvq/{name}"), checkpoint("uvq/aggregation_net.pth")
    captured = capture(NETWORK, weights=str(weights), inputs=[[1, 8, 8, 128], [1, 24, 24, 128]])
    verdict = verify(captured.reference, file, graph=captured.graph)
    assert verdict.verdict == "in step", verdict.summary()
    if "int8" in name:
        assert verdict.lossy is not None and 30 < verdict.lossy["figures"]["sqnr"] < 120
        assert any("eight bits" in n for n in verdict.notes)
