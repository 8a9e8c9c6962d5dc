"""Which violations of a file its target's rewrites clear in truth: they are tried, on a graph that nobody keeps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from instep.graph import Graph, Node
from instep.targets.attempt import Change, judge_form
from instep.targets.check import Violation, check_facts
from instep.targets.facts import Facts, as_float, as_quantised, facts_of_graph
from instep.targets.legalize import legalize
from instep.targets.numbers import Numbers
from instep.targets.profile import Profile

__all__ = ["foretold"]

#: What clears a violation that the plain pipeline does not make when it aims at the target.
PLAIN = "respell"

#: What tells violations apart: the code, the operator, the tensor that it makes, the tensor that is meant.
Key = tuple[str, str, str, str]


def foretold(
    found: Sequence[Violation], facts: Facts, graph: Graph, profile: Profile, *, numbers: Numbers | None = None
) -> list[Violation]:
    """``found`` with the rewrites that clear each; those that none clears name none, and ``tried`` says why.

    ``facts`` are those of the file that was judged, ``graph`` is the network in it, lowered for ``profile``. What is
    said of the kind of numbers stays as it is: no rewrite quantises.
    Raises GraphError or EmitError.
    """
    trial = _Trial(facts, graph, profile, numbers or Numbers())
    exact = [trial.same(v) for v in found]
    told = []
    for violation, again in zip(found, exact, strict=True):
        if trial.untouched(violation):
            told.append(violation)
        elif again is not None or (again := trial.descendant(violation)) is not None:
            told.append(_kept(violation, again))
        else:
            told.append(replace(violation, clears=trial.clearing(violation)))
    return told


def _kept(violation: Violation, again: Violation) -> Violation:
    why = again.tried
    if not why and violation.clears:
        why = f"the rewrite {' or '.join(violation.clears)} does not fit here"
    return replace(violation, clears=(), tried=why)


def _made(violation: Violation, facts: Facts) -> str:
    """The tensor that the violating operator makes."""
    op = facts.operations[violation.index] if violation.index >= 0 else None
    return op.outputs[0].name if op is not None and op.outputs else ""


def _key(violation: Violation, facts: Facts) -> Key:
    return violation.code, violation.operator, _made(violation, facts), violation.tensor


class _Trial:
    """What the rewrites made of the graph, and which of the violations left is which of the file's."""

    def __init__(self, facts: Facts, graph: Graph, profile: Profile, numbers: Numbers) -> None:
        self.facts = facts
        self.limits = profile.limits.code if profile.limits is not None else ""
        alike = as_quantised(facts) if profile.arithmetic == "int8" else as_float(facts)
        self.alike = {_key(v, alike) for v in check_facts(alike, profile)}
        before = facts_of_graph(graph)
        self.nodes = {t.name: op.node for op in before.operations for t in op.outputs}
        self.formed = {_key(v, before) for v in judge_form(graph, profile, numbers)}
        result = legalize(graph, profile, numbers=numbers)
        after = facts_of_graph(result.graph)
        self.changes = result.changes
        self.left: dict[tuple[str, str], dict[Key, Violation]] = {}
        for violation in result.form:
            kind = violation.code, violation.operator
            self.left.setdefault(kind, {})[_key(violation, after)] = violation

    def untouched(self, violation: Violation) -> bool:
        """Is it a note, which nobody clears, about the interface, or about what the trial does not judge: the kind of
        the file's numbers, or values that were not measured?"""
        if violation.fixed or violation.level == "note":
            return True
        key = _key(violation, self.facts)
        return key not in (self.formed if violation.code == self.limits else self.alike) and not violation.clears

    def same(self, violation: Violation) -> Violation | None:
        """The violation as it is left, at the same tensor. Each is given once."""
        return self.left.get((violation.code, violation.operator), {}).pop(_key(violation, self.facts), None)

    def descendant(self, violation: Violation) -> Violation | None:
        """One of the same kind that is left of what the operator became; of an operator that the graph calls something
        else, of any. Each is given once."""
        left, node = self.left.get((violation.code, violation.operator), {}), self._node(violation)
        for key, again in left.items():
            if node is None or self._became(node, again.node):
                return left.pop(key)
        return None

    def clearing(self, violation: Violation) -> tuple[str, ...]:
        """The rewrites that changed the operator, or others of its layer; of those that the rule names, those alone."""
        node = self._node(violation)
        used = [] if node is None else [c for c in self.changes if node.output.name in c.touched]
        if node is not None and not used:
            layer = {n.output.name for n in self.nodes.values() if n is not None and n.scope == node.scope}
            used = [c for c in self.changes if c.touched & layer]
        names = tuple(dict.fromkeys(c.rewrite for c in used))
        named = tuple(n for n in names if n in violation.clears)
        return named or names or (PLAIN,)

    def _node(self, violation: Violation) -> Node | None:
        return self.nodes.get(_made(violation, self.facts))

    def _became(self, node: Node, later: Node | None) -> bool:
        if later is None or later.scope != node.scope:
            return False
        return any(_both(c, node, later) for c in self.changes)


def _both(change: Change, one: Node, other: Node) -> bool:
    return one.output.name in change.touched and other.output.name in change.touched
