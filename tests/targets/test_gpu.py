"""What check says of a file for litert-gpu is what LiteRT's GPU delegate does with it."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from test_legalize import Sketch, two, weights, with_constant

from instep.capture.tflite.capture import capture_tflite
from instep.emit.tflite import write
from instep.graph import Graph, ops
from instep.rewrite.pipelines import to_tflite
from instep.runtime import Job, RunResult, available, run_jobs
from instep.targets import check_facts, facts_of_graph, load
from instep.targets.legalize import legalize
from instep.targets.probe import questions, recorded

missing = available("litert-gpu")
pytestmark = pytest.mark.skipif(missing is not None, reason=missing or "")


#: name → a graph, right and wrong ones side by side
FILES: dict[str, Callable[[], Graph]] = {
    f"{list(x)} times a constant {list(c)}": with_constant(ops.Mul(), x, c)
    for x, c in [
        ((1, 1, 64), (1, 1, 1, 64)),
        ((1, 64), (1, 1, 64)),
        ((1, 64), (1, 4, 5, 64)),
        ((1, 64), (5, 64)),
        ((1, 1, 64), (4, 64)),
        ((1, 7, 64), (1, 5, 7, 64)),
        ((7, 64), (1, 1, 1, 64)),
        ((7, 64), (7, 1)),
        ((7, 64), (64,)),
        ((7, 5, 64), (7, 1, 1)),
        ((1, 5, 64), (5, 1)),
    ]
} | {
    f"{list(a)} times {list(b)}{' turned' if op.transpose_b else ''}": two(op, a, b)
    for op, a, b in [
        (ops.MatMul(), (167, 4, 196), (167, 196, 8)),
        (ops.MatMul(), (1, 168, 4, 196), (1, 168, 196, 8)),
        (ops.MatMul(), (4, 42, 4, 196), (4, 42, 196, 4)),
        (ops.MatMul(), (1, 1100, 8, 32), (1, 1100, 32, 64)),
        (ops.MatMul(), (600, 64, 64), (600, 64, 8)),
        (ops.MatMul(), (1, 2, 8), (1, 8, 33000)),
        (ops.MatMul(False, True), (168, 4, 196), (168, 8, 196)),
        (ops.MatMul(False, True), (168, 16, 196), (168, 8, 196)),
        (ops.MatMul(False, True), (1, 600, 16, 64), (1, 600, 64, 64)),
    ]
}


FILES["a layer of computed weights with a bias"] = lambda: _computed_weights()


FILES["a layer of computed weights without a bias"] = lambda: _computed_weights(False)


def _computed_weights(bias: bool = True) -> Graph:
    s = Sketch((5, 8), (6, 8))
    return s.end(s(ops.Linear(), *s.graph.inputs, *([weights(6)] if bias else [])))


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Graph, list[np.ndarray], RunResult]]:
    """Every file's graph, the inputs, and what the engine made of them."""
    folder, rng = tmp_path_factory.mktemp("gpu"), np.random.default_rng(0)
    graphs = {name: build() for name, build in FILES.items()}
    given = {n: [rng.standard_normal(v.shape).astype(np.float32) for v in g.inputs] for n, g in graphs.items()}
    paths = {name: folder / f"{i}.tflite" for i, name in enumerate(graphs)}
    for name, graph in graphs.items():
        write(graph, paths[name])
    results = run_jobs([Job(paths[n], [given[n]], "litert-gpu") for n in graphs], timeout=120)
    return {n: (g, given[n], r[0]) for (n, g), r in zip(graphs.items(), results, strict=True)}


@pytest.mark.parametrize("name", FILES)
def test_check_foretells_the_engine(
    name: str, answers: dict[str, tuple[Graph, list[np.ndarray], RunResult]], tmp_path: Path
) -> None:
    graph, given, result = answers[name]
    errors = [v for v in check_facts(facts_of_graph(graph), load("litert-gpu")) if v.level == "error"]
    table = graph.run([x.astype(np.float64) for x in given], keep=())
    right = not result.failed and all(
        np.allclose(got.reshape(value.shape), table[value], rtol=1e-4, atol=1e-4 * np.abs(table[value]).max())
        for got, value in zip(result.outputs, graph.outputs, strict=True)
    )
    assert right == (not errors), (result.message, errors)


#: Badly answered questions that are legalised and asked again.
SAMPLE = 48
#: What no rewrite clears, and why it need not be: nobody writes such a file.
HOPELESS = {
    "GPU-RANK": "the file's own inputs are of rank 5",
    "LITERT-GPU-SCALAR": "the file's own input is of rank 0",
    "GPU-SAME-INPUT": "a value compared with itself, or divided by itself without remainder",
    "LITERT-GPU-ATAN2": "the angle between a value and itself",
    "LITERT-GPU-PASSED-THROUGH": "the network does nothing",
    "LITERT-GPU-CONSTANT-OUTPUT": "the network computes nothing",
    "LITERT-GPU-REVERSE": "reversed channels of an input alone",
    "GPU-BLOCK": "a shuffle that moves nothing",
}
#: The file does not say what it means: TFLite's kernels skip the activation, or broadcast wrongly; or the rule asks
#: for the values.
UNSAID = ("conv_2d/activation=tanh", "atan2/broadcast=both", "max_pool_2d/values=-30000")


def test_what_the_engine_gets_wrong_it_gets_right_once_legalised(tmp_path: Path) -> None:
    profile, asked = load("litert-gpu"), questions()
    bad = sorted(n for n, a in recorded()["litert-gpu"].answers.items() if a.bad and n not in UNSAID)
    jobs: list[Job] = []
    names = []
    for number, name in enumerate(random.Random(1).sample(bad, SAMPLE)):
        path = asked[name].write(tmp_path / f"{number}.tflite")
        graph, _ = to_tflite(capture_tflite(path).graph, io="nchw", avoid=profile.avoid)
        result = legalize(graph, profile)
        if result.errors:
            assert {v.code for v in result.errors} <= HOPELESS.keys(), (name, result.errors)
            continue
        write(result.graph, tmp_path / f"{number}.legal.tflite")
        names.append(name)
        given = [asked[name].inputs()]
        jobs += [Job(path, given, "builtin"), Job(tmp_path / f"{number}.legal.tflite", given, "litert-gpu")]
    assert len(names) > SAMPLE // 2
    results = [r[0] for r in run_jobs(jobs, timeout=60)]
    for name, own, there in zip(names, results[::2], results[1::2], strict=True):
        assert not there.failed, (name, there.message)
        for got, want in zip(there.outputs, own.outputs, strict=True):
            scale = max(float(np.abs(want).max()), 1e-30)
            np.testing.assert_allclose(got.reshape(want.shape), want, rtol=1e-4, atol=1e-4 * scale, err_msg=name)
