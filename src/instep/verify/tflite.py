"""A TFLite file on trial: run in one child process on both engines, its tensors mapped to the source's values."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from instep.emit.tflite.metadata import unpack_views
from instep.graph import Graph, SourceView
from instep.runtime import Job, RunResult, TFLiteInfo, engine_of, run_jobs, tflite_info
from instep.runtime.expose import expose
from instep.verify.inputs import InputSet
from instep.verify.mapping import Mapping
from instep.verify.quantised import integers_of
from instep.verify.reference import Reference
from instep.verify.subject import PATIENCE, Run, shown_inputs

__all__ = ["EngineError", "Exposed", "TfliteSubject", "floats_of"]


#: The engines that a proof runs on when none is named: the one shows every value, the other is what applications use.
USUAL = ("builtin", "xnnpack")


class EngineError(RuntimeError):
    """A file that the runtime refuses or dies of; the message is the runtime's. ``result`` has the particulars."""

    def __init__(self, message: str, result: RunResult | None = None) -> None:
        super().__init__(message)
        self.result = result


def floats_of(array: np.ndarray, name: str, result: RunResult) -> np.ndarray:
    """The real numbers that a (perhaps quantised) tensor stands for."""
    if name in result.quantization and array.dtype.kind in "iu":
        scale, zero = result.quantization[name]
        return ((array.astype(np.float32) - zero) * np.float32(scale)).astype(np.float32)
    return array.astype(np.float32) if array.dtype == np.float16 else array


def _inputs_fit(
    views: dict[str, SourceView], tensors: Sequence[str], names: Sequence[str], reference: Reference
) -> bool:
    """Does the file's own table speak of this source's inputs, each as it is or with its axes in another order?

    A file made from another file has that file's table, whose names may be the source's by chance: its inputs are
    channel-last there and channel-first here.
    """
    shapes = {n: s.shape for n, s in zip(names, reference.input_specs, strict=True)}
    for view in (views[t] for t in tensors):
        shape = shapes.get(view.name)
        if shape is None or len(view.perm) != len(shape) or tuple(shape[p] for p in view.perm) != tuple(view.shape):
            return False
    return True


