"""Masks of −1e30 are infinity in float16; a number that it has hides scores as well, where no row is hidden whole."""

from __future__ import annotations

import numpy as np
import pytest
from test_legalize import Sketch

import instep
from instep.graph import Graph, Operator, ops
from instep.graph.reference import GraphReference
from instep.targets import load
from instep.targets.legalize import legalize
from instep.targets.numbers import measure_some

CAUSAL = np.triu(np.ones((6, 6), bool), 1)
WHOLE = CAUSAL | (np.arange(6) == 2)[:, None]
LOWEST = float(np.finfo(np.float32).min)


def added(mask: np.ndarray, value: float, scale: float = 1.0) -> Graph:
    s = Sketch((1, 2, 6, 6))
    scores = s(ops.Mul(), s.graph.inputs[0], np.array(scale, np.float32))
    filled = np.where(mask, np.float32(value), np.float32(0.5))
    return s.end(s(ops.Softmax(3), s(ops.Add(), scores, filled)))


def chosen(mask: np.ndarray, value: float) -> Graph:
    s = Sketch((1, 2, 6, 6))
    scores = s(ops.Mul(), s.graph.inputs[0], np.array(1, np.float32))
    return s.end(s(ops.Softmax(3), s(ops.Where(), mask[None, None], np.array(value, np.float32), scores)))


def bounded(op: Operator, *bounds: np.ndarray) -> Graph:
    s = Sketch((1, 2, 6, 6))
    return s.end(s(ops.Tanh(), s(op, s(ops.Mul(), s.graph.inputs[0], np.array(2, np.float32)), *bounds)))


def made(graph: Graph) -> Graph:
    """What is made of the graph for a GPU; nothing it gives has changed, to the last bit."""
    profile = load("litert-gpu")
    assert profile.limits is not None
    numbers = measure_some(graph, largest=profile.limits.largest)
    result = legalize(graph, profile, numbers=numbers)
    x = np.random.default_rng(0).normal(0, 3, (1, 2, 6, 6)).astype(np.float32)
    before, after = (GraphReference(g).run([x], dtype="float32")[g.outputs[0].name] for g in (graph, result.graph))
    np.testing.assert_array_equal(before, after)
    return result.graph


def reach(graph: Graph) -> float:
    finite = [a[np.isfinite(a)] for a in graph.weights.values() if a.dtype.kind == "f"]
    return float(max(np.abs(a).max() for a in finite if a.size))


@pytest.mark.parametrize("value", [-1e30, LOWEST, -1e9])
def test_a_mask_fits_float16_where_every_row_shows_something(value: float) -> None:
    for graph in (added(CAUSAL, value), chosen(CAUSAL, value), chosen(WHOLE, value)):
        assert reach(graph) >= 1e9 and reach(made(graph)) < 65504


def test_a_row_hidden_whole_by_a_sum_is_uniform_and_stays_so() -> None:
    graph = added(WHOLE, -1e30)
    assert reach(made(graph)) == np.float32(1e30)


def test_scores_that_reach_as_far_as_the_mask_keep_it() -> None:
    assert reach(made(added(CAUSAL, -1e30, scale=1e4))) == np.float32(1e30)


def test_without_a_run_nothing_is_known_of_the_scores() -> None:
    result = legalize(added(CAUSAL, -1e30), load("litert-gpu"))
    assert [(v.code, v.clears) for v in result.left] == [("GPU-HALF-RANGE", ("clamp-mask",))]


def test_a_bound_beyond_all_values_is_none() -> None:
    assert not any(isinstance(n.op, ops.Clip) for n in made(bounded(ops.Clip(-1e30, np.inf))).nodes)
    (clip,) = [n.op for n in made(bounded(ops.Clip(-1e30, 1.0))).nodes if isinstance(n.op, ops.Clip)]
    assert (clip.low, clip.high) == (-np.inf, 1.0)
    assert reach(made(bounded(ops.Maximum(), np.array([-1e30, 0, 0, 0, 0, 1], np.float32)))) == 65504


def test_check_names_the_rewrite_where_it_clears_the_mask() -> None:
    torch = pytest.importorskip("torch")

    class Attention(torch.nn.Module):
        def __init__(self, mask: np.ndarray) -> None:
            super().__init__()
            self.mask = torch.nn.Buffer(torch.from_numpy(mask))

        def forward(self, x):  # type: ignore[no-untyped-def]
            scores = x @ x.transpose(-1, -2)
            return (scores + self.mask * -1e30).softmax(-1) @ x

    for mask, clears in ((CAUSAL, ["clamp-mask"]), (WHOLE, [])):
        (judged,) = instep.check(Attention(mask), "litert-gpu", inputs=["1,2,6,4"]).judgements
        found = [v.to_json() for v in judged.violations if v.code == "GPU-HALF-RANGE"]
        assert [v["clears"] for v in found] == [clears] and bool(found[0]["tried"]) is not bool(clears)
