"""Files run in a child process: values, many input sets, crashes and hangs as results; damage is one sentence."""

from __future__ import annotations

import json
import os
import random
import select
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from instep.emit.tflite import write
from instep.graph import Graph, Value, ops
from instep.runtime import Job, TFLiteError, bench, run, run_jobs, run_many, tflite_info
from instep.runtime.child import command, environment


def small_net(path: Path) -> Path:
    graph = Graph()
    x = Value("image", (1, 6, 6, 3))
    graph.inputs, graph.input_names = [x], ["image"]
    weight = graph.constant(np.random.default_rng(0).standard_normal((4, 3, 3, 3)).astype(np.float32), "weight")
    hidden = graph.add(ops.Conv2d(layout="NHWC"), [x, weight], scope="conv").output
    result = graph.add(ops.Sigmoid(), [hidden], scope="sigmoid").output
    graph.outputs, graph.output_names = [result], ["result"]
    write(graph, path)
    return path


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_net(tmp_path_factory.mktemp("net") / "net.tflite")


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((1, 6, 6, 3)).astype(np.float32)


def test_intermediate_values_come_by_name(net: Path) -> None:
    result = run(net, [picture(0)], engine="builtin", keep_all=True)
    assert set(result.tensors) == {"image", "conv", "sigmoid"}
    np.testing.assert_array_equal(result.tensors["image"], picture(0))
    np.testing.assert_allclose(1 / (1 + np.exp(-result.tensors["conv"])), result.outputs[0], rtol=1e-5)


def test_only_the_tensors_asked_for_are_handed_back(net: Path) -> None:
    job = Job(net, [[picture(0)]], "builtin", keep_all=True, handed=frozenset({"conv"}))
    result = run_jobs([job])[0][0]
    assert set(result.tensors) == {"conv"}
    whole = run(net, [picture(0)], engine="builtin", keep_all=True)
    np.testing.assert_array_equal(result.tensors["conv"], whole.tensors["conv"])


def test_many_sets_in_one_child_are_each_their_own(net: Path) -> None:
    sets = [[picture(i)] for i in range(4)]
    together = run_many(net, sets)
    alone = [run(net, inputs) for inputs in sets]
    for a, b in zip(together, alone, strict=True):
        np.testing.assert_array_equal(a.outputs[0], b.outputs[0])
    assert not np.array_equal(together[0].outputs[0], together[1].outputs[0])


def test_a_wrong_shape_is_a_message(net: Path) -> None:
    result = run(net, [np.zeros((1, 3, 6, 6), np.float32)])
    assert result.failed and not result.crashed
    assert "[1, 6, 6, 3]" in result.message and "[1, 3, 6, 6]" in result.message


def test_reading_intermediates_behind_a_delegate_is_refused(net: Path) -> None:
    with pytest.raises(ValueError, match="builtin"):
        run(net, [picture(0)], keep_all=True)


def test_a_hang_is_a_result_and_later_jobs_still_run(net: Path) -> None:
    result = run(net, [picture(0)], timeout=0.01)
    assert result.crashed and "did not finish" in result.message


def test_a_child_ends_with_a_parent_that_is_killed_and_tidies_up(tmp_path: Path) -> None:
    # a job that waits for its input for ever
    folder = tmp_path / "run"
    folder.mkdir()
    os.mkfifo(folder / "input0.npy")
    job = {"path": str(small_net(tmp_path / "net.tflite")), "engine": "builtin", "threads": 1, "keep_all": False}
    plan = {"jobs": [job | {"handed": None, "sets": [["input0.npy"]]}], "address_space": 0}
    (folder / "jobs.json").write_text(json.dumps(plan))
    end, held = os.pipe()  # at its end when no process holds it any more
    code = (
        "import subprocess, time\n"
        f"subprocess.Popen({command('run', str(folder), '0')!r}, stderr=subprocess.DEVNULL, pass_fds=[{held}])\n"
        "time.sleep(600)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], env=environment(), pass_fds=[held])
    os.close(held)
    try:
        until = time.monotonic() + 60
        while not (folder / "current").exists():
            assert parent.poll() is None and time.monotonic() < until
            time.sleep(0.02)
    finally:
        parent.kill()
        parent.wait()
    assert select.select([end], [], [], 30)[0] and os.read(end, 1) == b""
    os.close(end)
    assert not folder.exists()


def test_a_bad_file_does_not_take_the_others_with_it(net: Path, tmp_path: Path) -> None:
    data = bytearray(net.read_bytes())
    for at in range(64, len(data) - 64, 7):
        data[at] ^= 0xFF
    bad = tmp_path / "bad.tflite"
    bad.write_bytes(data)
    jobs = [Job(net, [[picture(0)]]), Job(bad, [[picture(0)]]), Job(net, [[picture(1)]])]
    first, broken, last = (results[0] for results in run_jobs(jobs))
    assert broken.failed and broken.message
    np.testing.assert_array_equal(last.outputs[0], run(net, [picture(1)]).outputs[0])
    assert not first.failed


def test_a_file_runs_under_a_bound_that_the_process_was_born_with(net: Path) -> None:
    script = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30)); import numpy as np\n"
        "from instep.runtime import run, tflite_info; info = tflite_info(sys.argv[1])\n"
        "shapes = [info.tensors[i].shape for i in info.inputs]\n"
        "print(run(sys.argv[1], [np.zeros(s, np.float32) for s in shapes]).outcome)"
    )
    done = subprocess.run([sys.executable, "-c", script, net], capture_output=True, text=True, env=environment())
    assert done.stdout == "ran\n", done.stderr


def test_bench_interleaves_and_isolates(net: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.tflite"
    bad.write_bytes(b"TFL3" * 40)
    result = bench([net, bad], repeats=3, target_ms=1)
    assert len(result.samples[str(net)]) == len(result.cpu[str(net)]) == 3
    assert result.median[str(net)] > 0
    assert str(bad) in result.failed and str(bad) not in result.median


def test_a_file_describes_itself(net: Path) -> None:
    info = tflite_info(net)
    assert info.histogram == {"CONV_2D": 1, "LOGISTIC": 1}
    assert info.max_rank == 4
    weight = next(t for t in info.tensors if t.name == "weight")
    assert (weight.shape, weight.constant_bytes) == ((4, 3, 3, 3), 4 * 27 * 4)
    assert info.instep["version"]


@pytest.mark.parametrize("content", [b"", b"hello", b"\0" * 100, b"\x1c\0\0\0TFL3" + b"\xff" * 200])
def test_what_is_no_tflite_file_is_one_sentence(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.tflite"
    path.write_bytes(content)
    with pytest.raises(TFLiteError, match=r"x\.tflite"):
        tflite_info(path)
    with pytest.raises(TFLiteError):
        tflite_info(tmp_path / "missing.tflite")


def test_damage_anywhere_is_read_or_refused_but_never_a_traceback(net: Path, tmp_path: Path) -> None:
    sound = net.read_bytes()
    path = tmp_path / "x.tflite"
    rng = random.Random(0)
    refused = 0
    for _ in range(400):
        data = bytearray(sound)
        for _ in range(rng.randint(1, 6)):
            at = rng.randrange(8, len(data))
            data[at] = rng.choice((0, 0x7F, 0x80, 0xFF, rng.randrange(256)))
        if rng.random() < 0.2:
            data = data[: rng.randrange(8, len(data))]
        path.write_bytes(data)
        try:
            info = tflite_info(path)
            assert info.max_rank <= 64 and info.histogram is not None and isinstance(info.instep, dict)
        except TFLiteError:
            refused += 1
    assert refused > 20
