"""Something to run as the truth: the protocol every source fulfils, and a Graph as such a source."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from instep.graph import Graph, Spec

__all__ = ["GraphReference", "Reference"]


class Reference(Protocol):
    """The source network, able to show every captured value in float64 or float32.

    ``run`` takes the inputs in the source's order and layout and returns source value name → array; ``keep`` limits
    what is returned beside the outputs.
    """

    input_specs: list[Spec]
    input_names: list[str]

    def run(
        self, inputs: Sequence[np.ndarray], *, dtype: str, keep: Sequence[str] | None = None
    ) -> dict[str, np.ndarray]: ...


class GraphReference:
    """A Graph as the source, run by its operators' numpy meaning.

    Good for tests and for sources that have no runtime of their own here (a network as text). It shares the
    operators' meaning with the rewrites: a captured PyTorch network's own reference does not.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.input_specs = [v.spec for v in graph.inputs]
        self.input_names = list(graph.input_names)

    def run(
        self, inputs: Sequence[np.ndarray], *, dtype: str = "float64", keep: Sequence[str] | None = None
    ) -> dict[str, np.ndarray]:
        cast = [a.astype(dtype) if a.dtype.kind == "f" else a for a in inputs]
        names = None if keep is None else set(keep)
        kept = None if names is None else [v for v in self.graph.values() if v.name in names]
        table = self.graph.run(cast, keep=kept)
        return {v.name: a for v, a in table.items() if v not in self.graph.weights}
