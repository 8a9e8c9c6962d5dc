"""The diagnosis names the mistake: each fault is planted by hand in a graph, and told apart from its neighbours."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from instep.graph import Graph, SourceView, Value, ops
from instep.verify import GraphReference, GraphSubject, Verdict, judge, make_inputs
from instep.verify.causes import CAUSES
from instep.verify.generic import describe


def network() -> Graph:
    """Pad → conv → norm → relu → grouped conv → gelu → resize → shuffle → slices → concat → pool → linear."""
    rng = np.random.default_rng(0)
    g = Graph(inputs=[Value("x", (1, 3, 16, 16))])

    def c(name: str, *shape: int, low: float = -0.5, high: float = 0.5) -> Value:
        return g.constant(rng.uniform(low, high, shape).astype(np.float32), name)

    def add(name: str, op: Any, *inputs: Value) -> Value:
        return g.add(op, inputs, scope=name, names=[name]).output

    x = g.inputs[0]
    y = add("conv", ops.Conv2d(padding=((1, 1), (1, 1))), x, c("conv.w", 8, 3, 3, 3), c("conv.b", 8))
    y = add("norm", ops.BatchNorm(), y, c("g", 8, low=0.5, high=1.5), c("b", 8), c("m", 8), c("v", 8, low=0.4, high=2))
    y = add("relu", ops.Relu(), y)
    z = add("grouped", ops.Conv2d(padding=((1, 1), (1, 1)), groups=4), y, c("gr.w", 16, 2, 3, 3), c("gr.b", 16))
    z = add("gelu", ops.Gelu(), z)
    z = add("shuffle", ops.DepthToSpace(2), z)
    z = add("resize", ops.Resize2d((16, 16)), z)
    a = add("a", ops.Slice((0, 0, 0, 0), (1, 2, 16, 16), (1, 1, 1, 1)), z)
    b = add("b_", ops.Slice((0, 2, 0, 0), (1, 4, 16, 16), (1, 1, 1, 1)), z)
    z = add("cat", ops.Concat(1), b, a, y)
    p = add("pool", ops.AvgPool2d((3, 3), (2, 2), ((1, 1), (1, 1))), z)
    t = add("tokens", ops.Permute((0, 2, 3, 1)), p)
    t = add("layer_norm", ops.LayerNorm((3,)), t, c("ln.w", 12, low=0.5, high=1.5), c("ln.b", 12))
    s = add("softmax", ops.Softmax(3), t)
    s = add("product", ops.Mul(), s, t)
    s = add("mean", ops.ReduceMean((1, 2)), s)
    g.outputs = [add("linear", ops.Linear(), s, c("l.w", 5, 12), c("l.b", 5))]
    for value in [*g.inputs, *(v for n in g.nodes for v in n.outputs)]:
        value.source = SourceView.whole(value.name, value.shape)
    g.input_names, g.output_names = ["x"], ["linear"]
    return g


def proved(source: Graph, faulty: Graph, hidden: tuple[str, ...] = ()) -> Verdict:
    """``hidden`` values are not shown by the result, as after fusion."""
    for value in (v for n in faulty.nodes for v in n.outputs):
        if value.name in hidden:
            value.source = None
    sets = make_inputs([v.spec for v in source.inputs], kinds=("noise", "natural"))
    return judge(GraphReference(source), GraphSubject(faulty, ["x"]), sets, graph=source)


def fields(**changes: Any) -> Callable[[Graph, Any], None]:
    def change(graph: Graph, node: Any) -> None:
        node.op = node.op.with_(**changes)

    return change


def weight(number: int, function: Callable[[np.ndarray], np.ndarray]) -> Callable[[Graph, Any], None]:
    def change(graph: Graph, node: Any) -> None:
        made = np.ascontiguousarray(function(graph.weights[node.inputs[number]]))
        node.inputs[number] = graph.constant(made.astype(np.float32), f"{node.output.name}.changed")

    return change


def swapped(i: int, j: int) -> Callable[[Graph, Any], None]:
    def change(graph: Graph, node: Any) -> None:
        node.inputs[i], node.inputs[j] = node.inputs[j], node.inputs[i]

    return change


CASES: list[tuple[str, Callable[[Graph, Any], None], str]] = [
    ("conv", fields(padding=((0, 2), (0, 2))), "padding shifted by one pixel"),
    ("conv", weight(1, lambda k: k[:, :, ::-1, ::-1]), "weights flipped (convolution for correlation)"),
    ("conv", weight(1, lambda k: k.swapaxes(2, 3)), "weights transposed in height and width"),
    ("conv", weight(1, lambda k: k[:, ::-1]), "input channels reversed (RGB for BGR)"),
    ("conv", weight(1, lambda k: k.transpose(0, 2, 3, 1).reshape(k.shape)), "weights read in the wrong layout"),
    ("conv", weight(2, np.zeros_like), "bias dropped"),
    ("conv", weight(1, lambda k: k.astype(np.float16)), "weights in lower precision"),
    ("norm", fields(eps=1e-3), "normalisation epsilon"),
    ("norm", fields(eps=0.1), "momentum taken for epsilon"),
    ("norm", swapped(1, 2), "scale and shift swapped"),
    ("norm", weight(3, np.zeros_like), "running mean dropped"),
    ("relu", lambda g, n: setattr(n, "op", ops.LeakyRelu(0.01)), "wrong activation"),
    ("grouped", weight(1, lambda k: k.reshape(4, 4, 2, 3, 3)[::-1].reshape(k.shape)), "group order"),
    ("gelu", fields(approximate=True), "GELU approximation (tanh for erf)"),
    ("shuffle", fields(order="DCR"), "channel order of a pixel shuffle (CRD for DCR)"),
    ("resize", fields(coordinates="align_corners"), "align_corners"),
    ("resize", fields(coordinates="asymmetric"), "half-pixel centres"),
    ("a", fields(starts=(0, 1, 0, 0), stops=(1, 3, 16, 16)), "off-by-one slice"),
    ("a", fields(starts=(0, 2, 0, 0), stops=(1, 4, 16, 16)), "slice at the wrong place"),
    ("cat", swapped(0, 1), "order of a concatenation"),
    ("pool", fields(count_include_pad=False), "count_include_pad"),
    ("layer_norm", fields(eps=1e-3), "normalisation epsilon"),
    ("softmax", fields(axis=1), "softmax axis"),
    ("product", lambda g, n: setattr(n, "op", ops.Add()), "wrong arithmetic operation"),  # type: ignore[call-arg]
    ("mean", lambda g, n: setattr(n, "op", ops.ReduceMax((1, 2))), "kind of reduction"),  # type: ignore[call-arg]
    ("linear", weight(1, lambda k: np.roll(k, 1, 0)), "output channels permuted"),
]


@pytest.mark.parametrize(("where", "change", "cause"), CASES, ids=[f"{w}-{c}" for w, _, c in CASES])
def test_the_fault_is_caught_placed_and_named(where: str, change: Callable[[Graph, Any], None], cause: str) -> None:
    source = network()
    faulty = source.copy()
    change(faulty, next(n for n in faulty.nodes if n.output.name == where))
    verdict = proved(source, faulty)
    assert verdict.verdict != "in step"
    assert verdict.first is not None and verdict.first.source == where
    assert verdict.diagnosis is not None, verdict.suspects
    assert (verdict.diagnosis.cause, verdict.diagnosis.scope) == (cause, where)
    assert "%" in verdict.diagnosis.evidence


@pytest.mark.parametrize("number", [1, 2])
def test_a_fault_in_a_folded_layer_is_named_though_only_the_last_of_the_group_is_shown(number: int) -> None:
    source = network()
    faulty = source.copy()
    conv, norm = faulty.nodes[:2]
    w, b = (faulty.weights[v].astype(np.float64) for v in conv.inputs[1:])
    gamma, beta, mean, var = (faulty.weights[v].astype(np.float64) for v in norm.inputs[1:])
    scale = gamma / np.sqrt(var + 1e-5)
    weights, bias = w * scale[:, None, None, None], (b - mean) * scale + beta
    wrong = [weights, np.zeros_like(bias)] if number == 2 else [np.roll(weights, 1, 0), bias]
    conv.inputs[1:] = [faulty.constant(a.astype(np.float32), f"folded{i}") for i, a in enumerate(wrong)]
    norm.op, norm.inputs = ops.Reshape(conv.output.shape), [conv.output]
    faulty.prune()
    verdict = proved(source, faulty, hidden=("conv",))
    assert verdict.diagnosis is not None
    assert verdict.diagnosis.cause == ("bias dropped" if number == 2 else "output channels permuted")
    assert verdict.diagnosis.scope == "conv"


def test_a_healthy_network_gets_no_diagnosis() -> None:
    source = network()
    verdict = proved(source, source.copy())
    assert verdict.verdict == "in step" and verdict.diagnosis is None and not verdict.suspects


def test_an_unknown_mistake_is_placed_but_not_named_wrongly() -> None:
    source = network()
    faulty = source.copy()
    node = next(n for n in faulty.nodes if n.output.name == "conv")
    weight(1, lambda k: np.random.default_rng(5).normal(0, 0.3, k.shape))(faulty, node)
    verdict = proved(source, faulty)
    assert verdict.first is not None and verdict.first.source == "conv"
    assert verdict.diagnosis is None and verdict.suspects == ["Conv2d 'conv'"]


def test_there_are_at_least_forty_kinds_of_mistakes_and_each_has_its_own_name() -> None:
    names = [name for name, _, _ in CAUSES]
    assert len(set(names)) >= 100
    for name, kinds, generator in CAUSES:
        assert kinds and callable(generator), name


@pytest.mark.parametrize("size", [1, 3])
def test_what_is_fitted_to_a_number_or_three_explains_nothing(size: int) -> None:
    node = network().nodes[0]
    right, wrong = np.full(size, 1.25e-9), np.linspace(-3.8e-8, -3.7e-8, size)
    assert describe(right, right, wrong, node, "loss") is None
    many = np.linspace(1, 2, 12)
    found = describe(many, many, -31 * many, node, "loss")
    assert found is not None and found.cause == "scaled"
