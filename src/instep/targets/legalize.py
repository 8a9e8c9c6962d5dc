"""Makes a lowered graph acceptable to a target: violations choose rewrites, and what helps nothing is taken back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from instep.graph import Graph
from instep.rewrite.driver import PassReport
from instep.targets.attempt import Attempt, Change, Limits, Place, attempt
from instep.targets.check import Violation
from instep.targets.numbers import Numbers
from instep.targets.profile import Profile

__all__ = ["Legalized", "legalize"]

#: Attempts with ever fewer rewrites.
ATTEMPTS = 24


@dataclass
class Legalized:
    """The graph, what each rewrite did, the violations that were cleared and those that are left.

    ``form``: of those left, what is wrong with the graph's form: a float graph is judged as the file of eight bits that
    it becomes where the target takes nothing else. ``changes``: each use of a rewrite that stayed.
    """

    graph: Graph
    passes: list[PassReport] = field(default_factory=list)
    cleared: list[Violation] = field(default_factory=list)
    left: list[Violation] = field(default_factory=list)
    form: list[Violation] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)

    @property
    def errors(self) -> list[Violation]:
        """What is left and keeps the file from running there, or from running right."""
        return [v for v in self.left if v.level == "error"]


def legalize(
    graph: Graph,
    profile: Profile,
    *,
    numbers: Numbers | None = None,
    prove: Callable[[Graph, Graph, str], object] | None = None,
    progress: Callable[[str], None] | None = None,
) -> Legalized:
    """Judge the lowered ``graph``, rewrite what is violated, and again, until nothing is or nothing more changes.

    A rewrite after which as much is wrong as before, or more, is taken back where it was used: the result never has
    more violations than ``graph``. (A target of eight bits judges a float graph as the file it becomes by being
    quantised.) ``numbers``: what the file's values reach (``targets.numbers.measure`` of the graph's file), for
    float16's range. ``prove(before, after, name)`` is called after each rewrite that stays. Raises GraphError or
    EmitError.
    """
    untouched = attempt(graph, profile, numbers or Numbers(), {}, rounds=0)
    if not untouched.left:
        return Legalized(graph)
    made, limits, back = _settled(graph, profile, numbers or Numbers(), progress)
    if made.weight > untouched.weight:
        made, back = untouched, [*made.changes, *back]
    elif prove is not None and made.passes:
        made = attempt(graph, profile, numbers or Numbers(), limits, prove=prove, progress=progress)
    remaining = {_key(v) for v in made.left}
    cleared = [v for v in untouched.left if _key(v) not in remaining]
    left, form = ([replace(v, tried=_story(v, back)) for v in of] for of in (made.left, made.form))
    return Legalized(made.graph, made.passes, cleared, left, form, made.changes)


def _key(violation: Violation) -> tuple[str, ...]:
    return violation.code, violation.scope, violation.operator, violation.tensor


def _settled(
    graph: Graph, profile: Profile, numbers: Numbers, progress: Callable[[str], None] | None
) -> tuple[Attempt, Limits, list[Change]]:
    """An attempt in which every rewrite helps, the limits that it takes, and the changes that were taken back."""
    limits: dict[Place, int] = {}
    back: list[Change] = []
    made = attempt(graph, profile, numbers, limits, progress=progress)
    for _ in range(ATTEMPTS):
        for changes in _groups(made.vain):
            less = limits | {place: turn - 1 for change in changes for place, turn in change.places.items()}
            other = attempt(graph, profile, numbers, less, progress=progress)
            if other.weight <= made.weight:
                made, limits, back = other, less, [*back, *changes]
                break
        else:
            break
    return made, limits, back


def _groups(changes: Sequence[Change]) -> Iterator[Sequence[Change]]:
    """What to take back together: all, then those of each rewrite."""
    if changes:
        yield changes
    names = dict.fromkeys(c.rewrite for c in changes)
    for name in names if len(names) > 1 else ():
        yield [c for c in changes if c.rewrite == name]


def _story(violation: Violation, back: Sequence[Change]) -> str:
    """Why rewrites that would clear the violation are not in the graph."""
    if violation.node is None:
        return ""
    output = violation.node.output.name
    told = [c.story for c in back if c.rewrite in violation.clears and output in c.touched]
    return "; ".join(filter(None, dict.fromkeys(told)))
