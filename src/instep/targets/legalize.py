"""Makes a lowered graph acceptable to a target: violations choose rewrites, which change the violating nodes alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from instep.graph import Graph, ops
from instep.rewrite.driver import PassReport, Rewrite, rewrite, run
from instep.rewrite.edit import Editor
from instep.rewrite.fold.constants import fold_constants
from instep.rewrite.fold.duplicates import merge_constants, merge_duplicates
from instep.rewrite.lower.table import Build
from instep.targets.check import Violation, check_facts
from instep.targets.facts import facts_of_graph
from instep.targets.numbers import Numbers, check_numbers, note
from instep.targets.profile import Profile
from instep.targets.rewrites import CLEARINGS, Clearing, Target

__all__ = ["Legalized", "legalize"]

#: Rounds of judging and rewriting; each clears what the one before made.
ROUNDS = 16
#: How often one rewrite may change what makes one value (a stride of 8 is split twice).
REPEATS = 4


@rewrite("a reshape reads the elements in order, whatever reshape came before")
def merge_reshapes(edit: Editor) -> bool:
    changed = False
    for node in edit.nodes(ops.Reshape):
        maker = edit.maker(node.inputs[0], ops.Reshape)
        if maker is None or not edit.alive(node):
            continue
        if maker.inputs[0].shape == node.output.shape and not edit.is_output(node.output):
            edit.replace(node, maker.inputs[0])
        else:
            edit.splice(node, node.op, [maker.inputs[0]])
        changed = True
    return changed


#: Not among them: the canonical form of views, which would put a transpose that was split together again, and the end
#: of identities, by which a rewrite may keep two operands apart.
TIDY: tuple[Rewrite, ...] = (fold_constants, merge_duplicates, merge_reshapes, merge_constants)


@dataclass
class Legalized:
    """The graph, what each rewrite did, the violations that were cleared and those that are left."""

    graph: Graph
    passes: list[PassReport] = field(default_factory=list)
    cleared: list[Violation] = field(default_factory=list)
    left: list[Violation] = field(default_factory=list)

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

    ``numbers``: what the file's values reach (``targets.numbers.measure`` of the graph's file), for float16's range.
    ``prove(before, after, name)`` is called after each rewrite. Raises GraphError or EmitError.
    """
    seen = Numbers() if numbers is None else numbers
    numbers = replace(seen, energy={**seen.energy}, largest={**seen.largest}, lowest={**seen.lowest})
    result = Legalized(graph)
    target = Target(profile, numbers.energy, numbers.largest, numbers.lowest)
    tried: Counter[tuple[str, str]] = Counter()
    first: list[Violation] | None = None
    for _ in range(ROUNDS):
        found = _judge(result.graph, profile, numbers)
        first = found if first is None else first
        plan = _plan(found, tried)
        if not plan:
            break
        changed = False
        for name, outputs in plan.items():
            tried.update((name, output) for output in outputs)
            step = _step(CLEARINGS[name], outputs, target)
            result.graph, reports = run(result.graph, (step,), prove=prove, progress=progress)
            result.passes += [r for r in reports if r.changed]
            changed |= any(r.changed for r in reports)
        if changed:
            result.graph, reports = run(result.graph, TIDY, rounds=3, prove=prove, progress=progress)
            result.passes += [r for r in reports if r.changed]
    result.left = _judge(result.graph, profile, numbers)
    remaining = {(v.code, v.scope, v.operator, v.tensor) for v in result.left}
    result.cleared = [v for v in first or () if (v.code, v.scope, v.operator, v.tensor) not in remaining]
    return result


def _judge(graph: Graph, profile: Profile, numbers: Numbers) -> list[Violation]:
    facts = note(facts_of_graph(graph), numbers)
    return [*check_facts(facts, profile), *check_numbers(facts, profile, numbers)]


def _plan(found: Iterable[Violation], tried: Counter[tuple[str, str]]) -> Mapping[str, Sequence[str]]:
    """Rewrite → the outputs of the nodes that it shall change: of each violation the first that may be tried."""
    plan: dict[str, list[str]] = {}
    for violation in found:
        node = violation.node
        if node is None or violation.level == "note":
            continue
        output = node.output.name
        name = next((c for c in violation.clears if tried[c, output] < REPEATS), None)
        if name is not None and output not in plan.setdefault(name, []):
            plan[name].append(output)
    return plan


def _step(clearing: Clearing, outputs: Sequence[str], target: Target) -> Rewrite:
    """The clearing as a rewrite of the nodes that make ``outputs``."""

    def function(edit: Editor) -> bool:
        changed = False
        wanted = set(outputs)
        for node in edit.nodes():
            if edit.alive(node) and node.output.name in wanted:
                changed |= clearing.function(Build(edit, node, target.profile.avoid), target)
        return changed

    return Rewrite(clearing.name, clearing.exact, function)
