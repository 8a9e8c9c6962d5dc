"""Why a value left step: the source's own sub-graph, re-evaluated with one known mistake at a time.

The suspects are the nodes between the last values in step and the first bad one. They are evaluated in float64 from
the result's own values in step, once as they are and once per variant of the table of causes; the variant whose
output is the bad value names the cause.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from instep.graph import Graph, Node, Value
from instep.verify.causes import Context, Variant, variants_of
from instep.verify.folded import folded
from instep.verify.generic import describe
from instep.verify.mapping import Mapping
from instep.verify.noise import distance
from instep.verify.subject import Run, to_source
from instep.verify.verdict import Diagnosis, Row

__all__ = ["GROWN", "MISREAD", "Case", "diagnose", "surroundings"]

#: The cause of a value that is what the source makes of the result's own inputs.
GROWN = "grown rounding"
#: The cause of a value that is what the captured graph says, but not what the source computes.
MISREAD = "misread at capture"
#: A cause fits when it leaves at most this share of the error ...
FITS = 0.02
#: ... or at most this many times the value's rounding noise and clearly less than the error.
FITS_NOISE = 4.0
CLEARLY = 0.34
#: Causes whose remaining errors are within this factor of each other fit equally well: the table's order decides.
TIE = 3.0


@dataclass
class Case:
    """The first bad value with everything around it, on one or two input sets."""

    graph: Graph
    target: Value
    bad: list[np.ndarray]
    truth: list[np.ndarray]
    levels: list[float]
    suspects: list[Node]
    #: per set: the arrays where evaluation starts (source layout, float64)
    known: list[dict[Value, np.ndarray]]
    #: per set: every value of the source, for wiring mistakes
    around: list[dict[str, np.ndarray]] = field(default_factory=list)
    #: constants that are no constants of the graph (weights with a norm folded in)
    made: dict[Value, np.ndarray] = field(default_factory=dict)

    @classmethod
    def build(
        cls,
        graph: Graph,
        first: Row,
        good: set[str],
        truths: list[dict[str, np.ndarray]],
        runs: list[Run],
        mapping: Mapping,
        levels: list[float],
        inputs: Sequence[Sequence[np.ndarray]],
    ) -> Case | None:
        """The case of row ``first``; None when its value is not in ``graph``. ``good`` names the values in step."""
        target = next((v for n in graph.nodes for v in n.outputs if v.name == first.source), None)
        if target is None:
            return None
        inside, frontier = surroundings(graph, target, good)
        tensors: dict[str, str] = {}
        for tensor, view in mapping.values.items():
            tensors.setdefault(view.name, tensor)
        known: list[dict[Value, np.ndarray]] = []
        bad: list[np.ndarray] = []
        for truth, run, arrays in zip(truths, runs, inputs, strict=True):
            table: dict[Value, np.ndarray] = {}
            for value, array in zip(graph.inputs, arrays, strict=True):
                table[value] = _wide(array)
            for value in frontier - set(graph.inputs):
                tensor = tensors.get(value.name, "")
                if tensor in run.tensors and value.dtype.startswith("float"):
                    table[value] = _wide(to_source(run.tensors[tensor], mapping.values[tensor], value.shape))
                elif value.name in truth:
                    table[value] = _wide(truth[value.name])
                else:
                    return None
            known.append(table)
            array = _bad_array(first, run, mapping, target)
            if array is None:
                return None
            bad.append(_wide(array))
        truth_arrays = [_wide(t[target.name]) for t in truths]
        return cls(graph, target, bad, truth_arrays, levels, inside, known, truths)

    def evaluate(self, number: int, replaced: dict[int, Any] | None = None, start: int = 0,
                 base: dict[Value, np.ndarray] | None = None) -> dict[Value, np.ndarray]:  # fmt: skip
        """Every suspect's outputs on set ``number``; ``replaced`` maps id(node) to outputs that stand instead.

        ``base`` with ``start`` skips the suspects before that index.
        """
        table = dict(base) if base is not None else dict(self.known[number])
        changed: set[Value] = set()
        for node in self.suspects[start:]:
            if replaced is not None and id(node) in replaced:
                outputs = replaced[id(node)]
            elif base is not None and not any(v in changed for v in node.inputs):
                continue
            else:
                outputs = node.op.evaluate(*(self.read(v, table) for v in node.inputs))
            for value, array in zip(node.outputs, _outputs(outputs), strict=False):
                table[value] = array
                changed.add(value)
        return table

    def read(self, value: Value, table: dict[Value, np.ndarray]) -> np.ndarray:
        """A value from ``table`` or the graph's constants, floats in float64."""
        if value in table:
            return table[value]
        return self.made[value] if value in self.made else _wide(self.graph.weights[value])


