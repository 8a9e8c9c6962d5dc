"""The command line through its real entry point: what is printed, where, with which exit status, and what is left."""

from __future__ import annotations

import importlib.util
import json
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

NETWORK = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, width=4, scale=2):
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        self.norm = nn.BatchNorm2d(width)
        self.tail = nn.Conv2d(width, 3 * scale * scale, 3, padding=1)
        self.shuffle = nn.PixelShuffle(scale)

    def forward(self, image):
        return self.shuffle(self.tail(torch.nn.functional.leaky_relu(self.norm(self.stem(image)), 0.1)))

def net(width=4):
    torch.manual_seed(0)
    made = Net(width)
    made.norm.running_mean.uniform_(-1, 1)
    made.norm.running_var.uniform_(0.5, 2)
    return made.eval()

class Inverse(nn.Module):
    def forward(self, x):
        return torch.linalg.inv(x)

class Branchy(nn.Module):
    def forward(self, x):
        return x + 1 if x.sum() > 0 else x - 1

def not_a_module():
    return 42
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """One conversion of the small network, looked at by many tests."""
    from conftest import CommandLine

    folder = tmp_path_factory.mktemp("made")
    (folder / "model.py").write_text(NETWORK)
    line = CommandLine(folder)
    run = line.fresh(
        "convert", "model.py:net", "--input", "1,3,16,20", "-o", "net.tflite", "--report", "net.html", "--json",
        "--prove-each",
    )  # fmt: skip
    return {"folder": folder, "run": run, "line": line}


def failure(run: subprocess.CompletedProcess[str], *needles: str) -> None:
    """A usage error: status 2, one message on stderr that names everything in ``needles``, no traceback."""
    assert run.returncode == 2, run.stdout + run.stderr
    assert run.stdout == ""
    assert "Traceback" not in run.stderr
    assert "error" in run.stderr.lower()
    for needle in needles:
        assert needle in run.stderr, run.stderr


# -- what works ------------------------------------------------------------------------------------------------------
def test_convert_prints_exactly_one_object_and_the_file_is_in_step(made: dict[str, Any]) -> None:
    run = made["run"]
    assert run.returncode == 0, run.stdout + run.stderr
    said = json.loads(run.stdout)
    assert run.stdout.count("\n") == 1
    assert said["verdict"] == "in step"
    assert 0 < said["noise_ratio"] <= 10
    assert said["correlation"] > 0.999999
    assert {"capture", "rewrite", "emit", "verify"} <= said["seconds"].keys()
    assert said["target"] is None and said["violations"] == []
    assert said["bytes"] == (made["folder"] / "net.tflite").stat().st_size
    # the batch norm went into the convolution, and PixelShuffle is one operator
    assert said["ops"]["CONV_2D"] == 2
    assert said["ops"]["DEPTH_TO_SPACE"] == 1
    assert not {"MUL", "SUB", "TRANSPOSE", "GATHER_ND"} & said["ops"].keys()
    assert said["max_rank"] == 4
    worst = said["worst"][0]
    assert {"scope", "operator", "origin", "ratio", "diagnosis"} <= worst.keys()


def test_every_rewrite_that_ran_was_proved(made: dict[str, Any]) -> None:
    rewrites = json.loads(made["run"].stdout)["rewrites"]
    assert rewrites
    assert all(r["proof"] is not None and r["proof"] <= 10 for r in rewrites)


def test_only_what_was_asked_for_is_left_behind(made: dict[str, Any]) -> None:
    left = {p.name for p in made["folder"].iterdir()} - {"__pycache__", "model.py"}
    assert {"net.tflite", "net.html"} <= left
    assert not [name for name in left if name.startswith(".")]


def test_the_file_carries_its_source_and_proof(made: dict[str, Any]) -> None:
    run = made["line"]("show", "net.tflite", "--json")
    assert run.returncode == 0, run.stderr
    facts = json.loads(run.stdout)["facts"]
    assert facts["source"] == "model.py:net"
    assert facts["proof"]["verdict"] == "in step"


