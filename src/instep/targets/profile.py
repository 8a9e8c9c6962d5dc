"""A target's profile: what a piece of hardware or a runtime accepts, as data with the source of every rule."""

from __future__ import annotations

import functools
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from instep.graph.expression import Expression, expressions_in

__all__ = ["Evidence", "Limits", "OperatorSet", "Profile", "Rule", "load", "names", "resolve"]

#: Where the profiles that ship with Instep lie.
FOLDER = Path(__file__).parent / "profiles"

GRADES = ("measured", "source", "documentation", "field", "inferred")
#: "refused": the target does not take it; "wrong": it takes it and computes something else; "risk": it may compute
#: something else, depending on the values; "slow": it works, and costs more than it needs to.
SEVERITIES = ("refused", "wrong", "risk", "slow")
#: What happens to what a target refuses: nothing runs; the rest runs there; what comes before it runs there.
FALLBACKS = ("none", "partial", "suffix")
ARITHMETICS = ("float32", "float16", "int8")
#: What of a tensor only a run can tell.
MEASURED = frozenset(("lowest", "highest"))
#: By what tensors differ that are alike in all else.
PERSONAL = MEASURED | {"index", "name"}


@dataclass(frozen=True)
class Evidence:
    """What a profile rests on: ``grade`` is one of GRADES, ``runtime`` the version that was asked."""

    grade: str
    what: str
    runtime: str = ""


@dataclass(frozen=True)
class Rule:
    """One rule. ``require`` must hold where ``when`` holds; without ``require`` nothing satisfies it.

    ``scope``: "tensor" rules judge each tensor (``of``: any, computed, constant, input or output), "operator" rules
    each operator among ``operators`` (empty: every one), "model" rules the whole file.
    """

    code: str
    says: str
    source: str
    scope: str = "operator"
    operators: frozenset[str] = frozenset()
    of: str = "any"
    require: Expression | None = None
    when: Expression | None = None
    clears: tuple[str, ...] = ()
    severity: str = "refused"
    origin: str = ""

    @functools.cached_property
    def personal(self) -> bool:
        """Whether it reads by what tensors differ that are alike in all else."""
        asked = (self.when, self.require, *expressions_in(self.says))
        return any(not PERSONAL.isdisjoint(e.attributes) for e in asked if e is not None)


@dataclass(frozen=True)
class OperatorSet:
    """The operators that a target has; ``names=None``: every one."""

    code: str = "OPERATOR"
    says: str = "{op} is not among the operators of this target"
    source: str = ""
    names: frozenset[str] | None = None


@dataclass(frozen=True)
class Limits:
    """What numbers the target computes with: beyond ``largest`` values overflow, below ``smallest`` they vanish."""

    code: str
    largest: float
    smallest: float
    severity: str
    source: str


@dataclass(frozen=True)
class Profile:
    """One target. ``engine`` names the engine of ``instep.runtime`` that is the real thing, where there is one."""

    name: str
    description: str
    evidence: tuple[Evidence, ...]
    path: str
    fallback: str = "none"
    arithmetic: str = "float32"
    engine: str = ""
    avoid: frozenset[str] = frozenset()
    extends: tuple[str, ...] = ()
    operators: OperatorSet = field(default_factory=OperatorSet)
    rules: tuple[Rule, ...] = ()
    limits: Limits | None = None

    def has(self, code: str) -> bool:
        """Whether the target has the operator at all (its rules may still refuse a use of it)."""
        if self.operators.names is not None and code not in self.operators.names:
            return False
        return not any(r.require is None and r.when is None and code in r.operators for r in self.rules)

    @functools.cached_property
    def watched(self) -> frozenset[str]:
        """The operators whose rules ask what a tensor's values reach, which only a run can tell."""
        asked = [r for r in self.rules if not MEASURED.isdisjoint(_fields(r))]
        return frozenset(code for r in asked for code in r.operators)

    @functools.cached_property
    def by_operator(self) -> dict[str, tuple[Rule, ...]]:
        """Rules that name operators, by operator; "" holds those that judge every operator."""
        table: dict[str, list[Rule]] = {}
        for rule in self.rules:
            if rule.scope == "operator":
                for code in rule.operators or ("",):
                    table.setdefault(code, []).append(rule)
        return {code: tuple(rules) for code, rules in table.items()}

    def to_json(self) -> dict[str, Any]:
        """Plain data: what ``instep targets NAME --json`` prints."""
        return {
            "name": self.name,
            "description": self.description,
            "extends": list(self.extends),
            "fallback": self.fallback,
            "arithmetic": self.arithmetic,
            "engine": self.engine or None,
            "file": self.path,
            "evidence": [{"grade": e.grade, "what": e.what, "runtime": e.runtime or None} for e in self.evidence],
            "operators": None if self.operators.names is None else sorted(self.operators.names),
            "rules": [
                {
                    "code": r.code,
                    "scope": r.scope,
                    "operators": sorted(r.operators),
                    "require": r.require.text if r.require else None,
                    "when": r.when.text if r.when else None,
                    "says": r.says,
                    "severity": r.severity,
                    "clears": list(r.clears),
                    "source": r.source,
                }
                for r in self.rules
            ],
        }


def _fields(rule: Rule) -> set[str]:
    """The fields that a rule reads of whatever."""
    return {field for e in (rule.when, rule.require) if e is not None for _, field in e.fields}


def names() -> list[str]:
    """The profiles that ship with Instep."""
    return sorted(p.stem for p in FOLDER.glob("*.yaml"))


def resolve(name: str, near: Path | None = None) -> Path:
    """The file behind a name: a shipped profile, or a path (taken from ``near`` when relative and not found here).

    Raises ValueError that lists what there is.
    """
    if name in names():
        return FOLDER / f"{name}.yaml"
    looks = name.endswith((".yaml", ".yml")) or "/" in name
    places = [Path(name)] if near is None else [near / name, Path(name)]
    for place in places if looks else ():
        if place.is_file():
            return place
    if looks:
        raise ValueError(f"no such profile file: {name}")
    close = _close(name, names())
    hint = f"; did you mean {close}?" if close else "."
    raise ValueError(f"no target {name!r}{hint} Known: {', '.join(names())}; or the path of a .yaml file of yours")


def _close(name: str, known: Collection[str]) -> str:
    import difflib

    return next(iter(difflib.get_close_matches(name, known, 1)), "")


def load(name: str) -> Profile:
    """The profile of that name or path, with what it extends merged in. Raises ProfileError or ValueError."""
    from instep.targets.reading import read_profile

    return read_profile(resolve(name))
