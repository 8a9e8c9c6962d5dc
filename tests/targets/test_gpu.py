"""What check says of a file for litert-gpu is what LiteRT's GPU delegate does with it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from test_legalize import Sketch, two, weights, with_constant

from instep.emit.tflite import write
from instep.graph import Graph, ops
from instep.runtime import Job, RunResult, available, run_jobs
from instep.targets import check_facts, facts_of_graph, load

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


def _computed_weights() -> Graph:
    s = Sketch((5, 8), (6, 8))
    return s.end(s(ops.Linear(), *s.graph.inputs, weights(6)))


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
