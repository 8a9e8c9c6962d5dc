"""A rewrite that leaves as much wrong as it clears is taken back: no graph comes out worse than it went in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from test_legalize import CASES, Sketch, unary, values, weights

from instep.graph import Graph, ops
from instep.targets import check_facts, facts_of_graph, load, names
from instep.targets.attempt import attempt, weight
from instep.targets.facts import as_quantised
from instep.targets.legalize import legalize
from instep.targets.numbers import Numbers
from instep.targets.profile import Profile

THREEFOLD = ops.Resize2d((12, 18), "bilinear", "half_pixel", layout="NHWC")

CAMERA = """
name: camera
description: what is portable, and pads that would rather be joins
extends: portable-4d
evidence: [{grade: measured, what: the device, runtime: '1'}]
drop: [PORTABLE-PAD, PORTABLE-CONCATENATION]
rules:
  - code: CAMERA-CONCATENATION
    operators: [CONCATENATION]
    require: constants == 0
    says: it joins constants
    source: the device
  - code: CAMERA-PAD
    operators: [PAD]
    require: paddings.values[3] == (0, 0)
    says: channels are padded
    source: the device
    clears: [spell-pad, turn-pad]
"""

SLICELESS = """
name: sliceless
description: what is portable, less the slices of which transposes are made
extends: portable-4d
evidence: [{grade: measured, what: the device, runtime: '1'}]
operators: {drop: [SLICE]}
"""


@pytest.fixture
def sliceless(tmp_path: Path) -> Profile:
    (tmp_path / "sliceless.yaml").write_text(SLICELESS)
    return load(str(tmp_path / "sliceless.yaml"))


def kinds(graph: Graph) -> Counter[str]:
    return Counter(n.op.name for n in graph.nodes)


def wrong(graph: Graph, profile: Profile) -> tuple[int, int, int]:
    """How bad the graph's form is: of eight bits what the quantised file would be told."""
    facts = facts_of_graph(graph)
    return weight(check_facts(as_quantised(facts) if profile.arithmetic == "int8" else facts, profile))


@pytest.mark.parametrize("build", [c[2] for c in CASES[::3]])
def test_no_target_is_told_more_of_the_result_than_of_the_graph(build: Callable[[], Graph]) -> None:
    graph = build()
    for profile in map(load, names()):
        result = legalize(graph, profile)
        assert wrong(result.graph, profile) <= wrong(graph, profile), profile.name
        if profile.arithmetic != "int8":
            assert weight(result.left) == wrong(result.graph, profile)


def test_a_resize_that_would_become_transposes_stays_where_these_are_refused() -> None:
    graph, profile = unary(THREEFOLD.with_(size=(210, 240)), 1, 70, 80, 3)(), load("portable-4d")
    result = legalize(graph, profile)
    assert kinds(result.graph) == kinds(graph) and not result.passes and not result.cleared
    (left,) = result.left
    assert left.code == "PORTABLE-RESIZE"
    assert left.tried == (
        "the rewrite split-resize was tried here and taken back: it leaves 2 TRANSPOSE [PORTABLE-OPERATOR]"
    )
    assert left.to_json()["tried"] == left.tried


def test_each_place_is_told_what_came_of_it_alone(sliceless: Profile) -> None:
    """The products of both resizes are of rank 3 at first, and one later rewrite changes them all."""
    s = Sketch((1, 4, 6, 3))
    wide = s(THREEFOLD, s.graph.inputs[0])
    wider = s(THREEFOLD.with_(size=(36, 54)), wide)
    result = legalize(s.end(wider), sliceless)
    assert [v.scope for v in result.left] == ["n0", "n1"]
    assert all(v.tried.endswith("it leaves 4 TRANSPOSE [PORTABLE-OPERATOR]") for v in result.left)


def test_the_same_resize_is_rewritten_where_transposes_run() -> None:
    graph = unary(THREEFOLD, 1, 4, 6, 3)()
    result = legalize(graph, load("ethos-u55"))
    assert kinds(result.graph)["Permute"] == 4 and "Resize2d" not in kinds(result.graph)
    assert result.passes[0].name == "split-resize"


def test_one_place_is_taken_back_and_another_stays(sliceless: Profile) -> None:
    s = Sketch((1, 4, 6, 3))
    wide = s(THREEFOLD, s.graph.inputs[0])
    graph, profile = s.end(s(ops.HardSwish(), wide)), sliceless
    result = legalize(graph, profile)
    assert [(v.code, v.scope) for v in result.left] == [("PORTABLE-RESIZE", "n0")]
    assert [v.operator for v in result.cleared] == ["HARD_SWISH"]
    assert kinds(result.graph)["Resize2d"] == 1 and kinds(result.graph)["Permute"] == 0


def test_the_next_rewrite_has_its_turn_where_the_first_is_taken_back(tmp_path: Path) -> None:
    """Joined with constants a pad is refused as before; as the pad of another axis it is not."""
    path = tmp_path / "camera.yaml"
    path.write_text(CAMERA)
    graph, profile = unary(ops.Pad(((0, 0), (0, 0), (0, 0), (2, 1))))(), load(str(path))
    result = legalize(graph, profile)
    assert not result.left and "Concat" not in kinds(result.graph)
    assert result.passes[0].name == "turn-pad"


def test_rewrites_in_a_row_count_together() -> None:
    """A stride of 8 is split twice: after the first split the stride of 4 is as wrong, after the second nothing is."""
    s = Sketch((1, 40, 42, 3))
    op = ops.Conv2d((8, 8), ((1, 0), (1, 0)), layout="NHWC")
    graph, profile = s.end(s(op, s.graph.inputs[0], weights(5, 5, 5, 3), weights(5))), load("portable-4d")
    result = legalize(graph, profile)
    assert not result.left and kinds(result.graph)["Conv2d"] == 3
    once = attempt(graph, profile, Numbers(), {("split-stride", "n0"): 1})
    assert [(c.rewrite, c.vain) for c in once.changes] == [("split-stride", True)]


def test_an_error_weighs_more_than_warnings() -> None:
    profile = load("litert-gpu")
    (error,) = check_facts(facts_of_graph(CASES[0][2]()), profile)
    warning = replace(error, level="warning")
    assert error.level == "error" and weight([error]) > weight([warning] * 9) > weight([warning])


def test_a_float_graph_for_eight_bits_is_judged_as_what_it_becomes() -> None:
    """That each of its operators is float says nothing against three operators of the NPU for one that it lacks."""
    graph, profile = unary(ops.Elu(), 1, 4, 4, 4)(), load("ethos-u-vela3")
    result = legalize(graph, profile)
    assert "Elu" not in kinds(result.graph) and len(result.graph.nodes) > 1
    assert {v.code for v in result.left} <= {"ETHOS-QUANTIZED", "ETHOS-CONV-WEIGHTS"}
    for was, now in zip(values(graph), values(result.graph), strict=True):
        assert abs(was - now).max() < 1e-6


def test_every_rewrite_that_stays_is_proved_and_none_that_went(sliceless: Profile) -> None:
    s = Sketch((1, 4, 6, 3))
    graph = s.end(s(ops.HardSwish(), s(THREEFOLD, s.graph.inputs[0])))
    proved: list[str] = []
    result = legalize(graph, sliceless, prove=lambda before, after, name: proved.append(name))
    assert proved == [p.name for p in result.passes] and "split-resize" not in proved and proved
