"""Two TFLite files side by side: the first is the source, run by TFLite's plain kernels, the second stands trial."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from instep.graph import Graph, Node, Operator, Spec, Value
from instep.runtime import TFLiteError, TFLiteInfo, run, tflite_info
from instep.verify.inputs import make_inputs
from instep.verify.lossy import Figures
from instep.verify.noise import LIMITS, Limits
from instep.verify.verdict import Verdict
from instep.verify.verify import judge

__all__ = ["FileReference", "outline", "verify_files"]


@dataclass(frozen=True, repr=False)
class Foreign(Operator):
    """An operator of a file, known by its TFLite name alone."""

    kind: str = ""

    @property
    def name(self) -> str:
        return self.kind


def outline(info: TFLiteInfo) -> Graph:
    """The file's computed tensors as a Graph of ``Foreign`` operators: names, order and flow, no meaning."""
    values = {i: _value(info, i) for i in info.inputs}
    graph = Graph([values[i] for i in info.inputs], input_names=list(info.input_names))
    for op in info.ops:
        values |= {i: _value(info, i) for i in op.outputs if i >= 0}
        made = [values[i] for i in op.outputs if i >= 0]
        name = info.tensors[op.outputs[0]].name
        scope = (name.rpartition("/")[0] if info.instep else name) or name
        graph.nodes.append(Node(Foreign(op.name), [values[i] for i in op.inputs if i in values], made, scope))
    graph.outputs = [values[i] for i in info.outputs]
    graph.output_names = list(info.output_names)
    return graph


def _value(info: TFLiteInfo, index: int) -> Value:
    tensor = info.tensors[index]
    return Value(_called(tensor.name), tensor.shape, _real(tensor.dtype))


def _called(tensor: str) -> str:
    """The name of a tensor as a source value: unlike any value that the other file's own table may speak of."""
    return f"source:{tensor}"


def _real(dtype: str) -> str:
    """What a tensor counts as when its numbers are compared: quantised and half tensors as float32."""
    return "float32" if dtype in ("int8", "uint8", "int16", "float16") else dtype


class FileReference:
    """A TFLite file as the source: every value by its tensor's name.

    A file can't be run in float64. The truth is its run on the plain kernels; a single-precision run takes its
    outputs from XNNPACK, so that what two engines make of one file counts as noise.
    """

    def __init__(self, path: str | Path, info: TFLiteInfo) -> None:
        self.path = path
        self.info = info
        tensors = [info.tensors[i] for i in info.inputs]
        self.input_specs = [Spec(t.shape, t.dtype) for t in tensors]
        self.input_names = [_called(t.name) for t in tensors]
        self._outputs = [info.tensors[i].name for i in info.outputs]

    def run(self, inputs: Sequence[np.ndarray], *, dtype: str = "float64") -> dict[str, np.ndarray]:
        from instep.verify.tflite import floats_of

        result = run(self.path, inputs, engine="builtin", keep_all=True)
        if result.failed:
            raise TFLiteError(f"{self.path} does not run: {result.message}")
        table = {name: floats_of(array, name, result) for name, array in result.tensors.items()}
        if dtype == "float32":
            deployed = run(self.path, inputs, engine="xnnpack")
            if not deployed.failed:
                for name, array in zip(self._outputs, deployed.outputs, strict=True):
                    table[name] = floats_of(array, name, deployed)
        return {_called(n): a.astype(dtype) if a.dtype.kind == "f" else a for n, a in table.items()}


def verify_files(
    source: str | Path,
    file: str | Path,
    *,
    images: Any = None,
    seed: int = 0,
    figures: Figures | None = None,
    limits: Limits = LIMITS,
) -> Verdict:
    """Prove that ``file`` computes what the TFLite file ``source`` computes; tensors are aligned by what flows through.

    Raises TFLiteError when one is damaged or does not run, ValueError when their inputs differ.
    """
    from instep.verify.tflite import TfliteSubject

    info = tflite_info(source)
    reference, graph = FileReference(source, info), outline(info)
    sets = make_inputs(reference.input_specs, seed=seed, images=images, kinds=("noise", "natural", "zeros"))
    subject = TfliteSubject.load(file, reference, graph=graph, sets=sets)
    verdict = judge(
        reference, subject, sets, graph=graph, draws=1, seed=seed, limits=limits, figures=figures, explain=False
    )
    truth = "a file has no float64: the truth is the first file on TFLite's plain kernels"
    verdict.notes = [truth, *subject.notes, *verdict.notes]
    return verdict
