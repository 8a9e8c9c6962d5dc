"""What ``check`` says of rewrites is what ``legalize`` makes of the network: those that it names clear it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
from test_legalize import CASES, Sketch, unary

import instep
from instep.emit.tflite import write
from instep.graph import Graph, ops
from instep.targets import Violation, check_facts, facts_of_graph, load, names
from instep.targets.facts import as_quantised
from instep.targets.foretell import foretold
from instep.targets.legalize import legalize
from instep.targets.numbers import Numbers, check_numbers
from instep.targets.profile import Profile


def kinds(violations: Iterable[Violation]) -> Counter[tuple[str, str]]:
    return Counter((v.code, v.operator) for v in violations)


def told(graph: Graph, profile: Profile) -> list[Violation]:
    facts = facts_of_graph(graph)
    return foretold(check_facts(facts, profile), facts, graph, profile)


@pytest.mark.parametrize("build", [c[2] for c in CASES[1::3]])
def test_what_is_said_to_stay_is_what_is_left(build: Callable[[], Graph]) -> None:
    graph = build()
    for profile in map(load, names()):
        if profile.arithmetic == "int8":  # where the file that is judged is float, and what is left is not
            continue
        said = told(graph, profile)
        assert kinds(said) == kinds(check_facts(facts_of_graph(graph), profile))
        # of the interface nothing changes but who reads or makes it, and notes are nothing to clear
        both = said, legalize(graph, profile).form
        said, left = ([v for v in of if not v.fixed and v.level != "note"] for of in both)
        assert kinds(v for v in said if not v.clears) == kinds(said) & kinds(left), profile.name


def test_rewrites_are_named_that_were_used_and_not_those_that_may_be() -> None:
    s = Sketch((1, 8, 8, 8))
    fits = s(ops.Resize2d((16, 16), "bilinear", "half_pixel", layout="NHWC"), s(ops.HardSwish(), s.graph.inputs[0]))
    graph = s.end(s(ops.Resize2d((160, 210), "bilinear", "half_pixel", layout="NHWC"), fits))
    said = {v.operator: v for v in told(graph, load("portable-4d"))}
    assert said["HARD_SWISH"].clears == ("spell-hard-swish",) and not said["HARD_SWISH"].tried
    assert said["RESIZE_BILINEAR"].clears == () and "taken back" in said["RESIZE_BILINEAR"].tried


def test_what_does_not_fit_says_so_and_what_has_none_names_none() -> None:
    (sine,) = told(unary(ops.Sin(), 1, 4, 4, 3)(), load("portable-4d"))
    assert sine.clears == () and sine.tried == ""
    s = Sketch((1, 4, 6, 8))
    graph = s.end(s(ops.ReduceMean((0, 3)), s.graph.inputs[0]))
    found = {v.code: v for v in told(graph, load("portable-4d"))}
    left = kinds(legalize(graph, load("portable-4d")).left)
    for code, violation in found.items():
        assert bool(violation.clears) is ((code, violation.operator) not in left)


def test_a_float_input_of_a_target_of_eight_bits_wants_quantising_not_another_form(tmp_path: Path) -> None:
    graph = unary(ops.Relu(), 1, 4, 4, 3)()
    found = check_facts(facts_of_graph(graph), load("hexagon"))
    assert found and not any("in another form" in v.message or v.fixed for v in found)
    write(graph, tmp_path / "net.tflite")
    (judged,) = instep.check(tmp_path / "net.tflite", "hexagon").judgements
    assert all("quantise" in v.message for v in judged.violations)


def test_what_is_wrong_with_the_kind_of_numbers_no_rewrite_clears_and_the_rest_of_a_quantised_file_does() -> None:
    """As Google's converter writes them: XNNPACK has a HARD_SWISH of floats alone, and shapes are computed."""
    graph, profile = unary(ops.HardSwish(), 1, 4, 4, 8)(), load("xnnpack")
    file = as_quantised(facts_of_graph(graph))
    (said,) = foretold(check_facts(file, profile), file, graph, profile)
    assert said.code == "XNN-FLOAT-ONLY" and said.clears == () and said.tried == ""
    (said,) = foretold(check_facts(file, load("coral-edgetpu")), file, graph, load("coral-edgetpu"))
    assert said.operator == "HARD_SWISH" and said.clears == ("spell-hard-swish",)


def test_what_the_plain_pipeline_writes_otherwise_is_respelled() -> None:
    """A file of another tool whose mirrored border the graph has as slices."""
    s = Sketch((1, 6, 6, 4))
    theirs = facts_of_graph(s.end(s(ops.Pad(((0, 0), (1, 1), (1, 1), (0, 0)), "reflect"), s.graph.inputs[0])))
    graph = unary(ops.Relu(), 1, 6, 6, 4)()
    found = check_facts(theirs, load("portable-4d"))
    (said,) = foretold(found, theirs, graph, load("portable-4d"))
    assert said.operator == "MIRROR_PAD" and said.clears == ("respell",)


def test_a_product_of_two_values_is_no_square() -> None:
    """What a norm does with its squares helps no other sum."""
    s = Sketch((1, 4, 4, 8))
    big = s(ops.Mul(), s.graph.inputs[0], np.full(8, 1e4, np.float32))
    graph, profile = s.end(s(ops.ReduceMean((1, 2)), big)), load("litert-gpu")
    found = check_numbers(facts_of_graph(graph), profile, Numbers(energy={big.name: 1e6}))
    assert [(v.operator, v.clears) for v in found] == [("MEAN", ("split-mean",))]
