"""What the values of a file ought to be, input set by input set: real activations from the side that is trusted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from instep.debug.align import same_build
from instep.graph import Graph, SourceView
from instep.runtime import TFLiteInfo, run_many
from instep.verify.inputs import InputSet
from instep.verify.quantised import integers_of
from instep.verify.reference import Reference
from instep.verify.subject import shown_inputs
from instep.verify.tflite import EngineError, TfliteSubject, floats_of

__all__ = ["Trusted", "fill", "from_file", "from_reference"]

#: Where a file is right, its values agree with the source's to this share of their RMS: some eighty units in the last
#: place. A file that rounds more is not taken for right.
AGREE = 1e-5


@dataclass
class Trusted:
    """``values[set][tensor]``: the real numbers that a tensor of the file should hold, in the file's own layout."""

    info: TFLiteInfo
    names: list[str]
    values: list[dict[int, np.ndarray]]
    #: who says so, for people
    who: str
    #: tensor → the value of the source that it shows, and how; empty where the file itself is the source
    views: dict[int, SourceView] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    #: a right file of the same build, from which the values that the source does not have were taken
    filler: Path | None = None

    @property
    def known(self) -> set[int]:
        """The tensors whose values are known."""
        return set(self.values[0]) if self.values else set()

    def given(self, number: int, index: int) -> np.ndarray:
        """The array to feed as tensor ``index`` on input set ``number``: in the tensor's own type."""
        tensor = self.info.tensors[index]
        array = integers_of(np.asarray(self.values[number][index]), tensor)
        return np.ascontiguousarray(array.reshape(_settled(tensor.shape, array)), dtype=tensor.dtype)

    @property
    def shows(self) -> dict[int, str]:
        """Tensor → the name of the source's value that it shows."""
        return {i: v.name.removeprefix("source:") for i, v in self.views.items()}

    def only(self, number: int) -> Trusted:
        """The same on one of the input sets."""
        return replace(self, names=[self.names[number]], values=[self.values[number]])


def _settled(shape: tuple[int, ...], array: np.ndarray) -> tuple[int, ...]:
    return array.shape if min(shape, default=0) < 0 else shape


def _unique(info: TFLiteInfo) -> dict[str, int]:
    """Name → number of the tensors that one name tells apart."""
    counted = Counter(t.name for t in info.tensors)
    constants = {t.index for t in info.tensors if t.constant_bytes}
    return {t.name: t.index for t in info.tensors if counted[t.name] == 1 and t.index not in constants}


def from_file(path: str | Path, info: TFLiteInfo, sets: Sequence[InputSet], timeout: float = 300.0) -> Trusted:
    """Every value of the file itself as LiteRT's built-in kernels compute it. EngineError where they do not."""
    given = [[integers_of(a, info.tensors[i]) for a, i in zip(s.arrays, info.inputs, strict=True)] for s in sets]
    results = run_many(path, given, engine="builtin", keep_all=True, timeout=timeout)
    failed = next((r for r in results if r.failed), None)
    if failed is not None:
        raise EngineError(f"{path} does not run on the CPU either: {failed.message}", failed)
    names = _unique(info)
    values = []
    for result, fed in zip(results, given, strict=True):
        table = {names[n]: floats_of(a, n, result) for n, a in result.tensors.items() if n in names}
        for index, name, array in zip(info.outputs, result.output_names, result.outputs, strict=True):
            table[index] = floats_of(array, name, result)
        for index, array in zip(info.inputs, fed, strict=True):
            table[index] = floats_of(array, info.tensors[index].name, result)
        values.append(table)
    return Trusted(info, [s.name for s in sets], values, "LiteRT's built-in CPU kernels")


def fill(trusted: Trusted, path: str | Path, info: TFLiteInfo) -> bool:
    """Take over from a right file of the same build what ``trusted`` does not know: the values inside of what the
    source computes in one step. False where the file is not right, or built otherwise."""
    if same_build(info, trusted.info) is None:
        return False
    ours = [i for op in trusted.info.ops for i in op.outputs]
    theirs = [i for op in info.ops for i in op.outputs]
    twin = dict(zip(theirs, ours, strict=True))
    given = [[trusted.given(n, i) for i in trusted.info.inputs] for n in range(len(trusted.names))]
    results = run_many(path, given, engine="builtin", keep_all=True)
    names = _unique(info)
    found: list[dict[int, np.ndarray]] = []
    for values, result in zip(trusted.values, results, strict=True):
        if result.failed:
            return False
        table = {twin[names[n]]: floats_of(a, n, result) for n, a in result.tensors.items() if names.get(n) in twin}
        if not all(_agree(table[i], values[i]) for i in table.keys() & values.keys()):
            return False
        found.append(table)
    trusted.filler = Path(path)
    for values, table in zip(trusted.values, found, strict=True):
        values.update({i: a for i, a in table.items() if i not in trusted.views})
    return True


def _agree(array: np.ndarray, truth: np.ndarray) -> bool:
    if truth.dtype.kind != "f":
        return True
    truth = truth.astype(np.float64)
    error = float(np.sqrt(np.mean(np.square(array - truth)))) if truth.size else 0.0
    return error <= AGREE * float(np.sqrt(np.mean(np.square(truth)))) + 1e-12 if truth.size else True


def from_reference(
    reference: Reference, graph: Graph | None, subject: TfliteSubject, sets: Sequence[InputSet], who: str
) -> Trusted:
    """The values of ``subject``'s file that ``reference``, run in float64, says: those that show one of its values."""
    info = subject.info
    names = _unique(info)
    views = {names[n]: v for n, v in subject.mapping.values.items() if n in names}
    views |= {i: v for i, v in zip(info.outputs, subject.mapping.outputs, strict=True) if v is not None}
    views = {i: v for i, v in views.items() if info.tensors[i].shape == tuple(v.shape)}
    kept = sorted({v.name for v in views.values()})
    values = []
    for given in sets:
        truth = reference.run(list(given.arrays), dtype="float64", keep=kept)
        # a value that no step of the source makes (an input handed on) is not in the truth
        table = {i: np.asarray(v.apply(truth[v.name])) for i, v in views.items() if v.name in truth}
        shown = shown_inputs(subject.mapping, subject.input_values, given.arrays)
        table |= dict(zip(info.inputs, shown, strict=True))
        values.append(table)
    known = set.intersection(*(set(t) for t in values)) if values else set()
    values = [{i: a for i, a in t.items() if i in known} for t in values]
    views |= {i: v for i, v in zip(info.inputs, subject.mapping.inputs, strict=True) if v is not None}
    return Trusted(info, [s.name for s in sets], values, who, views, list(subject.notes))