def test_io_nchw_keeps_the_layout_of_the_source(made: dict[str, Any]) -> None:
    run = made["line"]("convert", "model.py:net", "--input", "1,3,16,20", "--io", "nchw", "-o", "nchw.tflite", "--json")
    assert run.returncode == 0, run.stderr
    shown = json.loads(made["line"]("show", "nchw.tflite", "--json").stdout)
    assert shown["inputs"][0]["shape"] == [1, 3, 16, 20]
    assert shown["outputs"][0]["shape"] == [1, 3, 32, 40]
    default = json.loads(made["line"]("show", "net.tflite", "--json").stdout)
    assert default["inputs"][0]["shape"] == [1, 16, 20, 3]
    assert default["outputs"][0]["shape"] == [1, 32, 40, 3]
    # the two files are the same function, and are aligned although no tensor has the other's layout
    both = made["line"]("verify", "net.tflite", "nchw.tflite", "--json")
    assert both.returncode == 0, both.stdout + both.stderr
    assert json.loads(both.stdout)["in_step"] >= 4


def test_two_files_that_differ_in_one_slope_part_at_the_activation(made: dict[str, Any]) -> None:
    (made["folder"] / "slope.py").write_text(NETWORK.replace("0.1)))", "0.2)))"))
    line = made["line"]
    assert line("convert", "slope.py:net", "--input", "1,3,16,20", "--no-verify", "-o", "slope.tflite").returncode == 0
    run = line("verify", "net.tflite", "slope.tflite", "--json")
    assert run.returncode == 1, run.stdout + run.stderr
    said = json.loads(run.stdout)
    assert said["verdict"] == "out of step"
    assert said["first_out_of_step"]["operator"] == "LeakyRelu"


def test_half_weights_are_judged_in_their_own_rounding_or_by_figures(made: dict[str, Any]) -> None:
    whole = (made["folder"] / "net.tflite").stat().st_size
    half = ["convert", "model.py:net", "--input", "1,3,16,20", "--fp16", "-o", "half.tflite", "--json"]
    run = made["line"](*half)
    assert run.returncode == 0, run.stdout + run.stderr
    said = json.loads(run.stdout)
    assert said["verdict"] == "in step"
    assert any("float16" in note for note in said["notes"])  # the noise is that of eleven bits then
    assert said["bytes"] < whole + 1024
    strict = made["line"](*half, "--min", "sqnr=200")
    assert strict.returncode == 1
    lossy = json.loads(strict.stdout)["lossy"]
    assert lossy["failed"] and 50 < lossy["figures"]["sqnr"] < 120
    failure(made["line"](*half, "--min", "beauty=3"), "beauty")


def test_verify_agrees_after_the_fact_and_notices_another_network(made: dict[str, Any]) -> None:
    line = made["line"]
    (made["folder"] / "other.py").write_text(NETWORK.replace("0.1)))", "0.2)))"))
    same = line("verify", "model.py:net", "net.tflite", "--input", "1,3,16,20")
    assert same.returncode == 0, same.stdout + same.stderr
    assert "in step" in same.stdout
    other = line("verify", "other.py:net", "net.tflite", "--input", "1,3,16,20", "--json")
    assert other.returncode == 1, other.stdout + other.stderr
    said = json.loads(other.stdout)
    assert said["verdict"] == "out of step"
    assert "other.py" in said["first_out_of_step"]["origin"]


def test_show_prints_the_tree_with_its_totals(made: dict[str, Any]) -> None:
    run = made["line"]("show", "model.py:net", "--input", "1,3,16,20", "--json")
    assert run.returncode == 0, run.stderr
    said = json.loads(run.stdout)
    # 3·4·9 + 4, batch norm 4 + 4, 4·12·9 + 12
    assert said["parameters"] == 112 + 8 + 444
    assert said["macs"] == 16 * 20 * (3 * 4 * 9 + 4 * 12 * 9)
    names = {r["name"] for r in said["lines"]}
    assert {"stem", "norm", "tail", "shuffle"} <= names
    text = made["line"]("show", "model.py:net", "--input", "1,3,16,20").stdout
    assert "stem" in text and "parameters" in text


