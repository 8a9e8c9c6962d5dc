"""The shipped profiles say what the engines answered, and the installed engines still answer so."""

from __future__ import annotations

import dataclasses
import json
import random
from pathlib import Path

import numpy as np
import pytest

from instep.runtime import available, engine_of
from instep.targets import load
from instep.targets.probe import Answer, Answers, ask, compare, questions, recorded, runtime_of, write_profile
from instep.targets.probe.answers import read
from instep.targets.probe.question import constant, one, spell
from instep.verbs.probe import probe

RECORDED = recorded()
#: Answers that are held against a profile: a seeded sample of the right ones and of the others.
RIGHT_SAMPLE, BAD_SAMPLE = 150, 350
#: Questions that the installed engine is asked again: few on the GPU, where a software driver compiles each shader.
AGAIN = {"litert-gpu": 40, "xnnpack": 60}


def sample(answers: Answers, right: int, bad: int | None = None) -> Answers:
    """Some of the right answers and some (or all) of the others."""
    rng = random.Random(0)
    healthy = sorted(n for n, a in answers.answers.items() if not a.bad)
    others = sorted(n for n, a in answers.answers.items() if a.bad)
    chosen = rng.sample(healthy, min(right, len(healthy)))
    chosen += others if bad is None else rng.sample(others, min(bad, len(others)))
    return dataclasses.replace(answers, answers={n: answers.answers[n] for n in chosen})


@pytest.mark.parametrize("engine", RECORDED)
def test_a_shipped_profile_foretells_what_its_engine_answered(engine: str) -> None:
    """0 missed, 0 false: what is refused or wrong is objected to, and what is right is not."""
    found = compare(sample(RECORDED[engine], RIGHT_SAMPLE, BAD_SAMPLE), load(engine), questions())
    assert not found.missed and not found.false, (found.missed, found.false)


