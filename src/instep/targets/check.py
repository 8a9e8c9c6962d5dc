"""Judges a file's facts by a profile: every violation with its place, its reason and the rewrite that clears it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from instep.graph import Node
from instep.graph.expression import ExpressionError, fill
from instep.targets.facts import Facts, Operation, Tensor, quantised
from instep.targets.profile import Profile, Rule
from instep.targets.rewrites import clearings_for

__all__ = ["Placement", "Violation", "check_facts", "place"]


@dataclass(frozen=True)
class Violation:
    """One thing that the target does not take, or computes wrongly.

    ``level``: "error" (the file does not run there, or runs wrongly), "warning" (that part runs on the processor, or
    may come out wrong) or "note" (it costs more than it needs to). ``index`` is the operator's number in the file
    (-1: the file as a whole), ``tensor`` the tensor's name where one is meant. ``tried`` says why a rewrite that
    was tried here was taken back. ``origin`` is the source line that the operator comes from, where that is known;
    ``fixed``: it is of the network's own input or output, which no rewrite changes.
    """

    target: str
    code: str
    severity: str
    level: str
    scope: str
    operator: str
    index: int
    tensor: str
    message: str
    clears: tuple[str, ...]
    source: str
    node: Node | None = None
    tried: str = ""
    origin: str = ""
    fixed: bool = False

    def to_json(self) -> dict[str, Any]:
        """Plain data, as in ``instep check --json``."""
        return {
            "target": self.target,
            "code": self.code,
            "severity": self.severity,
            "level": self.level,
            "scope": self.scope,
            "origin": self.origin or None,
            "operator": self.operator,
            "index": self.index,
            "tensor": self.tensor or None,
            "message": self.message,
            "clears": [] if self.fixed else list(self.clears),
            "tried": self.tried or None,
            "source": self.source,
        }

    @property
    def place(self) -> str:
        """Operator, scope, what is wrong and the reason code."""
        return f"{self.operator} '{self.scope}': {self.message} [{self.code}]"

    def __str__(self) -> str:
        hint = f"; the rewrite {' or '.join(self.clears)} clears it" if self.clears and not self.fixed else ""
        return f"{self.place}{hint}"


@dataclass(frozen=True)
class Placement:
    """How much of a file runs on the target: ``on_target`` of ``operators``, in ``partitions`` pieces."""

    on_target: int
    operators: int
    partitions: int


def level_of(severity: str, fallback: str) -> str:
    """What a severity means on a target with that fallback."""
    if severity == "refused":
        return "error" if fallback == "none" else "warning"
    return {"wrong": "error", "risk": "warning", "slow": "note"}[severity]


def check_facts(facts: Facts, profile: Profile) -> list[Violation]:
    """Every violation, in the file's order; those of the file as a whole come first."""
    judge = _Judge(facts, profile)
    found = [*judge.model(), *judge.tensors(), *judge.operators()]
    return found if profile.fallback == "none" else _with_fallback(found)


def _with_fallback(found: list[Violation]) -> list[Violation]:
    """What the target refuses is the processor's, which computes it right: what the target would get wrong in it is no
    error then, unless the refusal is cleared."""
    refused = {v.index for v in found if v.severity == "refused" and v.index >= 0}
    return [replace(v, level="warning") if v.level == "error" and v.index in refused else v for v in found]


def place(facts: Facts, profile: Profile, violations: Iterable[Violation]) -> Placement:
    """Where the operators run, by the profile's fallback rule."""
    refused = {v.index for v in violations if v.target == profile.name and v.severity == "refused"}
    total = len(facts.operations)
    if -1 in refused or (profile.fallback == "none" and refused):
        return Placement(0, total, 0)
    if profile.fallback == "suffix":
        first = min(refused, default=total)
        return Placement(first, total, int(first > 0))
    runs = [i not in refused for i in range(total)]
    starts = [now and not before for before, now in zip([False, *runs], runs, strict=False)]
    return Placement(sum(runs), total, sum(starts))


