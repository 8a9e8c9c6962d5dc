"""Mistakes in steps that are not built, of an unused struct or a branch not taken, are said with their line."""

from __future__ import annotations

from pathlib import Path

import pytest

from instep import zoo
from instep.graph.text import TextError, parse
from instep.verbs.text import fmt

TEXT = """instep: 1
args: {{deep: bool = false, n: int = 2}}
let: {{wide: 8}}
input: {{x: [1, 3, 8, 8]}}

structs:
  Spare:
    args: {{out: int, kind: str = relu}}
    in: [x, skip]
    body:
      - let: {{half: out // 2, word: relu}}
      - a = conv: {{out: half, kernel: 1}}
      - for i in range(3):
          - "{{kind}}"
          - if i > 0:
              - add(_, round)
          - y.{{i}}, round = split
      - concat(y.*)
      - {step}

body:
  - c = conv: {{out: wide, kernel: 1}}
  - if deep:
      - {branch}
"""
#: A step that is in order, and what is wrong with others.
GOOD = "conv: {out: a.channels + half}"
MISTAKES = [
    ("cnov: {out: 3}", "there is no layer or struct 'cnov'; did you mean 'conv'?"),
    ("conv: {out: 3, kernel_size: 1}", "conv 'conv' has no field 'kernel_size'; did you mean 'kernel'?"),
    ("s = softmax(b)", "softmax 's' reads 'b', which does not exist here"),
    ("concat(z.*)", "concat 'concat' reads 'z.*', which does not exist here"),
    ("conv: {out: hlaf}", "conv 'conv': out: in 'hlaf': there is no 'hlaf' here"),
    ("conv: {out: 2 *}", "conv 'conv': out: '2 *' is no expression"),
    ("if depth > 3: [relu]", "there is no 'depth' here"),
    ("for j in range(depth): [relu]", "there is no 'depth' here"),
    ("let: {k: depth + 1}", "let k: in 'depth + 1': there is no 'depth' here"),
    ("conv(x: 3", "'conv(x: 3' is no step"),
    ("bn = batch_norm; rleu", "there is no layer or struct 'rleu'; did you mean 'relu'?"),
]


def written(step: str, branch: str = "relu") -> str:
    quoted = '"' if step == "conv(x: 3" else ""
    return TEXT.format(step=f"{quoted}{step}{quoted}", branch=branch)


def test_what_is_in_order_is_read() -> None:
    for step in (GOOD, "a2, b2 = split(y.1)", "add(round, skip)", "relu(conv_1)"):
        assert len(parse(written(step)).nodes) == 1, step


@pytest.mark.parametrize(("step", "message"), MISTAKES)
def test_in_a_struct_that_nothing_uses(step: str, message: str) -> None:
    line = next(i for i, at in enumerate(TEXT.splitlines(), 1) if "{step}" in at)
    with pytest.raises(TextError) as error:
        parse(written(step))
    assert str(error.value).startswith(f"<text>:{line}: "), error.value
    assert message in str(error.value)
    if message.startswith("there is no"):
        assert "(in Spare)" in str(error.value)


def test_in_a_branch_that_is_not_taken() -> None:
    with pytest.raises(TextError, match=r"^<text>:24: there is no layer or struct 'rleu'; did you mean 'relu'\?$"):
        parse(written(GOOD, "rleu"))
    # the struct that it calls is asked for its arguments
    with pytest.raises(TextError, match="Spare 'Spare' has no field 'width'"):
        parse(written(GOOD, "Spare(c, x): {width: 3}"))


def test_what_a_struct_gives_back() -> None:
    text = written(GOOD).replace("    in: [x, skip]\n", "    in: [x, skip]\n    out: [a, b]\n")
    with pytest.raises(TextError, match="'b' is given back, and does not exist"):
        parse(text)


def test_the_formatter_says_it_and_changes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "net.yaml"
    text = written("cnov:   {out: 3}")
    file.write_text(text)
    with pytest.raises(TextError, match="'cnov'"):
        fmt(file)
    assert file.read_text() == text


@pytest.mark.parametrize("name", zoo.names())
def test_the_texts_of_the_zoo_are_in_order(name: str) -> None:
    fmt(zoo.path_of(name), check=True)
