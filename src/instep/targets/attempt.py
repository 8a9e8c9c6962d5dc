"""One attempt at making a lowered graph legal: which rewrite changed which places, and what it left behind there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from instep.graph import Graph, Node, ops
from instep.rewrite.driver import PassReport, Rewrite, rewrite, run
from instep.rewrite.edit import Editor
from instep.rewrite.fold.constants import fold_constants
from instep.rewrite.fold.duplicates import merge_constants, merge_duplicates
from instep.rewrite.lower.table import Build
from instep.targets.check import Violation, check_facts
from instep.targets.facts import as_quantised, facts_of_graph
from instep.targets.numbers import Numbers, check_numbers, note
from instep.targets.profile import Profile
from instep.targets.rewrites import CLEARINGS, Target

__all__ = ["Attempt", "Change", "Limits", "Place", "Weight", "attempt", "judge_form", "weight"]

#: Rounds of judging and rewriting; each clears what the one before made.
ROUNDS = 16
#: How often one rewrite may change what makes one value (a stride of 8 is split twice).
REPEATS = 4

#: A rewrite, and the value whose maker it changes.
Place = tuple[str, str]
#: How often a rewrite may be used at a place; REPEATS where nothing is said.
Limits = Mapping[Place, int]
#: Errors, warnings, notes: an error weighs more than any number of warnings, a warning more than any number of notes.
Weight = tuple[int, int, int]


def weight(violations: Iterable[Violation]) -> Weight:
    """How bad violations are together."""
    levels = Counter(v.level for v in violations)
    return levels["error"], levels["warning"], levels["note"]


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


@dataclass(eq=False)
class Change:
    """One use of a rewrite. ``touched``: the outputs of the nodes that it changed or made; ``places``: where it must
    not be used for this not to happen again, each with how often it was used by then; ``cleared``: what was wrong with
    the nodes that it changed; ``before``: the changes that made those; ``left``: what is wrong in the end with what
    came of them."""

    rewrite: str
    touched: set[str]
    places: dict[Place, int]
    cleared: list[Violation]
    before: set[Change]
    left: list[Violation] = field(default_factory=list)

    @property
    def vain(self) -> bool:
        """Whether as much is wrong behind it as before, or more."""
        return weight(self.left) >= weight(self.cleared)

    @property
    def story(self) -> str:
        """What became of it, for people; nothing where it left nothing wrong."""
        if not self.left:
            return ""
        kinds = Counter((v.operator, v.code) for v in self.left)
        listed = ", ".join(f"{n} {op} [{code}]" for (op, code), n in kinds.most_common(3))
        return f"the rewrite {self.rewrite} was tried here and taken back: it leaves {listed}"


@dataclass
class Attempt:
    """The graph that it came to, what the driver says of each step, each use of a rewrite, what is left, and what
    of that is wrong with the form (which is all of it, but for targets of eight bits)."""

    graph: Graph
    passes: list[PassReport] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    left: list[Violation] = field(default_factory=list)
    form: list[Violation] = field(default_factory=list)

    @property
    def weight(self) -> Weight:
        """How bad the form is."""
        return weight(self.form)

    @property
    def vain(self) -> list[Change]:
        """The changes for nothing, the last of each row of them: those before it may be worth it without it."""
        found = [c for c in self.changes if c.vain]
        return [c for c in found if not any(c in other.before for other in found)]


def _judge(graph: Graph, profile: Profile, numbers: Numbers) -> list[Violation]:
    """What the profile says of the file that the graph becomes."""
    facts = note(facts_of_graph(graph), numbers)
    return [*check_facts(facts, profile), *check_numbers(facts, profile, numbers)]


def judge_form(
    graph: Graph, profile: Profile, numbers: Numbers, found: list[Violation] | None = None
) -> list[Violation]:
    """What is wrong with the form of the graph, of all that was ``found``, where that is known.

    A float file is nothing to a target of eight bits, whatever its operators: what counts there is what the target
    will say of them once the file is quantised.
    """
    if profile.arithmetic != "int8":
        return _judge(graph, profile, numbers) if found is None else found
    return check_facts(note(as_quantised(facts_of_graph(graph)), numbers), profile)


def attempt(
    graph: Graph,
    profile: Profile,
    numbers: Numbers,
    limits: Limits,
    *,
    rounds: int = ROUNDS,
    prove: Callable[[Graph, Graph, str], object] | None = None,
    progress: Callable[[str], None] | None = None,
) -> Attempt:
    """Judge, rewrite what is violated as far as ``limits`` allow, and again, until nothing is or nothing changes."""
    numbers = replace(numbers, energy={**numbers.energy}, largest={**numbers.largest}, lowest={**numbers.lowest})
    target = Target(profile, numbers.energy, numbers.largest, numbers.lowest)
    made, record = Attempt(graph), _Record(target)
    for _ in range(rounds):
        found = _judge(made.graph, profile, numbers)
        record.look(judge_form(made.graph, profile, numbers, found))
        plan = _plan(found, record.tried, limits)
        if not plan:
            break
        steps = [record.step(name, outputs) for name, outputs in plan.items()]
        made.graph, reports = run(made.graph, steps, prove=prove, progress=progress)
        changed = [r for r in reports if r.changed]
        if changed:
            made.graph, tidied = run(made.graph, TIDY, rounds=3, prove=prove, progress=progress)
            changed += [r for r in tidied if r.changed]
        made.passes += changed
    made.left = _judge(made.graph, profile, numbers)
    made.form = judge_form(made.graph, profile, numbers, made.left)
    made.changes = record.close(made.form)
    return made


def _plan(found: Iterable[Violation], tried: Counter[Place], limits: Limits) -> Mapping[str, Sequence[str]]:
    """Rewrite → the outputs of the nodes that it shall change: of each violation the first that may be tried."""
    plan: dict[str, list[str]] = {}
    for violation in found:
        node = violation.node
        if node is None or violation.level == "note":
            continue
        output = node.output.name
        name = next((c for c in violation.clears if tried[c, output] < limits.get((c, output), REPEATS)), None)
        if name is not None and output not in plan.setdefault(name, []):
            plan[name].append(output)
    return plan


class _Record:
    """Which changes made which node (told by its output's name, which outlives copies of the graph)."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.tried: Counter[Place] = Counter()
        self.changes: list[Change] = []
        self.history: dict[str, tuple[Change, ...]] = {}
        self.wrong: dict[str, list[Violation]] = {}

    def look(self, found: Iterable[Violation]) -> None:
        """Remember what is wrong with each node now."""
        self.wrong = {}
        for violation in found:
            if violation.node is not None:
                self.wrong.setdefault(violation.node.output.name, []).append(violation)

    def step(self, name: str, outputs: Sequence[str]) -> Rewrite:
        """A rewrite of the nodes that make ``outputs``."""
        clearing, wanted = CLEARINGS[name], set(outputs)

        def function(edit: Editor) -> bool:
            changed = False
            self.tried.update((name, output) for output in outputs)
            for node in edit.nodes():
                if not edit.alive(node) or node.output.name not in wanted:
                    continue
                output, known, read = node.output.name, len(edit.graph.nodes), len(edit.journal)
                if clearing.function(Build(edit, node, self.target.profile.avoid), self.target):
                    added = dict.fromkeys(edit.graph.nodes[known:])
                    old = [n for n in dict.fromkeys((node, *edit.journal[read:])) if n not in added]
                    # what changes other nodes as well does the same from any of them
                    alone = all(n is node or not edit.alive(n) for n in old)
                    self._note(name, old, [n for n in added if edit.alive(n)], {output} if alone else wanted)
                    changed = True
            return changed

        return Rewrite(clearing.name, clearing.exact, function)

    def _note(self, name: str, old: Sequence[Node], new: Sequence[Node], asked: set[str]) -> None:
        outputs = [n.output.name for n in old]
        places = {(name, output): self.tried[name, output] for output in asked}
        cleared = [v for output in outputs for v in self.wrong.get(output, ())]
        before = self._histories(outputs)
        change = Change(name, {*outputs, *(n.output.name for n in new)}, places, cleared, set(before))
        self.changes.append(change)
        # a new node comes of the old ones of its scope, where several were changed at once
        scopes = {scope: [n.output.name for n in old if n.scope == scope] for scope in {n.scope for n in new}}
        made = {n.output.name: self._histories(scopes[n.scope]) or before for n in new}
        changed = {output: self._histories([output]) for output in outputs}
        self.history.update({output: (*past, change) for output, past in {**made, **changed}.items()})

    def _histories(self, outputs: Iterable[str]) -> tuple[Change, ...]:
        return tuple(dict.fromkeys(c for output in outputs for c in self.history.get(output, ())))

    def close(self, left: Iterable[Violation]) -> list[Change]:
        """The changes, each with what is left of what came of it."""
        self.look(left)
        for output, violations in self.wrong.items():
            for change in self.history.get(output, ()):
                change.left += violations
        return self.changes
