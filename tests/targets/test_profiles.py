"""Profiles: those that ship load and say what they rest on; a mistake in one is told with its line; hostile ones fail
fast."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from instep.graph import Graph, Value, ops
from instep.rewrite.pipelines import to_tflite
from instep.targets import ProfileError, load, names
from instep.targets.attempt import judge_form
from instep.targets.numbers import Numbers
from instep.targets.rewrites import CLEARINGS

SHIPPED = [
    "bstm", "coral-edgetpu", "ethos-u-vela3", "ethos-u55", "ethos-u65", "ethos-u85", "hexagon", "litert-gpu",
    "mediatek-mdla-2", "mediatek-mdla-3", "portable-4d", "qnn-htp", "tflite-gpu", "xnnpack",
]  # fmt: skip

GOOD = """\
name: mine
description: a device of mine
evidence:
  - grade: measured
    what: tried it
    runtime: firmware 3
operators:
  code: MINE-OPERATOR
  names: [CONV_2D, ADD]
  says: "{op} is missing"
  source: firmware 3
rules:
  - code: MINE-KERNEL
    operators: [CONV_2D]
    require: filter.shape[1] <= 3
    says: a kernel of {filter.shape[1]} rows
    source: firmware 3
"""


def write(folder: Path, text: str, name: str = "mine.yaml") -> str:
    (folder / name).write_text(text)
    return str(folder / name)


def test_all_targets_of_the_project_ship() -> None:
    assert names() == SHIPPED


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_profile_rests_on_something_and_names_rewrites_that_exist(name: str) -> None:
    profile = load(name)
    assert profile.name == name and profile.evidence and profile.rules
    for rule in profile.rules:
        assert rule.source and rule.says
        assert set(rule.clears) <= set(CLEARINGS)


def test_a_profile_of_a_user_is_read(tmp_path: Path) -> None:
    profile = load(write(tmp_path, GOOD))
    assert profile.has("ADD") and not profile.has("MUL")
    assert [r.code for r in profile.rules] == ["MINE-KERNEL"]


def test_a_profile_extends_a_shipped_one_and_one_beside_it(tmp_path: Path) -> None:
    write(tmp_path, GOOD, "base.yaml")
    child = write(
        tmp_path,
        "name: child\ndescription: stricter\nextends: [base.yaml, litert-gpu]\nfallback: none\ndrop: [MINE-KERNEL]\n"
        "operators: {add: [MUL], drop: [ADD]}\n",
    )
    profile = load(child)
    assert profile.has("MUL") and not profile.has("ADD")
    codes = {r.code for r in profile.rules}
    assert "MINE-KERNEL" not in codes and "GPU-RANK" in codes
    assert profile.extends == ("mine", "litert-gpu")


@pytest.mark.parametrize(
    ("old", "new", "line", "says"),
    [
        ("grade: measured", "grade: rumour", 4, "'grade' must be one of"),
        ("    runtime: firmware 3\n", "", 4, "'runtime' is missing"),
        ("names: [CONV_2D, ADD]", "names: [CONV2D, ADD]", 9, "TFLite has no operator 'CONV2D'"),
        ("code: MINE-KERNEL", "code: mine kernel", 13, "upper-case words"),
        ("operators: [CONV_2D]", "operaters: [CONV_2D]", 14, "no field 'operaters'"),
        ("filter.shape[1] <= 3", "kernel.shape[1] <= 3", 15, "nothing of CONV_2D is called 'kernel'"),
        ("filter.shape[1] <= 3", "filter.shap[1] <= 3", 15, "filter has no field 'shap'"),
        ("filter.shape[1] <= 3", "options.strides <= 3", 15, "options has no field 'strides'"),
        ("filter.shape[1] <= 3", "filter.shape[1] <=", 15, "no expression"),
        ("filter.shape[1] <= 3", "__import__('os').system('true')", 15, "only these are called"),
        ("filter.shape[1] <= 3", "open('x')", 15, "only these are called"),
        ("a kernel of {filter.shape[1]} rows", "a kernel of {filter.shape[1] rows", 16, "brace"),
        ("    source: firmware 3\n", "    clears: magic\n    source: firmware 3\n", 17, "no rewrite 'magic'"),
        ("name: mine", "name: mine\nname: yours", 2, "given a second time"),
        ("name: mine", "name: mine\nextends: litert-gpuu", 2, "did you mean litert-gpu"),
        ("name: mine", "name: mine\nextends: mine.yaml", 2, "extends this profile already"),
        ("name: mine", "name: mine\nfallback: maybe", 2, "'fallback' must be one of none, partial, suffix"),
        ("name: mine", "name: mine\navoid: [xnnpack]", 2, "no form 'xnnpack'"),
        ("name: mine", "name: &a mine", 1, "anchors and aliases"),
        ("name: mine", "name: !!python/name:os.system x", 1, "tag"),
        ("name: mine", "name: [mine", 2, "no YAML"),
        ("name: mine", "name: 3", 1, "'name' must be text"),
    ],
)
def test_a_mistake_is_told_with_its_line(tmp_path: Path, old: str, new: str, line: int, says: str) -> None:
    assert old in GOOD
    with pytest.raises(ProfileError) as caught:
        load(write(tmp_path, GOOD.replace(old, new, 1) if old != "    source: firmware 3\n" else _last(old, new)))
    assert f"mine.yaml:{line}: " in str(caught.value)
    assert says in str(caught.value)


def _last(old: str, new: str) -> str:
    head, _, tail = GOOD.rpartition(old)
    return head + new + tail


@pytest.mark.parametrize(
    "text",
    [
        "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a]\nc: [*b,*b,*b,*b,*b,*b,*b]\n",
        "name: " + "[" * 100_000,
        "name: " + "{a: " * 50_000,
        "- " * 20_000,
        "x" * 600_000,
        "\x00\x01\x02",
        "",
        "name: mine\ndescription: x\nrules: [{code: A, says: x, source: y, require: '" + "(" * 1900 + "'}]\n",
        "name: mine\ndescription: x\nrules: [{code: A, says: x, source: y, require: '" + "-" * 1900 + "1'}]\n",
    ],
)
def test_a_hostile_profile_is_an_error_at_once(tmp_path: Path, text: str) -> None:
    start = time.perf_counter()
    with pytest.raises(ProfileError):
        load(write(tmp_path, text))
    assert time.perf_counter() - start < 1.0


def test_an_unknown_target_lists_what_there_is() -> None:
    with pytest.raises(ValueError, match=r"no target 'litertgpu'; did you mean litert-gpu"):
        load("litertgpu")


def test_several_profiles_are_extended_by_what_all_of_them_take(tmp_path: Path) -> None:
    """Whichever is named first: neither's list of operators, limits or forms to avoid is lost."""
    head = "name: both\ndescription: either chip\nevidence: [{grade: measured, what: them, runtime: '1'}]\n"
    for order in ("bstm, hexagon, litert-gpu", "litert-gpu, bstm, hexagon"):
        profile = load(write(tmp_path, head + f"extends: [{order}]\n", "both.yaml"))
        assert profile.has("CONV_2D") and not profile.has("GELU") and not profile.has("L2_NORMALIZATION")
        assert profile.limits is not None and profile.limits.largest == 65504
        assert profile.avoid == load("hexagon").avoid | load("litert-gpu").avoid
        assert {"GPU-RANK", "BSTM-RANK", "HEXAGON-RANK"} <= {r.code for r in profile.rules}