class _Judge:
    """One file against one profile."""

    def __init__(self, facts: Facts, profile: Profile) -> None:
        self.facts = facts
        self.profile = profile
        self.reader: dict[int, Operation] = {}
        self.maker: dict[int, Operation] = {}
        self.judged: dict[Hashable, dict[int, str | None]] = {}
        for op in facts.operations:
            for tensor in op.inputs:
                if tensor is not None:
                    self.reader.setdefault(tensor.index, op)
            for tensor in op.outputs:
                self.maker[tensor.index] = op

    def violation(self, rule: Rule, message: str, op: Operation | None, tensor: Tensor | None = None) -> Violation:
        clears = rule.clears
        if not clears and op is not None and rule.require is None and rule.scope == "operator":
            clears = clearings_for(op.code)
        scope = op.scope if op is not None else tensor.name if tensor is not None else self.facts.name
        return Violation(
            self.profile.name,
            rule.code,
            rule.severity,
            level_of(rule.severity, self.profile.fallback),
            scope,
            op.code if op is not None else "",
            op.index if op is not None else -1,
            tensor.name if tensor is not None else "",
            message,
            clears,
            rule.source,
            op.node if op is not None else None,
            origin=op.origin if op is not None else "",
        )

    def why(self, rule: Rule, kind: Hashable, shown: Callable[[], Mapping[str, Any]]) -> str | None:
        """The rule's message when it is broken. What is of one kind is judged once, unless the rule tells it apart."""
        if rule.personal:
            return _broken(rule, shown())
        judged = self.judged.setdefault(kind, {})
        if id(rule) not in judged:
            judged[id(rule)] = _broken(rule, shown())
        return judged[id(rule)]

    def model(self) -> Iterable[Violation]:
        for rule in self.profile.rules:
            if rule.scope == "model" and (why := _broken(rule, self.facts.model)) is not None:
                yield self.violation(rule, why, None)

    def tensors(self) -> Iterable[Violation]:
        rules = [r for r in self.profile.rules if r.scope == "tensor"]
        ports = {"input": {t.index for t in self.facts.inputs}, "output": {t.index for t in self.facts.outputs}}
        for tensor in self.facts.tensors:
            op = self.maker.get(tensor.index) or self.reader.get(tensor.index)
            if op is None and not any(tensor.index in p for p in ports.values()):
                continue
            code = op.code if op is not None else ""
            shown = functools.partial(_shown, tensor, code, self.facts.model)
            for rule in rules:
                if not _meant(rule, tensor, ports):
                    continue
                if (why := self.why(rule, (code, tensor.kind), shown)) is not None:
                    own = "" if self._of_float(rule, tensor, code) else _port(tensor, ports)
                    if own and rule.of not in ports:
                        why += f"; it is an {own} of the network, which rewrites leave as it is"
                        why += ": return it in another form" if own == "output" else ": take it in another form"
                    yield replace(self.violation(rule, why, op, tensor), fixed=bool(own))

    def _of_float(self, rule: Rule, tensor: Tensor, code: str) -> bool:
        """Whether the rule objects to a float value as such: quantising the file clears that, of inputs too."""
        if self.profile.arithmetic != "int8" or not tensor.dtype.startswith("float"):
            return False
        return _broken(rule, _shown(quantised(tensor), code, self.facts.model)) is None

    def operators(self) -> Iterable[Violation]:
        table, names = self.profile.by_operator, self.profile.operators
        for op in self.facts.operations:
            if names.names is not None and op.code not in names.names:
                rule = Rule(names.code, names.says, names.source, operators=frozenset({op.code}))
                yield self.violation(rule, fill(names.says, {"op": op.code}), op)
                continue
            rules: Sequence[Rule] = (*table.get("", ()), *table.get(op.code, ()))
            if not rules:
                continue
            kind, shown = op.kind, functools.partial(op.environment, self.facts.model)
            for rule in rules:
                if (why := self.why(rule, kind, shown)) is not None:
                    yield self.violation(rule, why, op)


def _meant(rule: Rule, tensor: Tensor, ports: Mapping[str, set[int]]) -> bool:
    if rule.of in ports:
        return tensor.index in ports[rule.of]
    return rule.of == "any" or tensor.constant == (rule.of == "constant")


def _port(tensor: Tensor, ports: Mapping[str, set[int]]) -> str:
    """Which side of the network's interface the tensor is: "input", "output" or neither."""
    return next((side for side, held in ports.items() if tensor.index in held), "")


def _shown(tensor: Tensor, code: str, model: Mapping[str, Any]) -> dict[str, Any]:
    """What the expressions of a rule read about a tensor that the operator ``code`` makes or reads."""
    return {**tensor.record, "model": model, "op": code}


def _broken(rule: Rule, values: Mapping[str, Any]) -> str | None:
    """The rule's message when it is broken. What cannot be judged (a computed axis, say) counts as broken."""
    try:
        if rule.when is not None and not rule.when.evaluate(values):
            return None
        if rule.require is not None and rule.require.evaluate(values):
            return None
        return fill(rule.says, values)
    except ExpressionError:
        return f"cannot be judged: {rule.require.text if rule.require else rule.says}"
