"""The commands about targets, as a user runs them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

import instep
from conftest import CommandLine

NETWORK = """
import torch
from torch import nn

class Grouped(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 12, 3, padding=1)
        self.mix = nn.Conv2d(12, 12, 3, padding=1, groups=6)
        self.act = nn.LeakyReLU(0.1)

    def forward(self, image):
        return self.act(self.mix(self.stem(image)))

class Sine(nn.Module):
    def __init__(self):
        super().__init__()
        self.wave = nn.Conv2d(3, 4, 1)

    def forward(self, image):
        return torch.sin(self.wave(image))

class Wider(nn.Module):
    def forward(self, image):
        return nn.functional.interpolate(image, scale_factor=3, mode="bilinear")
"""
FLOAT = """
import torch
from torch import nn

class Float(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(4, 8, 3, padding=1)
        self.depth = nn.Conv2d(8, 8, 3, padding=1, groups=8)

    def forward(self, image):
        seen = self.depth(self.stem(image))
        return torch.where(seen > 0, seen, seen * seen)
"""
SHAPE = ("--input", "1,3,16,16")


@pytest.fixture
def folder(instep: CommandLine) -> CommandLine:
    (instep.folder / "model.py").write_text(NETWORK)
    return instep


def test_targets_are_listed_with_their_evidence(instep: CommandLine) -> None:
    listed = instep("targets", "--json")
    found = {t["name"]: t for t in json.loads(listed.stdout)["targets"]}
    assert listed.returncode == 0 and {"litert-gpu", "bstm", "ethos-u-vela3", "portable-4d"} <= found.keys()
    assert found["litert-gpu"]["fallback"] == "none"
    measured = [e for e in found["litert-gpu"]["evidence"] if e["grade"] == "measured"]
    assert measured and measured[0]["runtime"]
    one = instep("targets", "litert-gpu")
    assert one.returncode == 0 and "GPU-RANK" in one.stdout and "rank <= 4" in one.stdout


def test_a_violation_has_a_scope_a_code_and_a_rewrite_and_fails_the_check(folder: CommandLine) -> None:
    said = folder("check", "model.py:Grouped", *SHAPE, "--target", "litert-gpu", "--target", "bstm", "--json")
    assert said.returncode == 1, said.stderr
    gpu, bstm = json.loads(said.stdout)["targets"]
    assert bstm["violations"] == [] and bstm["on_target"] == bstm["operators"]
    (found,) = gpu["violations"]
    assert found["code"] == "GPU-CONV-GROUPS" and found["severity"] == "wrong" and found["level"] == "error"
    assert found["scope"].startswith("mix") and found["clears"] == ["merge-groups"]
    may = folder("check", "model.py:Grouped", *SHAPE, "--target", "litert-gpu", "--json", "--no-try")
    assert json.loads(may.stdout)["targets"][0]["violations"][0]["clears"] == ["merge-groups", "split-groups"]


def test_a_conversion_for_a_target_is_accepted_by_it_and_in_step(folder: CommandLine) -> None:
    made = folder("convert", "model.py:Grouped", *SHAPE, "-t", "litert-gpu", "-o", "g.tflite", "--prove-each", "--json")
    assert made.returncode == 0, made.stderr
    result = json.loads(made.stdout)
    assert result["target"] == "litert-gpu" and result["violations"] == [] and result["verdict"] == "in step"
    assert "merge-groups" in [r["name"] for r in result["rewrites"]]
    assert folder("check", "g.tflite", "--target", "litert-gpu").returncode == 0


def test_a_file_of_another_origin_is_legalised(folder: CommandLine) -> None:
    assert folder("convert", "model.py:Grouped", *SHAPE, "-o", "plain.tflite", "--no-verify").returncode == 0
    assert folder("check", "plain.tflite", "-t", "portable-4d", "--no-run").returncode == 1
    made = folder("legalize", "plain.tflite", "-t", "portable-4d", "-o", "legal.tflite", "--json")
    assert made.returncode == 0, made.stderr
    assert json.loads(made.stdout)["verdict"] == "in step"
    assert folder("check", "legal.tflite", "-t", "portable-4d", "--no-run").returncode == 0


def test_what_cannot_be_cleared_is_an_error_and_nothing_is_written(folder: CommandLine) -> None:
    command = ("convert", "model.py:Sine", *SHAPE, "-t", "portable-4d", "-o", "s.tflite", "--no-verify")
    refused = folder(*command)
    assert refused.returncode == 1
    assert "SIN" in refused.stderr and "[PORTABLE-OPERATOR]" in refused.stderr and "--force" in refused.stderr
    assert not (folder.folder / "s.tflite").exists()
    said = json.loads(folder(*command, "--json").stdout)
    assert not said["ok"] and said["violations"][0]["code"] == "PORTABLE-OPERATOR"
    assert folder(*command, "--force").returncode == 0
    assert (folder.folder / "s.tflite").exists()


def test_a_rewrite_that_was_taken_back_is_said(folder: CommandLine) -> None:
    """Three times as wide is matrices and transposes, TRANSPOSE is not portable either, and 80 rows are many slices."""
    command = (
        "convert",
        "model.py:Wider",
        "--input",
        "1,3,80,80",
        "-t",
        "portable-4d",
        "-o",
        "w.tflite",
        "--no-verify",
    )
    refused = folder(*command)
    assert refused.returncode == 1 and "split-resize was tried here and taken back" in refused.stderr
    (checked,) = json.loads(folder("check", *command[1:6], "--json").stdout)["targets"]
    assert [(v["clears"], v["tried"]) for v in checked["violations"]] == [
        ([], "the rewrite split-resize was tried here and taken back: it leaves 2 TRANSPOSE [PORTABLE-OPERATOR]")
    ]
    forced = json.loads(folder(*command, "--force", "--json").stdout)
    (left,) = forced["violations"]
    assert left["operator"].startswith("RESIZE") and "TRANSPOSE [PORTABLE-OPERATOR]" in left["tried"]
    assert "TRANSPOSE" not in forced["ops"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("check", "model.py:Sine", "-t", "litertgpu"), "did you mean litert-gpu"),
        (("check", "model.py:Sine", "-t", "mine.yaml"), "no such profile file"),
        (("check", "nothing.tflite", "-t", "bstm"), "nothing.tflite"),
        (("check", "model.py:Sine"), "--target"),
        (("legalize", "model.py:Sine", "-t", "bstm", "-o", "x.tflite"), "takes a .tflite file"),
        (("targets", "nowhere"), "no target 'nowhere'. Known: bstm"),
    ],
)
def test_a_usage_error_says_what_to_do(folder: CommandLine, arguments: tuple[str, ...], says: str) -> None:
    done = folder(*arguments)
    assert done.returncode == 2
    assert says in done.stderr and "Traceback" not in done.stderr


def test_a_damaged_file_is_one_message(folder: CommandLine) -> None:
    Path(folder.folder / "bad.tflite").write_bytes(b"\x10\x00\x00\x00TFL3" + b"\xff" * 64)
    done = folder("check", "bad.tflite", "-t", "litert-gpu")
    assert done.returncode == 2 and "damaged TFLite file" in done.stderr


def test_the_range_of_float16_is_measured_on_a_run(folder: CommandLine) -> None:
    (folder.folder / "big.py").write_text(
        "import torch\n"
        "class Big(torch.nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.norm = torch.nn.LayerNorm(64)\n"
        "    def forward(self, x):\n"
        "        return self.norm(x * 3000.0)\n"
    )
    command = ("check", "big.py:Big", "--input", "1,8,64", "-t", "litert-gpu", "--json")
    found = json.loads(folder(*command).stdout)["targets"][0]
    squares = [v for v in found["violations"] if v["code"] == "GPU-HALF-RANGE"]
    assert ["scale-before-square"] in [v["clears"] for v in squares if v["operator"] == "MUL"] and found["ran_on"]
    assert folder(*command).returncode == 0 and folder(*command, "--strict").returncode == 1
    assert json.loads(folder(*command, "--no-run").stdout)["targets"][0]["violations"] == []


@pytest.mark.parametrize("target", ["ethos-u55", "ethos-u65", "ethos-u85", "ethos-u-vela3"])
def test_a_float_network_for_an_npu_of_eight_bits_has_warnings_alone(folder: CommandLine, target: str) -> None:
    """What is float stays on the processor, which computes it right, whichever operator it is."""
    (folder.folder / "float.py").write_text(FLOAT)
    plain = ("convert", "float.py:Float", "--input", "1,4,8,8", "-o", "plain.tflite", "--no-verify")
    assert folder(*plain).returncode == 0
    said = folder("check", "plain.tflite", "--target", target, "--json")
    assert said.returncode == 0, said.stderr
    (found,) = json.loads(said.stdout)["targets"]
    assert found["errors"] == 0 and {v["level"] for v in found["violations"]} == {"warning"}
    assert {"CONV_2D", "DEPTHWISE_CONV_2D", "SELECT_V2"} <= {v["operator"] for v in found["violations"]}
    made = folder("convert", "float.py:Float", "--input", "1,4,8,8", "-t", target, "-o", "npu.tflite")
    assert made.returncode == 0, made.stderr


def test_a_violation_of_the_networks_own_output_says_that_it_is_one() -> None:
    class Head(nn.Module):
        """A detector's: boxes of each anchor and place, in five axes."""

        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 18, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            n, _, h, w = x.shape
            return self.conv(x).view(n, 3, 6, h, w).permute(0, 1, 3, 4, 2)

    own = "it is an output of the network, which rewrites leave as it is: return it in another form"
    (found,) = instep.check(Head().eval(), ["bstm"], inputs=["1,3,8,8"]).judgements
    assert [own in v.message for v in found.violations] == [True]
    for untried in (False, True):
        (found,) = instep.check(Head().eval(), ["bstm"], inputs=["1,3,8,8"], attempt=untried).judgements
        assert [v.to_json()["clears"] for v in found.violations] == [[]]
        assert "clears it" not in str(found.violations[0])
