"""Which of a result's tensors shows which value of the source, and how.

``tensor = source.transpose(perm).reshape(shape)``. A file that Instep wrote carries the table in its "instep"
metadata; for others ``align`` finds it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from instep.graph import Graph, SourceView, Value

__all__ = ["Mapping", "mapping_of"]


@dataclass
class Mapping:
    """Tensor name → the source value it shows; the same for inputs and outputs by position.

    ``stated``: the result itself says so; False where it was found by what flows through the tensors.
    """

    values: dict[str, SourceView] = field(default_factory=dict)
    inputs: list[SourceView | None] = field(default_factory=list)
    outputs: list[SourceView | None] = field(default_factory=list)
    stated: bool = True


def _view(value: Value) -> SourceView | None:
    return value.source if value.source is not None and value.source.shape == value.shape else None


def mapping_of(graph: Graph) -> Mapping:
    """The mapping of every value of ``graph`` that shows a value of the source."""
    values = {
        value.name: view
        for value in graph.values()
        if value not in graph.weights and (view := _view(value)) is not None
    }
    return Mapping(values, [_view(v) for v in graph.inputs], [_view(v) for v in graph.outputs])