def surroundings(graph: Graph, target: Value, good: set[str]) -> tuple[list[Node], set[Value]]:
    """The nodes between ``target`` and the last values named in ``good`` (in order), and those values."""
    producer = graph.producers()
    inside: list[Node] = []
    frontier: set[Value] = set()
    stack, seen = [producer[target]], set()
    while stack:
        node = stack.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        inside.append(node)
        for value in node.inputs:
            parent = producer.get(value)
            if parent is None:
                if value not in graph.weights:
                    frontier.add(value)
            elif value.name in good:
                frontier.add(value)
            else:
                stack.append(parent)
    order = {id(n): i for i, n in enumerate(graph.nodes)}
    return sorted(inside, key=lambda n: order[id(n)]), frontier


def _wide(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float64) if array.dtype.kind == "f" else array


def _outputs(result: Any) -> tuple[np.ndarray, ...]:
    return result if isinstance(result, tuple) else (np.asarray(result),)


def _bad_array(first: Row, run: Run, mapping: Mapping, target: Value) -> np.ndarray | None:
    if first.output:
        for i, view in enumerate(mapping.outputs):
            if view is not None and view.name == first.source and first.engine in run.outputs:
                return to_source(run.outputs[first.engine][i], view, target.shape)
    array = run.tensors.get(first.tensor)
    return None if array is None else to_source(array, mapping.values[first.tensor], target.shape)


@dataclass
class _Fit:
    variant: Variant
    node: Node
    index: int
    left: float
    residual: float


Trial = tuple[int, Node, Variant]


def _known(case: Case) -> Iterator[Trial]:
    """Every variant of every suspect; those nearest to the bad value first."""
    context = Context(case.graph, bad={case.target: case.bad[0]})
    for index in range(len(case.suspects) - 1, -1, -1):
        node = case.suspects[index]
        for variant in variants_of(node, context):
            yield index, node, variant


def _in_folded_layers(case: Case) -> Iterator[Trial]:
    """What a converter writes is the folded layer: a mistake in writing it fits the folded weights alone."""
    folds = list(folded(case.suspects, case.graph))
    if not folds:
        return
    everywhere = [f for f in folded(case.graph.nodes, case.graph) if f.whole]
    extra = [a for f in everywhere for a in f.named_arrays()]
    for fold in folds:
        case.made.update(fold.arrays)
    context = Context(case.graph, extra=extra, made=case.made)
    for fold in folds:
        index = case.suspects.index(fold.last)
        for variant in variants_of(fold.node, context):
            yield index, fold.node, variant


def _anywhere(case: Case) -> Iterator[Trial]:
    """The mistakes that any operator can suffer."""
    for index in range(len(case.suspects) - 1, -1, -1):
        yield from ((index, case.suspects[index], v) for v in _any_operator(case, index))


def _any_operator(case: Case, index: int) -> Iterator[Variant]:
    """Mistakes that any operator can suffer: left out, zeroed, applied to the wrong value."""
    node = case.suspects[index]
    shape = node.output.shape
    for number, value in enumerate(node.inputs):
        if value not in case.graph.weights and value.size == node.output.size:
            yield Variant("operator left out", f"input {number + 1} passed on as it is",
                          lambda ins, n=number: ins[n].reshape(shape), 1000)  # fmt: skip
    before: list[Value] = []
    for other in case.graph.nodes:
        if other is node:
            break
        before.extend(other.outputs)
    before = [*case.graph.inputs, *before]
    for number, value in enumerate(node.inputs):
        if value in case.graph.weights:
            continue
        found = 0
        for other in reversed(before):
            if other is not value and other.size == value.size and other.dtype == value.dtype and found < 24:
                found += 1
                yield _wired(case, node, number, other)
    yield Variant("result zero", "zeros instead of the result", lambda ins: np.zeros(shape), 1002)


def _wired(case: Case, node: Node, number: int, other: Value) -> Variant:
    return _Wired(
        "wired to the wrong value", f"input {number + 1} is {other.name!r}", node.op.evaluate, 1001, number,
        [t.get(other.name) for t in case.around],
    )  # fmt: skip


@dataclass(frozen=True)
class _Wired(Variant):
    """A variant whose input ``number`` comes from another value: one array per input set."""

    number: int = 0
    arrays: list[np.ndarray | None] = field(default_factory=list)