def test_bench_measures_each_file(made: dict[str, Any]) -> None:
    run = made["line"]("bench", "net.tflite", "net.tflite", "--repeats", "2", "--json")
    assert run.returncode == 0, run.stderr
    files = json.loads(run.stdout)["files"]
    assert [f["file"] for f in files] == ["net.tflite", "net.tflite"]
    assert all(f["median_ms"] > 0 for f in files)


def test_quiet_is_one_line(made: dict[str, Any]) -> None:
    run = made["line"]("verify", "model.py:net", "net.tflite", "--input", "1,3,16,20", "-q")
    assert run.stdout.split() == ["in", "step", "net.tflite"]
    run = made["line"](
        "convert", "model.py:net", "--input", "1,3,16,20", "-o", "unproved.tflite", "--no-verify", "--quiet"
    )
    assert run.stdout.splitlines() == ["not proved  unproved.tflite"] and run.returncode == 0
    run = made["line"]("export", "model.py:net", "--input", "1,3,16,20", "--to", "text", "-o", "quiet.yaml", "-q")
    assert (run.stdout, run.returncode) == ("", 0), run.stderr


def test_an_engine_that_takes_too_long_is_a_verdict(made: dict[str, Any]) -> None:
    run = made["line"](
        "verify", "model.py:net", "net.tflite", "--input", "1,3,16,20", "--on", "builtin", "--timeout", "0.01", "-q"
    )
    assert run.stdout.split() == ["timed", "out", "net.tflite"], run.stderr
    assert run.returncode == 1


# -- what is light ---------------------------------------------------------------------------------------------------
def python(root: Path, code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(root / "src")}
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, env=environment)


@pytest.mark.parametrize("arguments", [["--help"], ["convert", "--help"], ["--version"]])
def test_help_imports_no_framework(arguments: list[str], root: Path) -> None:
    code = (
        "import sys; from instep.cli import main\n"
        "try: main()\n"
        "finally: print(sorted({'numpy', 'torch', 'tensorflow', 'ai_edge_litert'} & set(sys.modules)), file=sys.stderr)"
    )
    run = python(root, code, *arguments)
    assert run.returncode == 0, run.stderr
    assert run.stderr.strip() == "[]"


def test_importing_the_package_imports_no_framework_and_offers_the_verbs(root: Path) -> None:
    code = (
        "import sys, instep\n"
        "assert not {'numpy', 'torch', 'typer', 'rich'} & set(sys.modules), sys.modules.keys()\n"
        "import instep.capture, instep.verify\n"
        "assert callable(instep.capture) and callable(instep.verify) and callable(instep.convert)\n"
        "assert 'torch' not in sys.modules\n"
        "from instep.graph import OPERATORS\n"
        "@instep.operator\n"
        "class Own(instep.Operator):\n"
        "    pass\n"
        "assert OPERATORS['Own'] is Own and callable(instep.decomposes) and callable(instep.handles) and instep.Spec\n"
    )
    run = python(root, code)
    assert run.returncode == 0, run.stderr


# -- what goes wrong -------------------------------------------------------------------------------------------------
@pytest.fixture
def model(instep: Any) -> Any:
    (instep.folder / "model.py").write_text(NETWORK)
    return instep


def left(folder: Path) -> set[str]:
    return {p.name for p in folder.iterdir()} - {"__pycache__", "model.py"}


def test_no_command_line_at_all_is_a_usage_error(instep: Any) -> None:
    assert instep("convert").returncode == 2
    assert instep("no-such-verb").returncode == 2


def test_a_missing_source_file(instep: Any) -> None:
    failure(instep("convert", "absent.py:net", "--input", "1,3,8,8", "-o", "a.tflite"), "absent.py")
    assert left(instep.folder) == set()


