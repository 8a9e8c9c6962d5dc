"""Two TFLite files side by side: the first stands for the source, its engines' disagreement for the noise."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from instep.graph import Graph, Node, Operator, SourceView, Spec, Value
from instep.runtime import Job, RunResult, TFLiteInfo, run_jobs, tflite_info
from instep.verify import on_engine
from instep.verify.indices import index_bounds_of_file
from instep.verify.inputs import Picture, make_inputs
from instep.verify.lossy import Figures
from instep.verify.noise import LIMITS, Limits, arithmetic_of
from instep.verify.quantised import EIGHT_BITS, fitted, in_range, integers_of, is_quantised, judged_as
from instep.verify.subject import PATIENCE
from instep.verify.tflite import EngineError, TfliteSubject, floats_of
from instep.verify.verdict import Verdict
from instep.verify.verify import judge

__all__ = ["FileReference", "outline", "verify_files"]


def _called(tensor: str) -> str:
    """A tensor's name as a source value: unlike any value that the other file's own table speaks of, since that
    table is about the network both came from, in that network's layout."""
    return f"source:{tensor}"


@dataclass(frozen=True, repr=False)
class Foreign(Operator):
    """An operator of a file, known by its TFLite name alone."""

    kind: str = ""

    @property
    def name(self) -> str:
        return self.kind


def outline(info: TFLiteInfo) -> Graph:
    """The file's computed tensors as a Graph of ``Foreign`` operators: names, order and flow, no meaning."""

    def value(index: int) -> Value:
        tensor = info.tensors[index]
        real = "float32" if tensor.dtype in ("int8", "uint8", "int16", "float16") else tensor.dtype
        return Value(_called(tensor.name), tensor.shape, real)

    values = {i: value(i) for i in info.inputs}
    graph = Graph([values[i] for i in info.inputs], input_names=list(info.input_names))
    for op in info.ops:
        values |= {i: value(i) for i in op.outputs if i >= 0}
        made = info.made(op)
        name = made.name if made is not None else ""
        scope = (name.rpartition("/")[0] if info.instep else name) or name
        inputs, outputs = ([values[i] for i in side if i in values] for side in (op.inputs, op.outputs))
        graph.nodes.append(Node(Foreign(op.name), inputs, outputs, scope))
    graph.outputs = [values[i] for i in info.outputs]
    graph.output_names = list(info.output_names)
    return graph


class FileReference:
    """A TFLite file as the source. It computes in float32 only: its built-in kernels are taken for the truth, and
    XNNPACK and nudged inputs for the float32 draws. ``timeout``: the seconds that all its runs may take an engine."""

    def __init__(self, path: str | Path, timeout: float = PATIENCE) -> None:
        self.path = path
        self.timeout = self.left = timeout
        self.info: TFLiteInfo = tflite_info(path)
        tensors = [self.info.tensors[i] for i in self.info.inputs]
        self.input_names = [_called(t.name) for t in tensors]
        self.input_specs = [Spec(t.shape, "float32" if t.scale else t.dtype) for t in tensors]
        self.output_names = [_called(self.info.tensors[i].name) for i in self.info.outputs]
        self._deployed: dict[bytes, dict[str, np.ndarray]] = {}

    def run(
        self, inputs: Sequence[np.ndarray], *, dtype: str = "float64", keep: Sequence[str] | None = None
    ) -> dict[str, np.ndarray]:
        """Every tensor by name, the outputs last. "float64": the built-in kernels' values, widened.

        "float32": XNNPACK's outputs on inputs already seen; for new (nudged) inputs the built-in kernels again.
        Raises EngineError when the file does not run.
        """
        key = b"".join(np.ascontiguousarray(a).tobytes() for a in inputs)
        if dtype == "float32" and key in self._deployed:
            return self._deployed[key]
        given = [integers_of(a, self.info.tensors[i]) for a, i in zip(inputs, self.info.inputs, strict=True)]
        jobs = [Job(self.path, [given], "builtin", keep_all=True)]
        if dtype == "float64":
            jobs.append(Job(self.path, [given], "xnnpack"))
        start = time.monotonic()
        results = [r[0] for r in run_jobs(jobs, timeout=self.left)]
        self.left = max(0.0, self.left - (time.monotonic() - start))
        for result in results:
            if result.failed:
                late = f"the runtime did not finish all inputs within {self.timeout:g} s"
                raise EngineError(
                    f"{self.path} does not run: {late if result.outcome == 'timed out' else result.message}", result
                )
        tables = [self._table(results[0], {}), *(self._table(r, results[0].tensors) for r in results[1:])]
        if dtype == "float32":
            return tables[0]
        self._deployed = {key: tables[1]}
        return {n: a.astype(np.float64) if a.dtype.kind == "f" else a for n, a in tables[0].items()}

    def _table(self, result: RunResult, inner: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        tensors = (result.tensors or inner).items()
        table = {_called(name): floats_of(array, name, result) for name, array in tensors}
        for name, tensor, array in zip(self.output_names, result.output_names, result.outputs, strict=True):
            table.pop(name, None)
            table[name] = floats_of(array, tensor, result)
        return table


def verify_files(
    first: str | Path,
    second: str | Path,
    *,
    images: str | Path | Sequence[str | Path] | None = None,
    seed: int = 0,
    picture: Picture | None = None,
    figures: Figures | None = None,
    limits: Limits = LIMITS,
    on: str = "",
    timeout: float = PATIENCE,
) -> Verdict:
    """Compare ``second`` with ``first``, tensors aligned by what flows through them.

    There is no float64 truth here: the noise is what the first file's two engines and nudged inputs show, so a fault
    that both files share stays unseen. ``on`` names the engine that runs the second file (the first runs on the CPU);
    a file against itself shows what that engine makes of it. ``timeout`` bounds the seconds of each engine, for
    either file. Raises TFLiteError, EngineError, or ValueError when the inputs do not fit.
    """
    on = on_engine.check_engine(on) if on else ""
    reference = FileReference(first, timeout)
    sets = make_inputs(
        reference.input_specs, seed=seed, images=images, picture=picture, bounds=index_bounds_of_file(reference.info),
        kinds=("noise", "natural", "mosaic"),
    )  # fmt: skip
    graph = outline(reference.info)
    names = [v.name for v in graph.inputs]
    sets = in_range(sets, reference.info, [SourceView.whole(v.name, v.shape) for v in graph.inputs], names)
    sets = fitted(sets, second, reference, graph)
    subject = TfliteSubject.load(second, reference, graph=graph, sets=sets, timeout=timeout)
    unit, figures, said = judged_as(subject.info, figures)
    unit = max(unit, EIGHT_BITS) if is_quantised(reference.info) else unit
    if on:
        subject.engines = (on,)
    try:
        verdict = judge(
            reference, subject, sets, graph=graph, draws=1, seed=seed, limits=limits, figures=figures, unit=unit,
            explain=False, arithmetic=arithmetic_of(on),
        )  # fmt: skip
    except EngineError as error:
        if not on or error.result is None or error.result.outcome == "unavailable":
            raise
        return on_engine.not_run(error.result, subject, sets)
    verdict.engine = on
    if on and not verdict.ok:
        on_engine.locate(verdict, reference, subject, sets, graph=graph, seed=seed, limits=limits, explain=False)
    note = "two files: no float64 truth; the noise is the first file's own between engines and nudged inputs"
    verdict.notes = [note, *subject.notes, *said, *verdict.notes]
    return verdict