def _score(case: Case, number: int, base: dict[Value, np.ndarray], index: int, node: Node, variant: Variant) -> float:
    """RMS distance of the bad value from what the variant makes of it; inf where it does not apply."""
    try:
        inputs = [case.read(v, base) for v in node.inputs]
        if isinstance(variant, _Wired):
            other = variant.arrays[number]
            if other is None:
                return math.inf
            inputs[variant.number] = _wide(other).reshape(inputs[variant.number].shape)
            outputs = _outputs(variant.run(*inputs))
        else:
            outputs = _outputs(variant.run(inputs))
        if outputs[0].shape != node.output.shape:
            return math.inf
        result = case.evaluate(number, {id(case.suspects[index]): outputs}, index, base)[case.target]
    except (ValueError, IndexError, TypeError, FloatingPointError, ZeroDivisionError, AttributeError):
        return math.inf
    if result.shape != case.bad[number].shape:
        return math.inf
    found = distance(case.bad[number], _wide(np.asarray(result)))
    return math.inf if found.broken else found.rms


def _fits(residual: float, healthy: float, level: float) -> bool:
    left = residual / healthy
    return left <= FITS or (residual <= FITS_NOISE * level and left <= CLEARLY)


def diagnose(case: Case, *, budget: float = 20.0) -> Diagnosis | None:
    """The cause that explains the first bad value, or None when nothing does.

    ``budget`` bounds the seconds spent on trials.
    """
    start = time.perf_counter()
    with np.errstate(all="ignore"):
        bases = [case.evaluate(i) for i in range(len(case.bad))]
        healthy = distance(case.bad[0], bases[0][case.target])
        away = math.inf if healthy.broken else healthy.rms
        error = distance(case.bad[0], case.truth[0])
        producer = next(n for n in case.suspects if case.target in n.outputs)
        close = max(2 * case.levels[0], 0.05 * error.rms)
        if away <= close:
            if _misread(case) > close:
                return Diagnosis(
                    MISREAD, producer.describe(), producer.scope, producer.origin,
                    "the result computes what the captured graph says, but from the same inputs PyTorch computes "
                    "something else", 1.0, case.target.name,
                )  # fmt: skip
            return Diagnosis(
                GROWN, producer.describe(), producer.scope, producer.origin,
                "from the result's own inputs the source computes the same value: the difference came in before, "
                "each step of it within the noise", 1.0, case.target.name,
            )  # fmt: skip
        fits: list[_Fit] = []
        tried = 0
        for phase in (_known, _in_folded_layers, _anywhere):
            found: list[_Fit] = []
            for index, node, variant in phase(case):
                if time.perf_counter() - start > budget:
                    break
                tried += 1
                residual = _score(case, 0, bases[0], index, node, variant)
                if _fits(residual, away, case.levels[0]):
                    found.append(_Fit(variant, node, index, residual / away, residual))
            found.sort(key=lambda f: f.residual)
            fits = _confirmed(case, bases, found)
            if fits:
                break
        if not fits:
            return describe(case.truth[0], bases[0][case.target], case.bad[0], producer, case.target.name)
    best = fits[0].residual
    floor = max(best * TIE, 1.0 * case.levels[0])
    ties = [f for f in fits if f.residual <= floor]
    chosen = min(ties, key=lambda f: (f.variant.rank, -f.index))
    also = tuple(dict.fromkeys(f.variant.cause for f in ties if f.variant.cause != chosen.variant.cause))
    share = 1 - chosen.left
    node = chosen.node
    evidence = (
        f"assuming {chosen.variant.evidence}, {100 * share:.4g} % of the error is explained "
        f"({_counted(tried, 'mistake')} tried at {_counted(len(case.suspects), 'node')})"
    )
    return Diagnosis(
        chosen.variant.cause, node.describe(), node.scope, node.origin, evidence, chosen.left, node.output.name, also
    )


def _misread(case: Case) -> float:
    """How far the suspects' own meaning, from the source's inputs, is from what the source computes there (RMS)."""
    truth = case.around[0] if case.around else {}
    inputs = {v: _wide(truth[v.name]) if v.name in truth else a for v, a in case.known[0].items()}
    made = replace(case, known=[inputs]).evaluate(0)[case.target]
    found = distance(made, case.truth[0])
    return math.inf if found.broken else found.rms


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _confirmed(case: Case, bases: list[dict[Value, np.ndarray]], fits: list[_Fit]) -> list[_Fit]:
    """The best fits that also hold on the second input set (where there is one)."""
    if len(bases) < 2 or not fits:
        return fits
    healthy = distance(case.bad[1], bases[1][case.target]).rms
    if healthy <= 2 * case.levels[1]:
        return fits
    kept = []
    for fit in fits[:24]:
        residual = _score(case, 1, bases[1], fit.index, fit.node, fit.variant)
        if _fits(residual, healthy, case.levels[1]):
            fit.residual = max(fit.residual, residual * fit.residual / (fit.left * healthy) if fit.left else residual)
            kept.append(fit)
    kept.sort(key=lambda f: f.residual)
    return kept
