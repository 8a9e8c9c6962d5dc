"""Rounding noise: what counts as far from the truth, and what does not."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import instep
from instep.capture import capture
from instep.graph import Graph, SourceView, Value, ops
from instep.report.document import sentence
from instep.verify import GraphReference, GraphSubject, Picture, Verdict, judge, make_inputs, verify
from instep.verify.calm import less
from instep.verify.cancelling import Cancelling
from instep.verify.noise import LIMITS, Noise, classify, distance, growth, nudge, ratio
from instep.verify.origin import anchor
from instep.verify.verdict import number


def source(graph: Graph) -> Graph:
    """Mark every value as its own source, as a capture does, and name what is not named."""
    for value in [*graph.inputs, *(v for n in graph.nodes for v in n.outputs)]:
        value.source = SourceView.whole(value.name, value.shape)
    graph.input_names = [v.name for v in graph.inputs]
    graph.output_names = [v.name for v in graph.outputs]
    return graph


def chain(*operators: object, shape: tuple[int, ...] = (1, 4, 8, 8)) -> Graph:
    """x → operators, one after the other."""
    graph = Graph(inputs=[Value("x", shape)])
    value = graph.inputs[0]
    for i, op in enumerate(operators):
        value = graph.add(op, [value], names=[f"v{i}"]).output  # type: ignore[arg-type]
    graph.outputs = [value]
    return source(graph)


def prove(graph: Graph, other: Graph) -> Verdict:
    sets = make_inputs([v.spec for v in graph.inputs])
    return judge(GraphReference(graph), GraphSubject(other, [v.name for v in graph.inputs]), sets, graph=graph)


def test_a_float32_run_of_the_same_network_is_in_step() -> None:
    graph = chain(ops.Sigmoid(), ops.Exp(), ops.ReduceMean((2, 3), True), ops.Log())
    verdict = prove(graph, graph.copy())
    assert verdict.verdict == "in step" and verdict.noise_ratio < 3 and verdict.first is None


def test_nan_at_the_same_place_is_equal_and_nan_elsewhere_is_not() -> None:
    truth = np.array([1.0, np.nan, np.inf, 2.0])
    same = distance(truth.astype(np.float32), truth)
    assert (same.rms, same.broken) == (0.0, 0)
    broken = distance(np.array([1.0, 0.0, np.inf, np.nan], np.float32), truth)
    assert broken.broken == 2 and ratio(broken, (1.0, 1.0)) == math.inf
    assert distance(np.array([-np.inf]), np.array([np.inf])).broken == 1


def test_where_float32_itself_overflows_nothing_is_judged() -> None:
    truth = np.array([1.0, 1e39, 2.0])
    noise = Noise()
    noise.begin("large", truth)
    noise.draw("large", truth, np.array([1.0, np.inf, 2.0], np.float32))
    assert noise.skip["large"].tolist() == [False, True, False]
    found = distance(np.array([1.0, np.inf, 2.0], np.float32), truth, noise.skip["large"])
    assert found.broken == 0 and found.rms == 0.0


def test_overflowing_networks_are_compared_where_they_are_finite() -> None:
    graph = chain(ops.Exp(), ops.Exp(), ops.Exp())
    verdict = prove(graph, graph.copy())
    assert verdict.verdict == "in step"


def test_noise_is_never_below_the_unit_of_rounding() -> None:
    truth = np.linspace(-1, 1, 10_000)
    noise = Noise()
    noise.begin("noise", truth)
    noise.draw("noise", truth, truth.copy())
    rms, peak = noise.level("noise")
    assert rms >= np.finfo(np.float32).eps * 0.5 and peak >= rms
    one_unit_off = np.nextafter(truth.astype(np.float32), np.float32(2))
    assert classify(ratio(distance(one_unit_off, truth), (rms, peak))) == "in step"


def test_a_value_of_one_element_is_not_condemned_for_a_lucky_draw() -> None:
    truth = np.array([0.3333333333])
    lucky = Noise()
    lucky.begin("noise", truth)
    lucky.draw("noise", truth, truth + 1e-12)
    rms, _ = lucky.level("noise")
    assert rms > 4 * np.finfo(np.float32).eps * 0.33


def test_an_ill_conditioned_network_is_in_step_with_itself_though_its_error_is_large() -> None:
    # x + 10⁶ - 10⁶: float32 keeps two digits
    graph = Graph(inputs=[Value("x", (1, 3, 16, 16))])
    big = graph.constant(np.float32(1e6).reshape(1, 1, 1, 1), "big")
    up = graph.add(ops.Add(), [graph.inputs[0], big], names=["up"]).output
    graph.outputs = [graph.add(ops.Sub(), [up, big], names=["down"]).output]
    verdict = prove(source(graph), graph.copy())
    assert verdict.max_abs > 1e-2 and verdict.verdict == "in step"


def test_nudges_move_by_one_unit_and_zeros_by_one_unit_of_the_rest() -> None:
    x = np.array([1.0, 0.0, -3.0], np.float32)
    moved = nudge(x, np.random.default_rng(0))
    assert (moved != x).all() and np.abs(moved - x).max() <= 2 * np.spacing(np.float32(3.0))
    assert np.abs(nudge(np.zeros(4, np.float32), np.random.default_rng(0))).max() == np.spacing(np.float32(1))
    ints = np.arange(3)
    assert nudge(ints, np.random.default_rng(0)) is ints


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_the_verdict_does_not_depend_on_the_scale_of_the_values(scale: float) -> None:
    def build(eps: float) -> Graph:
        graph = Graph(inputs=[Value("x", (1, 3, 8, 8))])
        vectors = {"w": scale, "b": 0.0, "m": 0.1, "v": 1.0}
        c = [graph.constant(np.full(3, x, np.float32), name) for name, x in vectors.items()]
        graph.outputs = [graph.add(ops.BatchNorm(eps), [graph.inputs[0], *c], names=["y"]).output]
        return source(graph)

    assert prove(build(1e-5), build(1e-5)).verdict == "in step"
    assert prove(build(1e-5), build(1e-3)).verdict == "out of step"


def test_a_tie_may_fall_either_way_but_a_wrong_index_may_not() -> None:
    graph = chain(ops.ArgMax(1, True), ops.Cast("float32"), shape=(1, 5, 6, 6))
    zeros_first = prove(graph, graph.copy())
    assert zeros_first.verdict == "in step"
    other = graph.copy()
    other.nodes[0].op = ops.ArgMin(1, True)
    assert prove(graph, other).verdict == "out of step"


def test_products_of_computed_matrices_are_sums_of_as_many_terms() -> None:
    def grown(op: ops.MatMul, fixed: bool) -> float:
        shape = (1, 768, 4) if op.transpose_a else (1, 4, 768)
        graph = Graph(inputs=[Value("x", shape), Value("y", (1, 768, 4))])
        second = graph.constant(np.ones((1, 768, 4), np.float32), "w") if fixed else graph.inputs[1]
        graph.outputs = [graph.add(op, [graph.inputs[0], second], names=["product"]).output]
        return growth(graph)["product"]

    computed = np.sqrt(1 + LIMITS.sums**2 * 768)
    assert grown(ops.MatMul(), False) == grown(ops.MatMul(True), False) == pytest.approx(computed)
    assert grown(ops.MatMul(), True) == pytest.approx(np.sqrt(1 + LIMITS.products**2 * 768))


def test_rounding_that_jumps_within_the_noise_is_legal() -> None:
    # 0.1 · 5 = 0.5 and the like: float32 and float64 round the halves differently
    graph = Graph(inputs=[Value("x", (1, 3, 32, 32))])
    scale = graph.constant(np.float32(10).reshape(1, 1, 1, 1), "scale")
    y = graph.add(ops.Mul(), [graph.inputs[0], scale], names=["scaled"]).output
    y = graph.add(ops.Round(), [y], names=["rounded"]).output
    graph.outputs = [graph.add(ops.Div(), [y, scale], names=["back"]).output]
    assert prove(source(graph), graph.copy()).verdict == "in step"
    other = graph.copy()
    other.nodes[1].op = ops.Floor()
    verdict = prove(graph, other)
    assert verdict.verdict == "out of step" and verdict.diagnosis is not None
    assert verdict.diagnosis.cause == "rounding mode"


def test_a_fault_that_the_network_hides_still_shows() -> None:
    # the slice throws the wrong half away, so the output is right: no fault; a faint use of it is one
    graph = Graph(inputs=[Value("x", (1, 4, 8, 8))])
    y = graph.add(ops.Tanh(), [graph.inputs[0]], names=["tanh"]).output
    z = graph.add(ops.Abs(), [y], names=["abs"]).output
    tiny = graph.constant(np.float32(1e-9).reshape(1, 1, 1, 1), "tiny")
    z = graph.add(ops.Mul(), [z, tiny], names=["faint"]).output
    graph.outputs = [graph.add(ops.Add(), [graph.inputs[0], z], names=["sum"]).output]
    other = source(graph).copy()
    other.nodes[0].op = ops.Sin()
    verdict = prove(graph, other)
    assert verdict.noise_ratio <= LIMITS.in_step
    assert verdict.verdict == "drifting" and verdict.first is not None and verdict.first.source == "tanh"
    # the headline says the reason before the outputs' ratio, which is that of a result in step
    assert sentence(verdict).startswith("Tanh 'tanh' is out of step") and "hides" in verdict.summary()


def test_a_source_that_is_misread_is_the_reason_that_is_said() -> None:
    graph = Graph(inputs=[Value("x", (1, 4))])
    graph.outputs = [graph.add(ops.Tanh(), [graph.inputs[0]], names=["y"]).output]
    wrong = source(graph).copy()
    wrong.nodes[0].op = ops.Sin()
    for own in (graph, wrong):
        verdict = anchor(prove(graph, own), prove(graph, wrong), "net.keras")
        assert verdict.verdict == "out of step" and not verdict.ok
        # a result that is wrong itself says so by its ratio
        assert sentence(verdict).startswith("net.keras itself is out of step") == (own is graph)
        assert any("net.keras itself" in n for n in verdict.notes) == (own is wrong)
    right = anchor(prove(graph, graph), prove(graph, graph), "net.keras")
    assert right.ok and sentence(right).startswith("the worst output")


def test_json_has_no_infinity() -> None:
    assert (number(math.inf), number(math.nan), number(1.5)) == ("inf", "nan", 1.5)


class Chaos:
    """A reference whose float32 runs happen to be exact: the noise that they show is far too small."""

    def __init__(self, graph: Graph) -> None:
        self.inner = GraphReference(graph)
        self.input_specs, self.input_names = self.inner.input_specs, self.inner.input_names

    def run(self, inputs, *, dtype="float64", keep=None):  # type: ignore[no-untyped-def]
        return self.inner.run([np.asarray(a, np.float32) for a in inputs], dtype="float64", keep=keep)


def test_rounding_that_grows_beyond_what_a_few_runs_show_is_no_fault_where_every_operator_is_right() -> None:
    rng = np.random.default_rng(0)
    graph = Graph(inputs=[Value("x", (1, 4, 8, 8))])
    w = graph.constant(rng.normal(0, 3000, (4, 4, 1, 1)).astype(np.float32), "w")
    y = graph.add(ops.Conv2d(), [graph.inputs[0], w], names=["conv"]).output
    y = graph.add(ops.Sin(), [y], names=["sin"]).output
    graph.outputs = [graph.add(ops.Exp(), [y], names=["exp"]).output]
    source(graph)
    sets = make_inputs([v.spec for v in graph.inputs], kinds=("noise", "natural"))
    verdict = judge(Chaos(graph), GraphSubject(graph.copy(), ["x"]), sets, graph=graph, draws=0)
    assert verdict.noise_ratio > LIMITS.drifting
    assert verdict.verdict == "in step" and verdict.first is None
    assert any("amplifies rounding" in note for note in verdict.notes)
    other = graph.copy()
    other.nodes[2].op = ops.Square()
    wrong = judge(Chaos(graph), GraphSubject(other, ["x"]), sets, graph=graph, draws=0)
    assert wrong.verdict == "out of step" and wrong.first is not None and wrong.first.source == "exp"
    assert wrong.diagnosis is not None and wrong.diagnosis.cause == "wrong function"


class Ranked(nn.Module):
    """Rows that are all ranked equal: which of them come first is anybody's choice."""

    def __init__(self) -> None:
        super().__init__()
        self.place = nn.Parameter(torch.randn(1, 40, 6))
        self.head = nn.Linear(6, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        score = torch.relu(-x.abs() - 1).sum(-1)
        index = score.topk(20, dim=1).indices
        batch = torch.arange(2).unsqueeze(-1).expand(2, 20)
        return self.head((x + self.place)[batch, index])


def test_another_choice_among_equals_is_followed_through_steps_that_the_source_does_not_show(tmp_path: Path) -> None:
    done = instep.convert(Ranked().eval(), tmp_path / "ranked.tflite", inputs=[(2, 40, 6)])
    assert done.verdict.verdict == "in step" and done.verdict.first is None


# -- inputs that are too much for a network --------------------------------------------------------------------------
class Gated(nn.Module):
    """Squares its features six times, as gates without normalisation do: noise grows to 1e39, a picture hardly."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(3, 3, 1, bias=False) for _ in range(7))
        for conv in self.convs:
            nn.init.eye_(conv.weight.data[:, :, 0, 0])
        self.convs[0].weight.data[:, :, 0, 0] *= 9

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.convs[0](x - x.mean((2, 3), keepdim=True))
        for conv in self.convs[1:]:
            x = conv(x * x)
        return x


@pytest.fixture(scope="module")
def gated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    file = tmp_path_factory.mktemp("gated") / "gated.tflite"
    converted = instep.convert(Gated(), file, inputs=[(1, 3, 16, 16)], picture=Picture(scale=4.0), prove_each=True)
    return converted, file


def test_inputs_that_overflow_the_source_are_calmed_and_said(gated: tuple[Any, Path]) -> None:
    verdict = gated[0].verdict
    assert verdict.verdict == "in step"
    assert any("noise" in name and "·" in name for name in verdict.inputs)
    assert any("leaves the range of float32 at Conv2d 'convs." in note for note in verdict.notes)


def test_a_fault_behind_calmed_inputs_is_still_found(gated: tuple[Any, Path]) -> None:
    other = Gated()
    other.convs[4].weight.data *= 1.01
    captured = capture(other, inputs=[(1, 3, 16, 16)])
    verdict = verify(captured.reference, gated[1], graph=captured.graph, picture=Picture(scale=4.0))
    assert verdict.verdict == "out of step"
    assert verdict.first is not None and "convs.4" in verdict.first.scope


def test_less_contrast_keeps_the_mean_and_the_integers() -> None:
    array = np.array([0.0, 4.0, 8.0], np.float32)
    np.testing.assert_allclose(less(array, 0.25), [3.0, 4.0, 5.0])
    np.testing.assert_allclose(less(array, 0.0), [4.0, 4.0, 4.0])
    assert less(array, 0.5).dtype == np.float32
    indices = np.array([1, 2])
    assert less(indices, 0.25) is indices


def test_the_largest_float_stands_for_infinity() -> None:
    lowest = np.finfo(np.float32).min
    truth = np.array([-np.inf, 1.0, np.inf])
    assert distance(np.array([lowest, 1.0, np.inf], np.float32), truth).broken == 0
    assert distance(np.array([-lowest, 1.0, np.inf], np.float32), truth).broken == 1
    assert distance(np.array([-1e30, 1.0, np.inf], np.float32), truth).broken == 1
    assert distance(np.array([lowest, 1.0], np.float32), np.array([2.0, 1.0])).broken == 0


def test_denormals_may_be_flushed_and_zeros_may_not_be_wrong() -> None:
    noise = Noise()
    small = np.full((4, 4), 3e-41)
    noise.begin("decayed", small)
    noise.draw("decayed", small, small.astype(np.float32))
    level = noise.level("decayed")
    assert classify(ratio(distance(np.zeros((4, 4), np.float32), small), level)) == "in step"
    assert classify(ratio(distance(np.full((4, 4), 1e-20), small), level)) == "out of step"


def divergence(wrong: float = 0.0) -> Graph:
    """Half of Σ p (log p - log p), with two spellings of the logarithm; of the second each is off by ``wrong``."""
    graph = Graph(inputs=[Value("x", (2, 3, 6, 6))])
    x = graph.inputs[0]
    share = graph.add(ops.Softmax(1), [x], names=["share"]).output
    logs = [graph.add(ops.Log(), [share], names=["log"]).output]
    logs += [graph.add(ops.LogSoftmax(1), [x], names=["log_softmax"]).output]
    if wrong:
        off = graph.constant(np.array(wrong, np.float32), "off")
        logs[1] = graph.add(ops.Add(), [logs[1], off], names=["moved"]).output
    terms = [graph.add(ops.Mul(), [share, log], names=[f"term{i}"]).output for i, log in enumerate(logs)]
    apart = graph.add(ops.Sub(), terms, names=["apart"]).output
    total = graph.add(ops.ReduceSum((0, 1, 2, 3), False), [apart], names=["total"]).output
    half = graph.constant(np.array(0.5, np.float32), "half")
    graph.outputs = [graph.add(ops.Mul(), [total, half], names=["loss"]).output]
    return source(graph)


def test_what_is_left_of_terms_that_cancel_is_measured_by_the_terms(tmp_path: Path) -> None:
    class Divergence(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return nn.functional.kl_div(x.log_softmax(1), x.softmax(1), reduction="batchmean")

    made = instep.convert(Divergence().eval(), tmp_path / "kl.tflite", inputs=[(2, 3, 6, 6)])
    assert made.ok and made.verdict is not None and made.verdict.noise_ratio < 5
    assert prove(divergence(), divergence()).verdict == "in step"
    assert prove(divergence(), divergence(wrong=1e-5)).verdict == "out of step", "40 units in the terms' last place"


def test_the_terms_of_a_sum_are_followed_through_what_adds_and_scales() -> None:
    graph = divergence()
    x = np.random.default_rng(0).standard_normal((2, 3, 6, 6))
    truth = GraphReference(graph).run([x], dtype="float64")
    found = Cancelling(graph).sizes({"x": x, "share": truth["share"], "log_softmax": truth["log_softmax"]})
    terms = np.abs(truth["term0"]) + np.abs(truth["term1"])
    assert found["total"] == pytest.approx(np.sqrt(np.sum(terms**2))) and abs(truth["total"]) < 1e-12
    assert found["loss"] == pytest.approx(found["total"] / 2)
    many = chain(ops.ReduceMean((1,), True), ops.Exp())
    assert Cancelling(many).sizes({"x": np.ones((1, 4, 8, 8))}) == {}, "64 results measure their noise themselves"
