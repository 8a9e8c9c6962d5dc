"""What stands trial: a result that can be run, with its tensors mapped to the source's values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from instep.graph import Graph, SourceView
from instep.verify.mapping import Mapping, mapping_of

__all__ = ["PATIENCE", "GraphSubject", "Run", "Subject", "to_source"]

#: Seconds that an engine may take for one file, all inputs together, unless the caller says otherwise.
PATIENCE = 900.0


@dataclass
class Run:
    """One run: every readable tensor by name, and the outputs of each engine by the engine's name."""

    tensors: dict[str, np.ndarray]
    outputs: dict[str, list[np.ndarray]] = field(default_factory=dict)


class Subject(Protocol):
    """A result of a conversion. ``mapping`` says what each tensor shows; inputs are given as the source takes them."""

    mapping: Mapping
    #: the names of the output tensors, in order
    output_tensors: list[str]

    def runs(self, sets: Sequence[Sequence[np.ndarray]]) -> Iterator[Run]: ...


def to_source(array: np.ndarray, view: SourceView, shape: tuple[int, ...]) -> np.ndarray:
    """The source's value (of ``shape``) back from what ``view`` shows of it."""
    middle = [shape[p] for p in view.perm]
    return array.reshape(middle).transpose(np.argsort(view.perm))


def shown_inputs(mapping: Mapping, names: Sequence[str], arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The inputs of a result from the source's: reordered and laid out as its mapping says."""
    by_name = dict(zip(names, arrays, strict=True))
    result = []
    for i, view in enumerate(mapping.inputs):
        if view is None:
            result.append(arrays[i])
        else:
            result.append(np.ascontiguousarray(view.apply(by_name[view.name])))
    return result


class GraphSubject:
    """A Graph (captured, rewritten or lowered) run by its numpy meaning in ``dtype``.

    ``only`` names the source values to show beside the outputs; None shows all.
    """

    def __init__(
        self, graph: Graph, input_values: Sequence[str], *, dtype: str = "float32", only: set[str] | None = None
    ) -> None:
        self.graph = graph
        self.dtype = dtype
        self.input_values = list(input_values)
        self.mapping = mapping_of(graph)
        if only is not None:
            self.mapping.values = {t: view for t, view in self.mapping.values.items() if view.name in only}
        self.keep = None if only is None else [v for v in graph.values() if v.name in self.mapping.values]
        self.output_tensors = [v.name for v in graph.outputs]

    def runs(self, sets: Sequence[Sequence[np.ndarray]]) -> Iterator[Run]:
        for arrays in sets:
            given = shown_inputs(self.mapping, self.input_values, arrays)
            cast = [a.astype(self.dtype) if a.dtype.kind == "f" else a for a in given]
            table = self.graph.run(cast, keep=self.keep)
            tensors = {v.name: a for v, a in table.items() if v not in self.graph.weights}
            yield Run(tensors, {"numpy": [table[v] for v in self.graph.outputs]})
