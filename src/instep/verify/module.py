"""A network of another framework on trial: an exported source file or a saved model, run in a child process.

A file that Instep wrote says which layout its inputs and outputs have and which value each of its layers gives. Of any
other the layouts are found by trying the usual ones, and its outputs alone are compared.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from instep.graph import Graph, SourceView, Spec
from instep.runtime import Job, RunResult, engine_of, run_jobs
from instep.runtime.modules import engine_for, module_facts
from instep.verify.align import permuted_views
from instep.verify.inputs import InputSet, Picture
from instep.verify.lossy import Figures
from instep.verify.mapping import Mapping
from instep.verify.noise import LIMITS, SINGLE, Limits, arithmetic_of
from instep.verify.on_engine import check_engine
from instep.verify.plan import inputs_of
from instep.verify.reference import Reference
from instep.verify.subject import PATIENCE, Run, shown_inputs
from instep.verify.tflite import EngineError
from instep.verify.verdict import Verdict
from instep.verify.verify import judge

__all__ = ["ModuleSubject", "verify_module"]


def verify_module(
    reference: Reference,
    file: str | Path,
    *,
    graph: Graph,
    images: str | Path | Sequence[str | Path] | None = None,
    inputs: Sequence[Sequence[np.ndarray]] | None = None,
    seed: int = 0,
    picture: Picture | None = None,
    figures: Figures | None = None,
    limits: Limits = LIMITS,
    on: str = "",
    timeout: float = PATIENCE,
) -> Verdict:
    """Prove a network of another framework against its source; ``on`` names the engine ("torch", "keras-jax", …).

    ``timeout`` bounds the seconds that the network may take.

    Raises ValueError when the file fits the source in no layout, EngineError when this machine lacks the framework.
    """
    start = time.perf_counter()
    if on and Path(file).suffix not in engine_of(on).takes:
        raise ValueError(f"{on} runs {' and '.join(engine_of(on).takes)} files, not {Path(file).name}")
    engine = check_engine(on or engine_for(file))
    sets, draws = inputs_of(reference, graph, images=images, given=inputs or (), seed=seed, picture=picture)
    try:
        subject = ModuleSubject.load(file, engine, reference, graph, sets, timeout)
        verdict = judge(
            reference, subject, sets, graph=graph, draws=draws, seed=seed, limits=limits, figures=figures, unit=SINGLE,
            arithmetic=arithmetic_of(engine),
        )  # fmt: skip
    except EngineError as error:
        if error.result is None or error.result.outcome == "unavailable":
            raise
        verdict = Verdict(error.result.outcome, float("nan"), float("nan"), float("nan"), said=error.result.message)
        verdict.engine = engine
        return verdict
    verdict.engine = engine
    verdict.notes = [*subject.notes, *verdict.notes]
    verdict.seconds = time.perf_counter() - start
    return verdict


class ModuleSubject:
    """The file and what it shows of the source."""

    def __init__(self, path: str | Path, engine: str, mapping: Mapping, input_values: Sequence[str]) -> None:
        self.path = path
        self.engine = engine
        self.mapping = mapping
        self.input_values = list(input_values)
        self.output_tensors = [f"output{n}" for n in range(len(mapping.outputs))]
        self.notes: list[str] = []
        self.timeout = PATIENCE
        self._begun: tuple[tuple[int, ...], threading.Thread, list[Any]] | None = None

    @classmethod
    def load(
        cls, path: str | Path, engine: str, reference: Reference, graph: Graph, sets: Sequence[InputSet],
        timeout: float = PATIENCE,
    ) -> ModuleSubject:  # fmt: skip
        """By the file's own word where Instep wrote it for this source, else by what flows through it. ``timeout``
        bounds the seconds of each run."""
        known = {v.name: v.shape for v in graph.values()}
        facts = module_facts(path)
        names = [v.name for v in graph.inputs]
        mapping = _stated(facts, known, names, len(graph.outputs))
        found = mapping or _tried(path, engine, reference, graph, sets, timeout)
        subject = cls(path, engine, found, names)
        subject.timeout = timeout
        if mapping is None:
            subject.notes.append("the file does not say what its inputs and outputs are: they were found by trying")
        return subject

    def start(self, sets: Sequence[Sequence[np.ndarray]], tensors: Iterable[str] | None = None) -> None:
        """Begin running ``sets`` in the background; of the layers ``tensors`` are shown, or all that are of use."""
        given = [shown_inputs(self.mapping, self.input_values, s) for s in sets]
        keep = bool(self.mapping.values)
        handed = frozenset(self.mapping.values if tensors is None else tensors)
        job = Job(self.path, given, self.engine, keep, handed=handed if keep else None)
        box: list[Any] = []

        def work() -> None:
            try:
                box.append(run_jobs([job], timeout=self.timeout)[0])
            except Exception as error:
                box.append(error)

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        self._begun = (tuple(id(a) for arrays in sets for a in arrays), thread, box)

    def runs(self, sets: Sequence[Sequence[np.ndarray]]) -> Iterator[Run]:
        """One Run per set: the outputs, and what the layers gave. EngineError when it does not run."""
        if self._begun is None or self._begun[0] != tuple(id(a) for arrays in sets for a in arrays):
            self.start(sets)
        assert self._begun is not None
        _, thread, box = self._begun
        thread.join()
        self._begun = None
        if isinstance(box[0], Exception):
            raise box[0]
        for result in box[0]:
            if result.failed:
                raise EngineError(f"{self.path} does not run: {result.message}", result)
            if len(result.outputs) != len(self.output_tensors):
                raise ValueError(
                    f"{self.path} gives {len(result.outputs)} outputs, the source has {len(self.output_tensors)}"
                )
            yield Run(_shaped(result.tensors, self.mapping), {self.engine: result.outputs})


def _shaped(tensors: dict[str, np.ndarray], mapping: Mapping) -> dict[str, np.ndarray]:
    """Those of ``tensors`` that have the shape they are said to have: a layer may give what the network then moves."""
    views = mapping.values
    return {n: a for n, a in tensors.items() if n in views and tuple(a.shape) == tuple(views[n].shape)}


def _view(entry: Any, known: dict[str, tuple[int, ...]]) -> SourceView | None:
    try:
        name, perm, shape = entry
        view = SourceView(str(name), tuple(map(int, perm)), tuple(map(int, shape)))
    except (TypeError, ValueError):
        return None
    source = known.get(view.name)
    if source is None or sorted(view.perm) != list(range(len(source))):
        return None
    return view if int(np.prod(source)) == int(np.prod(view.shape)) else None


def _stated(
    facts: dict[str, Any], known: dict[str, tuple[int, ...]], names: Sequence[str], outputs: int
) -> Mapping | None:
    """What the file says, where it speaks of this source."""
    given = [_view(e, known) for e in facts.get("inputs", [])]
    made = [_view(e, known) for e in facts.get("outputs", [])]
    if not all([*given, *made]) or [v.name for v in given if v] != list(names) or len(made) != outputs:
        return None
    values = {k: v for k, e in facts.get("values", {}).items() if (v := _view(e, known)) is not None}
    return Mapping(values, list(given), list(made))


# -- files that say nothing ------------------------------------------------------------------------------------------
def _layouts(name: str, spec: Spec) -> list[SourceView]:
    """An input as it is, with its channels moved to the end, and with them moved to the front."""
    rank = len(spec.shape)
    perms = [tuple(range(rank))]
    if rank > 2:
        perms += [(0, *range(2, rank), 1), (0, rank - 1, *range(1, rank - 1))]
    return [SourceView(name, perm, tuple(spec.shape[p] for p in perm)) for perm in perms]


def _choices(names: Sequence[str], specs: Sequence[Spec]) -> list[list[SourceView]]:
    """Layouts for all inputs: the same for each first, then any."""
    layouts = [_layouts(n, s) for n, s in zip(names, specs, strict=True)]
    alike = [[of[min(k, len(of) - 1)] for of in layouts] for k in range(3)]
    mixed = itertools.islice(itertools.product(*layouts), 12)
    return list({tuple(v.perm for v in c): list(c) for c in (*alike, *mixed)}.values())


def _tried(
    path: str | Path, engine: str, reference: Reference, graph: Graph, sets: Sequence[InputSet], timeout: float
) -> Mapping:
    """The layout of inputs with which the file runs and comes nearest to the source."""
    given = next((s for s in sets if not s.edge), sets[0])
    truth = reference.run(list(given.arrays), dtype="float64", keep=[])
    names = [v.name for v in graph.inputs]
    choices = _choices(names, reference.input_specs)
    jobs = [Job(path, [shown_inputs(Mapping({}, [*c]), names, given.arrays)], engine) for c in choices]
    results = [found[0] for found in run_jobs(jobs, timeout=timeout)]
    best: tuple[float, Mapping] | None = None
    for choice, result in zip(choices, results, strict=True):
        outputs, error = (None, np.inf) if result.failed else _outputs(result, graph, truth)
        if outputs is not None and (best is None or error < best[0]):
            best = error, Mapping({}, [*choice], [*outputs], stated=False)
    if best is not None:
        return best[1]
    ran = next((r for r in results if not r.failed), None)
    if ran is None:
        raise EngineError(f"{path} does not run: {results[0].message}", results[0])
    raise ValueError(
        f"{path} gives {[list(a.shape) for a in ran.outputs]}, the source {[list(v.shape) for v in graph.outputs]}: "
        "these cannot be compared"
    )


def _outputs(result: RunResult, graph: Graph, truth: dict[str, np.ndarray]) -> tuple[list[SourceView] | None, float]:
    """How each output shows the source's at its place, and how far they are from those; None where sizes differ."""
    if len(result.outputs) != len(graph.outputs):
        return None, np.inf
    views, total = [], 0.0
    for array, value in zip(result.outputs, graph.outputs, strict=True):
        wanted = truth[value.name]
        if wanted.size != array.size:
            return None, np.inf
        tried = [(_apart(array, v.apply(wanted)), n, v) for n, v in
                 enumerate(permuted_views(value.name, value.shape, array.shape))]  # fmt: skip
        error, _, view = min(tried, key=lambda t: t[:2])
        views.append(view)
        total += error
    return views, total


def _apart(array: np.ndarray, wanted: np.ndarray) -> float:
    difference = np.abs(np.asarray(array, np.float64).ravel() - np.asarray(wanted, np.float64).ravel())
    error = float(np.max(difference, initial=0.0))
    return error if np.isfinite(error) else np.finfo(float).max
