"""The commands about texts: export, fmt, zoo, and texts as sources of the others."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from instep.cli import app
from instep.graph.text import parse
from instep.graph.text.formatter import format_text
from instep.graph.text.schema import schema
from instep.graph.text.tree import plain, read_tree
from instep.zoo import names, path_of

UNTIDY = """# a head
input:   {x: [ 1,3, 8,8]}   # the picture
body:
- conv:
    out: 4
    # how wide
    kernel: 3
- for i in range( 2 ):
  - c{i}   =   conv:  {out: 4,  kernel: 1}


- relu
# the end
"""


def run(*words: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, list(words))
    return result.exit_code, result.output


def test_the_formatter_keeps_meaning_and_comments_and_is_done_at_once(tmp_path: Path) -> None:
    made = format_text(UNTIDY)
    assert format_text(made) == made
    assert [c in made for c in ("# a head", "# the picture", "# how wide", "# the end")] == [True] * 4
    assert [str(n) for n in parse(made).nodes] == [str(n) for n in parse(UNTIDY).nodes]
    assert plain(read_tree(made, ""))["input"] == {"x": [1, 3, 8, 8]}


@pytest.mark.parametrize(
    "line",
    [
        'args: {kind: str = "Res", n: int = 4, odd: "a,b"}',
        "doc: A network, with [brackets] and 'quotes'",
        'body:\n  - for k in ["a", "b"]:\n      - relu',
    ],
)
def test_the_formatter_adds_no_quotes_where_none_are_needed(line: str) -> None:
    assert format_text(line + "\n") == line + "\n"


def test_fmt_check_says_what_would_change_and_changes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "net.yaml"
    file.write_text(UNTIDY)
    status, said = run("fmt", "--check", str(file))
    assert status == 1 and "would change" in said and file.read_text() == UNTIDY
    assert run("fmt", str(file))[0] == 0
    assert run("fmt", "--check", str(file)) == (0, "")


def test_the_schema_knows_layers_and_their_fields() -> None:
    status, said = run("fmt", "--schema")
    made = json.loads(said)
    assert status == 0 and made == json.loads(json.dumps(schema()))
    patterns = made["$defs"]["step"]["anyOf"][1]["patternProperties"]
    conv = next(v for k, v in patterns.items() if "?conv\\s" in k)
    assert {"out", "kernel", "padding", "at"} <= set(conv["properties"]) and not conv["additionalProperties"]


def test_the_zoo_is_valid_by_the_schema() -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed")
    checker = jsonschema.Draft202012Validator(schema())
    for name in names():
        tree = plain(read_tree(path_of(name).read_text("utf-8"), name))
        assert not [e.message for e in checker.iter_errors(tree)], name
    bad = {"input": {"x": [1]}, "body": [{"conv": {"out": 3, "kernel": 1, "strides": 2}}]}
    assert list(checker.iter_errors(bad))


def test_the_zoo_is_listed_and_shown() -> None:
    status, said = run("zoo", "list", "--json")
    entries = {e["name"]: e for e in json.loads(said)}
    assert status == 0 and entries["fbnet_a"]["parameters"] == 4_321_232
    assert [entries[n]["seed"] for n in ("distortion_net", "uvq", "fbnet_a", "wrn", "swat")] == [0, 1, 2, 3, 4]
    assert "003" in next(line for line in run("zoo", "list")[1].splitlines() if "zoo:wrn " in line)
    assert run("zoo", "show", "elsr")[1] == path_of("elsr").read_text("utf-8")


def test_show_takes_a_text_with_arguments() -> None:
    status, said = run("show", "zoo:abpn", "--arg", "scale=4", "--json")
    assert status == 0 and json.loads(said)["parameters"] == 62_048


def test_an_error_of_a_text_is_one_line_and_status_two(tmp_path: Path) -> None:
    file = tmp_path / "net.yaml"
    file.write_text("input: {x: [1, 3, 8, 8]}\nbody:\n  - conv: {out: 0, kernel: 1}\n")
    status, said = run("show", str(file))
    assert status == 2 and f"{file}:3: conv 'conv_1': out must be a positive integer, got 0" in said


def test_export_writes_text_and_weights(tmp_path: Path) -> None:
    status, said = run("export", "zoo:elsr", "-o", str(tmp_path / "net.yaml"))
    assert status == 0 and said.split() == [str(tmp_path / "net.yaml"), str(tmp_path / "net.safetensors")]
    assert run("export", str(tmp_path / "net.yaml"), "-o", str(tmp_path / "net.yaml"))[0] == 2
