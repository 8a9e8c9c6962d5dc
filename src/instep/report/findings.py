"""Violations as people read them: those that say the same of many operators are one finding."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["Finding", "findings", "single"]

#: How many scopes, and kinds of operators, of a finding are named.
NAMED = 3


def _first(names: Sequence[str]) -> str:
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more} more" if more > 0 else "")


@dataclass(frozen=True)
class Finding:
    """Violations (plain data, as in ``instep check --json``) of one reason code and with the same rewrites: of one kind
    of operator, or all in the same words."""

    violations: Sequence[Mapping[str, Any]]

    @property
    def first(self) -> Mapping[str, Any]:
        """The violation that stands for all."""
        return self.violations[0]

    @property
    def operator(self) -> str:
        """The operators, and how many of each."""
        kinds = Counter(v["operator"] for v in self.violations).most_common()
        return _first([f"{kind} ×{n}".strip() if n > 1 else kind for kind, n in kinds])

    @property
    def scope(self) -> str:
        """Where: the first few places. Of names that other tools join with semicolons, the first."""
        return _first(list(dict.fromkeys(v["scope"].partition(";")[0] for v in self.violations)))

    @property
    def origin(self) -> str:
        """The first few source lines that they come from, files without folders; "" where none is known."""
        lines = (v["origin"].rpartition("/")[2] for v in self.violations if v.get("origin"))
        return _first(list(dict.fromkeys(lines)))

    @property
    def message(self) -> str:
        """Why: what is said of the first, and how many others are told something else."""
        others = len({v["message"] for v in self.violations}) - 1
        return self.first["message"] + (f" (and {others} like it)" if others else "")

    @property
    def cleared_by(self) -> str:
        """The rewrites that clear it, or what became of them; of a note, which nothing has to clear, nothing."""
        none = "" if self.first["level"] == "note" else "no rewrite"
        return self.first["tried"] or " or ".join(self.first["clears"]) or none


def findings(violations: Iterable[Mapping[str, Any]]) -> list[Finding]:
    """The violations put together, in the order of the first of each kind."""
    groups: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for v in violations:
        groups.setdefault((*_rule(v), v["operator"]), []).append(v)
    together: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for key, group in groups.items():
        messages = {v["message"] for v in group}
        # said in the same words of other operators: nothing is lost in one row
        together.setdefault((*key[:-1], *messages) if len(messages) == 1 else key, []).extend(group)
    return [Finding(group) for group in together.values()]


def _rule(v: Mapping[str, Any]) -> tuple[Any, ...]:
    return v["level"], v["code"], tuple(v["clears"]), v["tried"]


def single(violations: Iterable[Mapping[str, Any]]) -> list[Finding]:
    """Each violation alone."""
    return [Finding([v]) for v in violations]
