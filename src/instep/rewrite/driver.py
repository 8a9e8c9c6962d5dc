"""Runs rewrites in order: checks the graph after each, measures them, and proves each one on request."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import chain, repeat

from instep.graph import Graph
from instep.graph.validate import validate
from instep.rewrite.edit import Editor

__all__ = ["PassReport", "Rewrite", "rewrite", "run"]


@dataclass(frozen=True)
class Rewrite:
    """A named function Graph → Graph. ``exact`` is the one sentence that says why it changes no value."""

    name: str
    exact: str
    function: Callable[[Editor], bool]


@dataclass
class PassReport:
    """What one rewrite did: whether it changed anything, how long it took, how many nodes before and after."""

    name: str
    exact: str
    changed: bool
    seconds: float
    nodes_before: int
    nodes_after: int
    #: with ``prove``: what the prover said of this step (an object of its own choosing), else None
    proof: object = field(default=None)


def rewrite(exact: str) -> Callable[[Callable[[Editor], bool]], Rewrite]:
    """Decorator: ``@rewrite("why it is exact")`` over ``def name(edit: Editor) -> bool`` (True when it changed)."""

    def wrap(function: Callable[[Editor], bool]) -> Rewrite:
        return Rewrite(function.__name__.replace("_", "-"), exact, function)

    return wrap


def run(
    graph: Graph,
    rewrites: Sequence[Rewrite],
    *,
    rounds: int = 1,
    prove: Callable[[Graph, Graph, str], object] | None = None,
    progress: Callable[[str], None] | None = None,
) -> tuple[Graph, list[PassReport]]:
    """Apply ``rewrites`` in order to a copy of ``graph``, up to ``rounds`` times or until none changes anything.

    ``prove(before, after, name)`` is called after each change. Raises GraphError when a rewrite leaves an invalid
    graph.
    """
    graph = graph.copy()
    reports: list[PassReport] = []
    edit: Editor | None = None
    quiet = 0
    for step in chain.from_iterable(repeat(tuple(rewrites), rounds)):
        if quiet == len(rewrites):
            break
        if progress is not None:
            progress(step.name)
        before = graph.copy() if prove is not None else None
        count = len(graph.nodes)
        start = time.perf_counter()
        edit = edit or Editor(graph)
        changed = step.function(edit)
        quiet = 0 if changed else quiet + 1
        if changed:
            edit.finish()
            edit = None
            validate(graph, after=step.name)
        seconds = time.perf_counter() - start
        proof = prove(before, graph, step.name) if changed and prove is not None and before is not None else None
        reports.append(PassReport(step.name, step.exact, changed, seconds, count, len(graph.nodes), proof))
    return graph, reports