def test_a_missing_factory_and_one_that_makes_no_module(model: Any) -> None:
    failure(model("show", "model.py:nett", "--input", "1,3,8,8"), "nett", "model.py")
    failure(model("show", "model.py:not_a_module", "--input", "1,3,8,8"), "not_a_module")


@pytest.mark.parametrize("shape", ["1,3,a,8", "1,3,-8,8", "", "x=1,3"])
def test_a_shape_that_is_none(model: Any, shape: str) -> None:
    failure(model("convert", "model.py:net", "--input", shape, "-o", "a.tflite"))
    assert left(model.folder) == set()


def test_a_shape_that_does_not_fit_names_the_layer(model: Any) -> None:
    run = model("convert", "model.py:net", "--input", "1,5,8,8", "-o", "a.tflite")
    failure(run, "5")
    assert left(model.folder) == set()


def test_an_unsupported_operator_is_named_with_its_place(model: Any) -> None:
    run = model("convert", "model.py:Inverse", "--input", "1,3,8,8", "-o", "a.tflite")
    failure(run, "inv", "model.py")
    assert left(model.folder) == set()


def test_control_flow_on_data_is_explained(model: Any) -> None:
    run = model("convert", "model.py:Branchy", "--input", "1,3,8,8", "-o", "a.tflite")
    failure(run, "model.py")
    assert left(model.folder) == set()


def test_weights_that_do_not_fit_list_the_keys(model: Any) -> None:
    import numpy as np
    from safetensors.numpy import save_file

    weights = {"stem.weight": np.zeros((4, 3, 3, 3), np.float32), "steam.bias": np.zeros(4, np.float32)}
    save_file(weights, model.folder / "w.safetensors")
    run = model("convert", "model.py:net", "--weights", "w.safetensors", "--input", "1,3,8,8", "-o", "a.tflite")
    failure(run, "steam.bias", "stem.bias")
    assert left(model.folder) == {"w.safetensors"}


class Bomb:
    def __reduce__(self) -> Any:
        return (os.system, ("touch exploded",))


def test_a_pickle_that_runs_code_does_not_run(model: Any) -> None:
    (model.folder / "bomb.pth").write_bytes(pickle.dumps({"stem.weight": Bomb()}))
    run = model("convert", "model.py:net", "--weights", "bomb.pth", "--input", "1,3,8,8", "-o", "a.tflite")
    failure(run, "bomb.pth")
    assert left(model.folder) == {"bomb.pth"}


def test_an_unknown_timm_name(instep: Any) -> None:
    if importlib.util.find_spec("timm") is None:
        pytest.skip("timm is not installed")
    failure(instep("convert", "timm:resnet19", "-o", "a.tflite"), "resnet19")