class TfliteSubject:
    """The file and where its tensors belong. ``runs`` computes every set in one child, beside the caller's own work."""

    def __init__(self, path: str | Path, info: TFLiteInfo, mapping: Mapping, input_values: Sequence[str]) -> None:
        self.path = path
        self.info = info
        self.mapping = mapping
        self.input_values = list(input_values)
        self.output_tensors = [info.tensors[i].name for i in info.outputs]
        self.notes: list[str] = []
        self.threads = 1
        self.engines: tuple[str, ...] = USUAL
        #: the file that is run: ``path``, or a copy of it whose further outputs are the tensors ``shown``
        self.ran: str | Path = path
        self.shown: tuple[str, ...] = ()
        #: seconds that an engine may take for all inputs
        self.timeout = PATIENCE
        #: what an engine said on stderr though it ran: never a good sign
        self.complaints: list[str] = []
        self._begun: tuple[tuple[int, ...], threading.Thread, dict[str, Any]] | None = None

    @classmethod
    def load(
        cls,
        path: str | Path,
        reference: Reference,
        *,
        graph: Graph | None = None,
        sets: Sequence[InputSet] = (),
        timeout: float = PATIENCE,
    ) -> TfliteSubject:
        """Read ``path`` and map its tensors: by its own table when Instep wrote it for this source, else by what flows.

        ``timeout`` bounds the seconds of each engine in each run, those that align it among them.
        Raises TFLiteError when the file is damaged, EngineError when it does not run, ValueError when its inputs are
        not the source's.
        """
        from instep.verify.align import align, match_inputs

        info = tflite_info(path)
        names = [v.name for v in graph.inputs] if graph is not None else list(reference.input_names)
        views = unpack_views(info.instep, {t.name: t.shape for t in info.tensors})
        known = {v.name: v.shape for v in graph.values()} if graph is not None else None
        tensors = [info.tensors[i].name for i in info.inputs]
        outputs = [info.tensors[i].name for i in info.outputs]
        whole = bool(views) and all(t in views for t in (*tensors, *outputs))
        if (
            whole
            and _inputs_fit(views, tensors, names, reference)
            and (known is None or all(v.name in known and v.fits(known[v.name]) for v in views.values()))
        ):
            mapping = Mapping(views, [views[t] for t in tensors], [views[t] for t in outputs])
            subject = cls(path, info, mapping, names)
            subject.timeout = timeout
            return subject
        inputs = match_inputs(info, names, list(reference.input_specs))
        subject = cls(path, info, Mapping({}, list(inputs), [None] * len(outputs)), names)
        subject.timeout = timeout
        subject.mapping = align(subject, reference, graph, sets)
        made = {info.tensors[i].name for op in info.ops for i in op.outputs if i >= 0}
        subject.notes.append(
            f"the file does not say which of its tensors is which value: {len(subject.mapping.values.keys() & made)} "
            f"of {len(made)} were recognised by what flows through them"
        )
        return subject

    def start(self, sets: Sequence[Sequence[np.ndarray]], tensors: Iterable[str] | None = None) -> None:
        """Begin running ``sets`` in the background, to show ``tensors`` (all when None) beside the outputs."""
        held = [self.info.tensors[i] for i in self.info.inputs]
        given = [
            [integers_of(a, t) for a, t in zip(shown_inputs(self.mapping, self.input_values, s), held, strict=True)]
            for s in sets
        ]
        box: dict[str, Any] = {}
        handed = None if tensors is None else frozenset(tensors)

        def work() -> None:
            try:
                jobs = [self._job(engine, given, handed) for engine in self.engines]
                box["results"] = run_jobs(jobs, timeout=self.timeout)
            except Exception as error:
                box["error"] = error

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        self._begun = (tuple(id(a) for arrays in sets for a in arrays), thread, box)

    def _job(self, engine: str, given: list[list[np.ndarray]], handed: frozenset[str] | None) -> Job:
        keep = engine_of(engine).intermediates
        return Job(self.ran, given, engine, keep, self.threads, handed if keep else None)

    def runs(self, sets: Sequence[Sequence[np.ndarray]]) -> Iterator[Run]:
        """One Run per set: the outputs of every engine, and the tensors of those that show them.

        Raises EngineError when the file does not run on any.
        """
        key = tuple(id(a) for arrays in sets for a in arrays)
        if self._begun is None or self._begun[0] != key:
            self.start(sets)
        assert self._begun is not None
        _, thread, box = self._begun
        thread.join()
        self._begun = None
        if "error" in box:
            raise box["error"]
        results: dict[str, list[RunResult]] = dict(zip(self.engines, box["results"], strict=True))
        failed = {engine: found[0] for engine, found in results.items() if found[0].failed}
        if len(failed) == len(results):
            last = list(failed.values())[-1]
            raise EngineError(f"{self.path} does not run: {last.message}", last)
        self.notes += [f"engine {engine} refuses the file: {one.message}" for engine, one in failed.items()]
        for number in range(len(sets)):
            run = Run({}, {})
            for engine in (e for e in self.engines if e not in failed):
                self._gather(run, engine, results[engine][number])
            yield run

    def _gather(self, run: Run, engine: str, result: RunResult) -> None:
        """Put what one engine gave into ``run``."""
        if result.log and not self.complaints:
            self.notes.append(f"{engine} runs the file, but complains: {result.log[0]}")
        self.complaints += [line for line in result.log if line not in self.complaints]
        everything = [floats_of(a, n, result) for a, n in zip(result.outputs, result.output_names, strict=True)]
        run.outputs[engine] = everything[: len(self.output_tensors)]
        run.tensors.update({name: floats_of(array, name, result) for name, array in result.tensors.items()})
        run.tensors.update(zip(self.shown, everything[len(self.output_tensors) :], strict=True))

    def alone(self, engine: str, arrays: Sequence[np.ndarray], tensors: Sequence[str]) -> Run | None:
        """What ``engine`` gives on one input set with ``tensors`` as further outputs; None where it does not run so,
        or shows its values anyway."""
        if engine_of(engine).intermediates:
            return None
        with tempfile.TemporaryDirectory(prefix="instep-shown-") as folder:
            exposed = Exposed(self, Path(folder))
            exposed.engines = (engine,)
            exposed.start([arrays], tensors)
            try:
                (run,) = exposed.runs([arrays])
            except EngineError:
                return None
            run.tensors.update(zip(self.output_tensors, run.outputs[engine], strict=True))
            return run


class Exposed(TfliteSubject):
    """The file with the values that are asked for as further outputs, in a copy in ``folder``."""

    def __init__(self, inner: TfliteSubject, folder: Path) -> None:
        super().__init__(inner.path, inner.info, inner.mapping, inner.input_values)
        self.engines, self.threads, self.timeout = inner.engines, inner.threads, inner.timeout
        self.folder = folder

    def start(self, sets: Sequence[Sequence[np.ndarray]], tensors: Iterable[str] | None = None) -> None:
        self.ran = self.folder / "shown.tflite"
        self.shown = tuple(expose(self.path, self.ran, list(self.mapping.values if tensors is None else tensors)))
        super().start(sets)
