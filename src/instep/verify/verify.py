"""The proof: source and result side by side, value by value, judged by the source's own rounding noise."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from instep.graph import Graph, Node, SourceView
from instep.runtime import engine_of
from instep.verify.calm import beyond, calmed
from instep.verify.cancelling import Cancelling
from instep.verify.explain import AFFORDABLE, Witness, between_good_and_bad, explain_verdict
from instep.verify.inputs import InputSet, Picture
from instep.verify.jumps import Jumps
from instep.verify.lossy import Figures, measure_lossy
from instep.verify.mapping import Mapping
from instep.verify.noise import (
    CLASSES,
    LIMITS,
    SINGLE,
    Arithmetic,
    Distance,
    Limits,
    Noise,
    arithmetic_of,
    classify,
    distance,
    growth,
    nudge,
    ratio,
    worst_class,
)
from instep.verify.plan import inputs_of
from instep.verify.quantised import fitted, judged_as
from instep.verify.reference import Reference
from instep.verify.subject import PATIENCE, Run, Subject
from instep.verify.verdict import Row, Verdict, correlation

__all__ = ["judge", "verify"]


@dataclass
class _Found:
    """What one tensor (or one output of one engine) showed on every input set."""

    tensor: str
    view: SourceView
    engine: str
    output: int | None = None
    distances: dict[str, Distance] = field(default_factory=dict)
    missing: str = ""


def _targets(subject: Subject) -> list[_Found]:
    return [_Found(name, view, "builtin") for name, view in subject.mapping.values.items()]


def _compare(
    found: _Found, array: np.ndarray, truth: dict[str, np.ndarray], noise: dict[str, Noise], name: str
) -> None:
    view = found.view
    source = truth.get(view.name)
    if source is None:
        return
    if source.size != array.size:
        found.missing = f"has shape {list(array.shape)}, the source's {view.name} has {list(source.shape)}"
        return
    skip = noise[view.name].skip.get(name) if view.name in noise else None
    shape = array.shape
    shown = view.apply(source).reshape(shape)
    found.distances[name] = distance(array, shown, None if skip is None else view.apply(skip).reshape(shape))


def _misplaced(place: int, name: str, mapping: Mapping, graph: Graph, truth: dict[str, np.ndarray]) -> str:
    """What is wrong with showing the source value ``name`` as output number ``place``; "" when nothing is.

    An earlier value that holds an output's numbers may stand for it. A result that says itself what it shows keeps
    the source's order; one whose tensors were found by their values may have an order of its own.
    """
    names = [v.name for v in graph.outputs]
    if name not in truth:
        return ""
    if name in names:
        ordered = mapping.stated and len(names) == len(mapping.outputs)
        if not ordered or name == names[place] or names[place] not in truth or _same(truth[name], truth[names[place]]):
            return ""
        return (
            f"shows output {names.index(name)} ({name}) of the source in the place of output {place} ({names[place]})"
        )
    if any(_same(truth[name], truth[n]) for n in names if n in truth):
        return ""
    return f"shows {name}, which is no output of the source"


def _same(one: np.ndarray, other: np.ndarray) -> bool:
    """Do two values hold the same numbers, in whatever order?"""
    if one.size != other.size:
        return False
    return np.allclose(np.sort(one, axis=None), np.sort(other, axis=None), rtol=1e-6, atol=1e-9, equal_nan=True)


def _row(found: _Found, noise: Noise, node: Node | None, limits: Limits) -> Row:
    """The row of a tensor: its worst input set."""
    worst, where, level = -1.0, "", 0.0
    peak = 0.0
    relative = 0.0
    for name, dist in found.distances.items():
        here = noise.level(name, limits)
        value = ratio(dist, here, limits)
        peak = max(peak, dist.peak)
        if value > worst:
            worst, where, level = value, name, here[0]
            relative = dist.rms / (noise.scale_rms.get(name, 0.0) or 1.0)
    verdict = "not comparable" if worst < 0 else classify(worst, limits)
    return Row(
        source=found.view.name,
        tensor=found.tensor,
        scope=node.scope if node else "",
        operator=node.op.name if node else "",
        origin=node.origin if node else "",
        shape=tuple(found.view.shape),
        ratio=max(worst, 0.0),
        verdict=verdict,
        max_abs=peak if worst < math.inf else math.inf,
        relative=relative,
        noise=level,
        inputs=where,
        engine=found.engine,
        output=found.output is not None,
    )


def judge(
    reference: Reference,
    subject: Subject,
    sets: Sequence[InputSet],
    *,
    graph: Graph | None = None,
    draws: int = 2,
    seed: int = 0,
    limits: Limits = LIMITS,
    figures: Figures | None = None,
    explain: bool = True,
    unit: float = SINGLE,
    only: set[str] | None = None,
    arithmetic: Arithmetic | None = None,
) -> Verdict:
    """Compare ``subject`` with ``reference`` on ``sets``; ``graph`` (captured) gives scopes, order and the diagnosis.

    ``draws`` is the number of float32 runs with nudged inputs per set, beside the plain one. ``unit`` is the unit of
    rounding of the result's weights (HALF for float16). ``only`` names the source values to look at beside the
    outputs; by default all, or of a network whose values do not fit in AFFORDABLE bytes every so many, and those in
    between where one is out of step. ``arithmetic`` is that of the engine, where it is not a CPU's.
    """
    start = time.perf_counter()
    again = functools.partial(
        judge, reference, subject, graph=graph, draws=draws, seed=seed, limits=limits, unit=unit, arithmetic=arithmetic
    )
    rng = np.random.default_rng(seed)
    mapping = subject.mapping
    founds = [f for f in _targets(subject) if only is None or f.view.name in only]
    thinned = only is None and sum(map(_bytes, founds)) > AFFORDABLE
    if thinned:
        founds = _thinned(founds)
    outputs: dict[tuple[int, str], _Found] = {}
    wanted = {f.view.name for f in founds} | {v.name for v in mapping.outputs if v is not None}
    noise: dict[str, Noise] = {}
    grown = growth(graph, limits, arithmetic=arithmetic) if graph is not None else {}
    edges = growth(graph, limits, edge=True, arithmetic=arithmetic) if graph is not None else {}
    unit = max(unit, arithmetic.unit) if arithmetic is not None else unit
    jumps = Jumps(graph)
    # jumping operators need everything around them, should the result land on the other side
    cancelling = Cancelling(graph)
    keep = None if jumps.nodes else sorted(wanted)
    lossy: list[Any] = []
    correlations: list[float] = []
    arrays_of = [s.arrays for s in sets]
    begin = getattr(subject, "start", None)
    if begin is not None:
        few = keep is not None and (thinned or only is not None)
        begin(arrays_of, {f.tensor for f in founds} if few else None)
    runs: Any = None
    for number, given in enumerate(sets):
        arrays = list(given.arrays)
        truth = reference.run(arrays, dtype="float64", keep=keep and sorted({*keep, *cancelling.reads()}))
        added = cancelling.sizes(truth)
        for name in (n for n in truth if n in wanted):
            fresh = Noise(growth=grown.get(name, 1.0), edge_growth=edges.get(name, 1.0), unit=unit)
            level = noise.setdefault(name, fresh)
            level.begin(given.name, truth[name], given.edge, added.get(name, 0.0))
        wild = beyond(graph, {n: level.scale_peak.get(given.name, 0.0) for n, level in noise.items()})
        if graph is not None and wild is not None and (calm := calmed(reference, sets, graph)) is not None:
            verdict = again(calm[0], figures=figures, explain=explain, only=only)
            verdict.notes += calm[1]
            return verdict
        for i in range(1 + (2 if given.edge else draws if number < 2 else min(draws, 1))):
            units = limits.edge_units if given.edge else 1.0
            moved = [nudge(a, rng, units, together=given.edge and i == 1) for a in arrays] if i else arrays
            # one run at a time: a large network's values are large
            for name, array in reference.run(moved, dtype="float32", keep=keep).items():
                if name in wanted and name in truth:
                    noise[name].draw(given.name, truth[name], array)
        runs = runs if runs is not None else iter(subject.runs(arrays_of))
        run: Run = next(runs)
        exact, truth = truth, jumps.settle(given.name, truth, run, mapping, noise)
        for found in founds:
            array = run.tensors.get(found.tensor)
            if array is not None:
                _compare(found, array, truth, noise, given.name)
        for engine, arrays_out in run.outputs.items():
            behind = jumps.behind(engine, arrays_out, subject, given, exact, truth, noise, limits)
            for i, array in enumerate(arrays_out):
                view = mapping.outputs[i]
                if view is None:
                    continue
                key = (i, engine)
                if key not in outputs:
                    outputs[key] = _Found(subject.output_tensors[i], view, engine, i)
                _compare(outputs[key], array, behind, noise, given.name)
                if graph is not None and not given.edge and (wrong := _misplaced(i, view.name, mapping, graph, behind)):
                    outputs[key].missing = wrong
                if view.name in behind and behind[view.name].size == array.size:
                    shown = view.apply(behind[view.name]).reshape(array.shape)
                    if not given.edge:
                        correlations.append(correlation(array, shown))
                    if figures is not None:
                        lossy.append((given.name, i, measure_lossy(array, shown)))
    verdict = _conclude(founds, list(outputs.values()), noise, graph, limits)
    verdict.correlation = min((c for c in correlations if not math.isnan(c)), default=math.nan)
    verdict.inputs = [s.name for s in sets]
    missing = sorted(set(_source_values(graph)) - {r.source for r in verdict.rows}) if graph else []
    verdict.not_comparable = missing
    unseen = [i for i, v in enumerate(mapping.outputs) if v is None]
    if unseen:
        verdict.notes.append(f"outputs {unseen} show no value of the source and were not compared")
    if figures is not None:
        verdict.lossy = figures.judge(lossy)
    if thinned:
        verdict.notes.append(f"the values of this network are large: {len(founds)} were compared")
    if thinned and graph is not None and verdict.first is not None:
        near = [s for s in sets if s.name == verdict.first.inputs]
        between = between_good_and_bad(graph, verdict)
        finer = again(near, explain=False, only=between)
        order = {name: i for i, name in enumerate(_source_values(graph))}
        known = {r.source for r in verdict.rows}
        fresh_rows = [r for r in finer.rows if r.source not in known]
        verdict.rows = sorted([*verdict.rows, *fresh_rows], key=lambda r: order.get(r.source, -1))
        bad = [r for r in fresh_rows if r.verdict in CLASSES[1:]]
        if bad:
            verdict.first = min([verdict.first, *bad], key=lambda r: order.get(r.source, -1))
            noise.update((r.source, _level_of(r)) for r in bad)
    if explain and graph is not None and verdict.first is not None:
        explain_verdict(verdict, Witness(reference, subject, sets, graph, noise, limits))
    verdict.seconds = time.perf_counter() - start
    return verdict


def _bytes(found: _Found) -> int:
    return 8 * math.prod(found.view.shape)


def _thinned(founds: list[_Found]) -> list[_Found]:
    """As many values as AFFORDABLE takes: all small ones, and large ones evenly along the network."""
    small = AFFORDABLE / (4 * len(founds))
    step = sum(_bytes(f) for f in founds if _bytes(f) > small) / (0.75 * AFFORDABLE)
    kept, total = [], 0.0
    for found in founds:
        if _bytes(found) <= small:
            kept.append(found)
            continue
        before, total = total, total + _bytes(found)
        if int(total / (step * _bytes(found))) > int(before / (step * _bytes(found))):
            kept.append(found)
    return kept


def _level_of(row: Row) -> Noise:
    noise = Noise(size=1 << 30)
    noise.rms[row.inputs] = noise.peak[row.inputs] = row.noise
    return noise


def _source_values(graph: Graph) -> list[str]:
    return [v.name for n in graph.nodes for v in n.outputs]


def _conclude(
    founds: list[_Found],
    outputs: list[_Found],
    noise: dict[str, Noise],
    graph: Graph | None,
    limits: Limits,
) -> Verdict:
    nodes = {v.name: n for n in graph.nodes for v in n.outputs} if graph is not None else {}
    order = {name: i for i, name in enumerate(nodes)} if graph is not None else {n: i for i, n in enumerate(noise)}
    rows = [_row(f, noise[f.view.name], nodes.get(f.view.name), limits) for f in founds if f.distances]
    rows.sort(key=lambda r: order.get(r.source, -1))
    judged = [_row(f, noise[f.view.name], nodes.get(f.view.name), limits) for f in outputs if f.distances]
    notes = [f"tensor {f.tensor!r} {f.missing}" for f in [*founds, *outputs] if f.missing]
    best: dict[int, Row] = {}
    for found, row in zip([f for f in outputs if f.distances], judged, strict=True):
        assert found.output is not None
        kept = best.get(found.output)
        if kept is None or (row.verdict != "not comparable" and row.ratio > kept.ratio):
            best[found.output] = row
    final = [best[i] for i in sorted(best)]
    overall = worst_class([r.verdict for r in final])
    why = ""
    if missing := next((f for f in outputs if f.missing), None):
        why = f"output '{missing.tensor}' {missing.missing}" if overall == "in step" else ""
        overall = "out of step"
    first = _first(rows, final, graph)
    if overall == "in step" and first is not None:
        overall = "drifting"
        why = (
            f"{first.operator} '{first.scope or first.source}' is {first.verdict}, at {first.ratio:.3g} times its "
            "noise: a fault that this network hides from its outputs"
        )
    return Verdict(
        verdict=overall,
        noise_ratio=max((r.ratio for r in final), default=math.nan),
        max_abs=max((r.max_abs for r in final), default=math.nan),
        correlation=math.nan,
        rows=rows,
        outputs=final,
        first=first,
        notes=notes,
        why=why,
    )


def _first(rows: list[Row], outputs: list[Row], graph: Graph | None) -> Row | None:
    """The first value that left step, in the order of the data.

    When an output is bad: the first bad row of all. When no output is: the first value out of step whose every
    reader that can be compared has left step too (one that its readers do not notice is a wrong view, no fault).
    """
    bad = [r for r in rows if r.verdict in CLASSES[1:]]
    if any(r.verdict in CLASSES[1:] for r in outputs):
        return bad[0] if bad else next(r for r in outputs if r.verdict in CLASSES[1:])
    if graph is None:
        return None
    names = {r.source: r for r in rows}
    readers: dict[str, list[Row]] = {}
    for node in graph.nodes:
        for value in node.inputs:
            readers.setdefault(value.name, []).extend(names[o.name] for o in node.outputs if o.name in names)
    for row in bad:
        after = readers.get(row.source, [])
        if row.verdict == "out of step" and after and all(r.verdict in CLASSES[1:] for r in after):
            return row
    return None


def verify(
    reference: Reference,
    file: str | Path,
    *,
    graph: Graph | None = None,
    images: str | Path | Sequence[str | Path] | None = None,
    inputs: Sequence[Sequence[np.ndarray]] | None = None,
    seed: int = 0,
    picture: Picture | None = None,
    figures: Figures | None = None,
    limits: Limits = LIMITS,
    on: str = "",
    timeout: float = PATIENCE,
) -> Verdict:
    """Prove the TFLite ``file`` against its source.

    ``graph`` is the captured graph (for scopes, order and diagnosis). ``images`` are pictures or a folder of them;
    ``inputs`` are input sets of the user's own, each a list of arrays in the source's layout; ``picture`` says how
    pixels become inputs. ``figures`` states thresholds for a result that is lossy by intention.
    ``on`` names the engine whose outputs stand trial ("litert-gpu"); without it the CPU's both engines do.
    ``timeout`` bounds the seconds of each engine; one that takes longer is a verdict, "timed out".
    Raises ValueError when the inputs do not fit, FileNotFoundError when a path does not exist, EngineError when this
    machine lacks the engine or the file does not run on the CPU.
    """
    from instep.verify import on_engine
    from instep.verify.tflite import EngineError, TfliteSubject

    start = time.perf_counter()
    on = on_engine.check_engine(on) if on else ""
    sets, draws = inputs_of(reference, graph, images=images, given=inputs or (), seed=seed, picture=picture)
    sets = fitted(sets, file, reference, graph)
    subject = TfliteSubject.load(file, reference, graph=graph, sets=sets, timeout=timeout)
    unit, figures, said = judged_as(subject.info, figures)
    if on:
        subject.engines = (on,)
    try:
        # of an engine that hides its values the outputs alone explain nothing; ``locate`` does
        verdict = judge(
            reference, subject, sets, graph=graph, draws=draws, seed=seed, limits=limits, figures=figures, unit=unit,
            arithmetic=arithmetic_of(on), explain=not on or engine_of(on).intermediates,
        )  # fmt: skip
    except EngineError as error:
        if not on or error.result is None or error.result.outcome == "unavailable":
            raise
        return on_engine.not_run(error.result, subject, sets)
    verdict.engine = on
    if on and not verdict.ok:
        on_engine.locate(verdict, reference, subject, sets, graph=graph, seed=seed, limits=limits, unit=unit)
    verdict.notes = [*subject.notes, *said, *verdict.notes]
    verdict.seconds = time.perf_counter() - start
    return verdict