def test_an_operator_that_is_added_is_refused_by_no_inherited_rule_as_such(tmp_path: Path) -> None:
    head = "name: mine\ndescription: m\nextends: portable-4d\nevidence: [{grade: measured, what: it, runtime: '1'}]\n"
    profile = load(write(tmp_path, head + "operators: {add: [BATCH_MATMUL]}\n"))
    assert profile.has("BATCH_MATMUL") and "PORTABLE-MATMUL" not in {r.code for r in profile.rules}
    assert not load(write(tmp_path, head)).has("BATCH_MATMUL")


@pytest.mark.parametrize("target", ["coral-edgetpu", "mediatek-mdla-2", "mediatek-mdla-3", "portable-4d"])
def test_a_depthwise_kernel_stays_whole_where_its_parts_are_refused(target: str) -> None:
    """XNNPACK is quicker with 7×7 as a sum of dilated kernels, whose dilation is longer in one direction."""
    graph, profile = depthwise(7), load(target)
    form = [v.code for v in judge_form(to_tflite(graph, avoid=profile.avoid)[0], profile, Numbers())]
    assert not form
    assert len(judge_form(to_tflite(graph)[0], profile, Numbers())) > 1


def test_portable_is_what_each_of_the_others_has() -> None:
    """RSQRT, without which no norm can be written, among them. Of the rest each is refused in some use."""
    others = [load(n) for n in names() if n != "portable-4d"]
    everywhere = {c for c in frozenset.union(*(p.operators.names or frozenset() for p in others))
                  if all(p.has(c) for p in others)}  # fmt: skip
    refused = {"MAXIMUM", "MINIMUM", "SPLIT", "SQUARED_DIFFERENCE", "STRIDED_SLICE", "TRANSPOSE", "TRANSPOSE_CONV"}
    assert {c for c in everywhere if not load("portable-4d").has(c)} == refused
    assert load("portable-4d").has("RSQRT") and not load("portable-4d").has("BATCH_MATMUL")


def depthwise(kernel: int) -> Graph:
    graph = Graph([Value("x", (1, 16, 20, 20))], input_names=["x"])
    weight = graph.constant(np.random.default_rng(0).normal(size=(16, 1, kernel, kernel)).astype(np.float32), "w")
    bias = graph.constant(np.zeros(16, np.float32), "b")
    pad = (kernel // 2, kernel // 2)
    node = graph.add(ops.Conv2d(padding=(pad, pad), groups=16), [graph.inputs[0], weight, bias], scope="mix")
    graph.outputs, graph.output_names = [node.output], ["y"]
    return graph
