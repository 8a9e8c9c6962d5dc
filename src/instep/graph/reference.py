"""A Graph as something to run as the truth: its operators' numpy meanings, every value by name."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from instep.graph.core import Graph

__all__ = ["GraphReference"]


class GraphReference:
    """A Graph as the source, run by its operators' numpy meaning.

    For sources that have no framework of their own here (a TFLite file, a network as text). It shares the operators'
    meaning with the rewrites: a captured PyTorch network's own reference does not.
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
        made = {v for v in self.graph.values() if v not in self.graph.weights} | set(self.graph.outputs)
        return {v.name: a for v, a in table.items() if v in made}