def test_a_truncated_and_a_foreign_file(made: dict[str, Any], instep: Any) -> None:
    whole = (made["folder"] / "net.tflite").read_bytes()
    (instep.folder / "cut.tflite").write_bytes(whole[: len(whole) // 3])
    (instep.folder / "text.tflite").write_text("this is no network at all, only a line of text")
    for name in ("cut.tflite", "text.tflite", "absent.tflite"):
        failure(instep("show", name), name)
        failure(instep("bench", name), name)
    (instep.folder / "model.py").write_text(NETWORK)
    failure(instep("verify", "model.py:net", "cut.tflite", "--input", "1,3,16,20"), "cut.tflite")


def test_places_that_cannot_be_written(model: Any) -> None:
    (model.folder / "folder").mkdir()
    start = time.monotonic()
    failure(model("convert", "model.py:net", "--input", "1,3,8,8", "-o", "folder"), "folder")
    failure(model("convert", "model.py:net", "--input", "1,3,8,8", "-o", "nowhere/a.tflite"), "nowhere")
    failure(model("convert", "model.py:net", "--input", "1,3,8,8", "-o", "a.tflite", "--report", "folder"), "folder")
    assert time.monotonic() - start < 30  # refused before any work
    assert left(model.folder) == {"folder"}


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write everywhere")
def test_a_read_only_folder(model: Any) -> None:
    (model.folder / "locked").mkdir(mode=0o555)
    failure(model("convert", "model.py:net", "--input", "1,3,8,8", "-o", "locked/a.tflite"), "locked")


def test_no_picture_where_pictures_were_promised(model: Any) -> None:
    (model.folder / "empty").mkdir()
    run = model("convert", "model.py:net", "--input", "1,3,16,16", "--images", "empty", "-o", "a.tflite")
    failure(run, "empty")
    assert left(model.folder) == {"empty"}


def heeding_ctrl_c() -> None:
    """A shell starts what runs in its background with Ctrl-C ignored, which children inherit: the tests too."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.parametrize("asked", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_leaves_nothing_and_says_130(model: Any, asked: signal.Signals) -> None:
    slow = "\ndef slow():\n    open('begun', 'w').close()\n    time.sleep(60)\n"
    (model.folder / "slow.py").write_text("import time\n" + NETWORK + slow)
    command = [sys.executable, "-m", "instep", "convert", "slow.py:slow", "--input", "1,3,8,8", "-o", "a.tflite"]
    child = subprocess.Popen(
        command, cwd=model.folder, env=model.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True, preexec_fn=heeding_ctrl_c,
    )  # fmt: skip
    until = time.monotonic() + 60
    while not (model.folder / "begun").exists() and time.monotonic() < until:
        time.sleep(0.1)
    child.send_signal(asked)
    _, said = child.communicate(timeout=60)
    assert child.returncode == 130, said
    assert "Traceback" not in said
    assert left(model.folder) == {"slow.py", "begun"}


#: Runs the command line and sends Ctrl-C to itself when the module that the first argument names is looked for.
INTERRUPTED = """
import os, signal, sys
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == wanted:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), signal.SIGINT)
wanted = sys.argv.pop(1)
sys.meta_path.insert(0, Finder())
from instep.cli import main
raise SystemExit(main())
"""


@pytest.mark.parametrize("module", ["torch._C", "torch.fx", "optional"])
def test_ctrl_c_during_an_import_is_not_lost(model: Any, module: str) -> None:
    """Many a package imports what may be missing under a bare ``except:``, which takes a KeyboardInterrupt along."""
    careless = "try:\n    import optional\nexcept:\n    optional = None\n"
    (model.folder / "careless.py").write_text(careless + NETWORK)
    command = [sys.executable, "-c", INTERRUPTED, module, "convert", "careless.py:net", "--input", "1,3,8,8"]
    run = subprocess.run(
        [*command, "-o", "a.tflite"], cwd=model.folder, env=model.environment(), capture_output=True, text=True,
        timeout=120, preexec_fn=heeding_ctrl_c,
    )  # fmt: skip
    assert run.returncode == 130, run.stderr
    assert "Traceback" not in run.stderr and "nothing was written" in run.stderr
    assert left(model.folder) == {"careless.py"}


def test_pictures_reach_the_network_in_the_range_that_it_was_trained_on(tmp_path: Path) -> None:
    from PIL import Image

    from conftest import CommandLine

    line = CommandLine(tmp_path)
    (tmp_path / "model.py").write_text(NETWORK)
    Image.new("RGB", (20, 16), (200, 100, 50)).save(tmp_path / "brown.png")
    options = ("--input", "1,3,16,20", "--images", "brown.png", "-o", "net.tflite", "--json")
    run = line("convert", "model.py:net", *options, "--pixel-max", "255", "--mean", "123,116,103", "--std", "58,57,57")
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout)["verdict"] == "in step"
    failure(line("convert", "model.py:net", *options, "--std", "0"), "--std")
    failure(line("convert", "model.py:net", *options, "--mean", "a,b"), "--mean a,b")