@pytest.mark.parametrize("engine", AGAIN)
def test_the_installed_engine_answers_as_recorded(engine: str) -> None:
    missing = available(engine)
    if missing is not None:
        pytest.skip(missing)
    answers = RECORDED[engine]
    if runtime_of(engine)[0] != answers.runtime:
        pytest.skip(f"{runtime_of(engine)[0]} is installed; recorded is {answers.runtime}: run `instep probe {engine}`")
    # a crash costs a process: the sample's share of bad answers is a fifth
    some = sample(answers, AGAIN[engine] * 4 // 5, AGAIN[engine] // 5)
    again = ask(engine, [questions()[n] for n in some.answers])
    assert {n: a.kind for n, a in again.answers.items()} == {n: a.kind for n, a in some.answers.items()}


def test_every_operator_that_the_profile_takes_was_asked_about() -> None:
    asked = {q.operator for q in questions().values()}
    assert len(questions()) > 1000 and len(asked) > 100
    assert all(q.name.startswith(q.operator.lower() + "/") for q in questions().values())


def test_recorded_answers_are_those_of_the_questions_that_are_asked() -> None:
    for engine, answers in RECORDED.items():
        assert set(answers.answers) == set(questions()), engine
        assert answers.runtime and engine_of(answers.engine)


@pytest.mark.parametrize("engine", ["litert-gpu"])
def test_the_profile_that_a_probe_writes_foretells_the_answers_it_came_from(engine: str, tmp_path: Path) -> None:
    """Rules are learned, so what was learned from is the least that they must foretell."""
    wanted = ("conv_2d", "batch_matmul", "arg_max", "leaky_relu", "gather_nd", "split", "depth_to_space")
    given = RECORDED[engine]
    some = {n: a for n, a in given.answers.items() if n.partition("/")[0] in wanted}
    answers = dataclasses.replace(given, answers=some)
    for base in (load(engine), None):  # with the rules that are known, and from the general hypotheses alone
        path = write_profile(answers, questions(), tmp_path / "learned.yaml", base)
        profile = load(str(path))
        assert not profile.has("GATHER_ND") and profile.has("CONV_2D")
        assert given.runtime in profile.evidence[0].runtime
        found = compare(answers, profile, questions())
        left = set(found.missed) - {n for n in some if len(questions()[n].steps) > 1}
        assert not left and (base is None or found.ok), (found.missed, found.false)


def test_a_wrong_answer_becomes_a_rule_of_severity_wrong(tmp_path: Path) -> None:
    asked = {n: q for n, q in questions().items() if q.operator == "TANH"}
    answers = Answers("xnnpack", "ai-edge-litert 0.0")
    answers.answers = {n: Answer("wrong" if q.operands[0].shape[:1] == (3,) else "right") for n, q in asked.items()}
    profile = load(str(write_profile(answers, questions(), tmp_path / "made.yaml")))
    assert [(r.severity, r.operators) for r in profile.rules] == [("wrong", frozenset({"TANH"}))] * len(profile.rules)
    assert profile.rules and compare(answers, profile, questions()).ok


def test_answers_survive_their_file(tmp_path: Path) -> None:
    answers = RECORDED["litert-gpu"]
    answers.write(tmp_path / "again.json")
    assert read(tmp_path / "again.json") == answers
    assert json.loads((tmp_path / "again.json").read_text())["counts"]["right"] == answers.counts()["right"]


def test_a_wrong_value_is_told_from_rounding() -> None:
    """The kernels' own answer is right; the same operator asked to give something else is not."""
    shape = (1, 3, 4, 8)
    healthy = one("healthy", "TANH", questions()["tanh/plain"].steps[0][0], shape)
    assert ask("builtin", [healthy]).answers["tanh/healthy"].kind == "right"
    flat = spell("L2_NORMALIZATION", shape)
    answer = ask("xnnpack", [one("left", "L2_NORMALIZATION", flat, shape)]).answers["l2_normalization/left"]
    assert answer.kind == "refused" and "own kernels" in answer.message
    # ATAN2 with both operands broadcast: TFLite's kernel repeats the smaller tensors wrongly
    both = ask("builtin", [questions()["atan2/broadcast=both"]]).answers["atan2/broadcast=both"]
    assert both.kind == "wrong" and both.ratio is not None and both.ratio > 1000


def test_probe_writes_its_files_and_says_what_it_does_not_know(tmp_path: Path) -> None:
    out, answers = tmp_path / "mine.yaml", tmp_path / "mine.json"
    result = probe("xnnpack", out, only=["softmax"], answers=answers)
    assert result.ok and result.compared and result.answers.counts()["refused"] == 2
    assert [r.code for r in load(str(out)).rules] == ["XNN-RANK", "XNN-SOFTMAX"]
    assert read(answers).answers.keys() == result.answers.answers.keys()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mine.json", "mine.yaml"]
    for name, only, what in (("bstm", [], "no engine"), ("nothing", [], "engine must be"), ("xnnpack", ["FOO"], "FOO")):
        with pytest.raises(ValueError, match=what):
            probe(name, only=only)
    with pytest.raises(ValueError, match="no such folder"):
        probe("xnnpack", tmp_path / "absent" / "x.yaml", only=["TANH"])


def test_a_question_in_eight_bits_keeps_its_form(tmp_path: Path) -> None:
    question = questions()["conv_2d/plain"]
    facts = question.facts(tmp_path, int8=True)
    (operation,) = facts.operations
    kinds = [t.dtype for t in (*operation.inputs, *operation.outputs) if t is not None]
    assert kinds == ["int8", "int8", "int32", "int8"]
    assert all(t.scale for t in operation.outputs)


def test_operands_are_drawn_alike_each_time() -> None:
    question = one("twice", "ADD", spell("ADD", (2, 3)), (2, 3), constant(3))
    first, second = question.inputs(), question.inputs()
    np.testing.assert_array_equal(first[0], second[0])
    assert question.graph().inputs[0].shape == (2, 3) and len(question.graph().weights) == 1
