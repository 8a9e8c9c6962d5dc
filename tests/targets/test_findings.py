"""What is said of many operators is one row for people; nothing is left out of the data."""

from __future__ import annotations

import json
from typing import Any

import pytest

from conftest import CommandLine
from instep.report.findings import findings, single
from instep.verbs.aim import TargetError

NETWORK = """
from torch import nn

class Leaky(nn.Sequential):
    def __init__(self):
        super().__init__(*(m for i in range(5) for m in (nn.Conv2d(3, 3, i + 1, padding="same"), nn.LeakyReLU(0.1))))
"""


def violation(operator: str, scope: str, message: str, **changes: Any) -> dict[str, Any]:
    plain = {"level": "error", "code": "X-RULE", "clears": ["spell"], "tried": None}
    return {**plain, "operator": operator, "scope": scope, "message": message, **changes}


def test_one_operator_one_code_and_one_rewrite_are_one_finding() -> None:
    given = [violation("PAD", f"b{i}.pad;other/name", f"{i} rows") for i in range(5)]
    (found,) = findings(given)
    assert found.operator == "PAD ×5" and found.scope == "b0.pad, b1.pad, b2.pad and 2 more"
    assert found.message == "0 rows (and 4 like it)" and found.cleared_by == "spell"
    assert [f.violations for f in single(given)] == [[v] for v in given]


@pytest.mark.parametrize(
    "other",
    [{"code": "Y-RULE"}, {"level": "warning"}, {"clears": ["other"]}, {"tried": "tried and taken back"}],
    ids=lambda c: next(iter(c)),
)
def test_what_differs_in_more_than_the_place_stays_apart(other: dict[str, Any]) -> None:
    given = [violation("PAD", "a", "rows"), violation("PAD", "b", "rows", **other), violation("PAD", "c", "rows")]
    assert [len(f.violations) for f in findings(given)] == [2, 1]


def test_operators_are_one_finding_only_where_the_same_words_are_said_of_them() -> None:
    same = [violation("PAD", "a", "float32"), violation("ADD", "b", "float32"), violation("PAD", "c", "float32")]
    (found,) = findings(same)
    assert found.operator == "PAD ×2, ADD" and found.message == "float32"
    assert len(findings([violation("PAD", "a", "PAD of 3"), violation("ADD", "b", "ADD of 3")])) == 2
    mixed = [*same, violation("ADD", "d", "float16")]
    assert [f.operator for f in findings(mixed)] == ["PAD ×2", "ADD ×2"], "one of the ADDs is told something else"


def test_the_table_has_a_row_for_a_finding_and_all_of_them_on_demand(instep: CommandLine) -> None:
    (instep.folder / "model.py").write_text(NETWORK)
    command = ("check", "model.py:Leaky", "--input", "1,3,12,12", "-t", "portable-4d", "--no-run")
    short, every = instep(*command), instep(*command, "--all")
    assert short.returncode == every.returncode == 1
    assert short.stdout.count("PORTABLE-OPERATOR") == 1 and "×5" in short.stdout
    assert every.stdout.count("PORTABLE-OPERATOR") == 5 and "×5" not in every.stdout
    (data,) = json.loads(instep(*command, "--json").stdout)["targets"]
    assert data["errors"] == len(data["violations"]) == 5 and len({v["index"] for v in data["violations"]}) == 5


def test_the_error_of_a_conversion_counts_all_and_lists_kinds() -> None:
    from instep.targets.check import Violation

    def one(i: int) -> Violation:
        return Violation(
            "camera", "X-SIN", "refused", "error", f"wave.{i}", "SIN", i, "", "no SIN", ("spell",), "device"
        )

    said = str(TargetError("camera", [one(i) for i in range(12)]))
    assert said.startswith("12 violations of camera") and said.count("\n") == 1
    assert "SIN ×12 'wave.0, wave.1, wave.2 and 9 more': no SIN [X-SIN]; the rewrite spell does not fit here" in said
