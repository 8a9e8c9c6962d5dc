"""Several forms of one network held against their source and against each other, by the verdict of the proof."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from instep.graph import Graph, SourceView, Spec
from instep.verify import Verdict
from instep.verify.inputs import InputSet
from instep.verify.mapping import Mapping as Views
from instep.verify.noise import CLASSES
from instep.verify.reference import Reference
from instep.verify.subject import Run, to_source
from instep.verify.verify import judge

__all__ = ["Ran", "Remembered", "every_pair", "worst"]

Arrays = dict[str, np.ndarray]


class Remembered:
    """A reference that computes the outputs for the same inputs once: every form is judged by the same runs."""

    def __init__(self, reference: Reference, graph: Graph) -> None:
        self.input_specs: list[Spec] = reference.input_specs
        self.input_names: list[str] = reference.input_names
        self._reference = reference
        self._outputs = {v.name for v in graph.outputs}
        self._known: dict[tuple[str, bytes], Arrays] = {}

    def run(self, inputs: Sequence[np.ndarray], *, dtype: str, keep: Sequence[str] | None = None) -> Arrays:
        digest = hashlib.sha256()
        for array in inputs:
            digest.update(np.ascontiguousarray(array).data)
        key = dtype, digest.digest()
        if key in self._known and keep is not None and self._outputs.issuperset(keep):
            return dict(self._known[key])
        found = self._reference.run(inputs, dtype=dtype, keep=keep)
        self._known[key] = {n: a for n, a in found.items() if n in self._outputs}
        return found


@dataclass
class Ran:
    """A form that has been run on the sets of a proof: ``results`` holds its outputs, set by set."""

    engine: str
    mapping: Views
    results: Sequence[Sequence[np.ndarray]]
    output_tensors: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.output_tensors = [f"output{n}" for n in range(len(self.mapping.outputs))]
        self.mapping = Views({}, self.mapping.inputs, self.mapping.outputs)

    def runs(self, sets: Sequence[Sequence[np.ndarray]]) -> Iterator[Run]:
        for arrays in self.results:
            yield Run({}, {self.engine: list(arrays)})


class _InPlace:
    """A form in the place of the truth, with the source's own rounding noise about it.

    The float32 runs that a proof asks for are the form's outputs moved by what the source's are away from its truth.
    """

    def __init__(self, source: Reference, form: Ran, sets: Sequence[InputSet], shapes: Mapping[str, tuple[int, ...]]):
        self.input_specs, self.input_names = source.input_specs, source.input_names
        self._source = source
        self._results = iter(form.results)
        self._views = form.mapping.outputs
        self._shapes = shapes
        self._truth: Arrays = {}
        self._shown: Arrays = {}

    def run(self, inputs: Sequence[np.ndarray], *, dtype: str, keep: Sequence[str] | None = None) -> Arrays:
        if dtype == "float64":
            self._truth = self._source.run(inputs, dtype=dtype, keep=[])
            self._shown = {
                v.name: to_source(a, v, self._shapes[v.name]).astype(self._truth[v.name].dtype)
                for a, v in zip(next(self._results), self._views, strict=True)
                if v is not None
            }
            return self._shown
        drawn = self._source.run(inputs, dtype=dtype, keep=[])
        with np.errstate(invalid="ignore"):
            return {n: a + (drawn[n] - self._truth[n]) for n, a in self._shown.items()}


def every_pair(
    source: Reference, forms: Mapping[str, Ran], sets: Sequence[InputSet], *, graph: Graph, draws: int, seed: int = 0
) -> dict[str, dict[str, Verdict]]:
    """form → what it is held against ("source", or a form further on) → the verdict on its outputs."""
    shapes = {v.name: v.shape for v in graph.outputs}
    for form in forms.values():
        form.mapping = _of_outputs(form.mapping, source, graph, sets[0])

    def held(reference: Reference, form: Ran) -> Verdict:
        return judge(reference, form, sets, graph=graph, draws=draws, seed=seed, explain=False, only=set())

    found = {name: {"source": held(source, form)} for name, form in forms.items()}
    for one, other in itertools.combinations(forms, 2):
        found[one][other] = held(_InPlace(source, forms[one], sets, shapes), forms[other])
    return found


def _of_outputs(mapping: Views, source: Reference, graph: Graph, given: InputSet) -> Views:
    """``mapping`` with every output shown as the graph's own output.

    A file may say that it shows an earlier value, which holds an output's numbers in another order; what another form
    is held against knows outputs alone. ValueError when no order of the axes makes the one of the other.
    """
    names = {v.name for v in graph.outputs}
    earlier = [v.name for v in mapping.outputs if v is not None and v.name not in names]
    if not earlier:
        return mapping
    truth = source.run(list(given.arrays), dtype="float64", keep=[*earlier, *names])
    views = [
        v if v is None or v.name in names else _shown_as(graph.outputs[i].name, v, truth)
        for i, v in enumerate(mapping.outputs)
    ]
    return Views({}, mapping.inputs, views)


def _shown_as(name: str, view: SourceView, truth: Arrays) -> SourceView:
    shown, output = view.apply(truth[view.name]).ravel(), truth[name]
    for perm in itertools.permutations(range(output.ndim)):
        if np.array_equal(output.transpose(perm).ravel(), shown):
            return SourceView(name, perm, view.shape)
    raise ValueError(f"no order of the axes makes {name} of {view.name}")


def worst(classes: Sequence[str]) -> str:
    """The worst of some verdicts; whatever is none of the three classes is worse than all."""
    return max(classes, key=lambda c: CLASSES.index(c) if c in CLASSES else len(CLASSES))
