"""The table a written file carries: which of its tensors shows which value of the source, and how.

JSON: ``{"version": 1, "values": {tensor: [source, perm, shape]}, "inputs": [[source, perm, shape], ...],
"outputs": [...]}``, with ``tensor shows source.transpose(perm).reshape(shape)``. ``inputs`` and ``outputs`` are in the
file's own order; an entry is null where the value shows no value of the source.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from instep.graph.core import Graph, SourceView, Value

__all__ = ["METADATA_NAME", "Mapping", "from_json", "mapping_of", "to_json"]

#: The name of the metadata entry of a TFLite file that holds the table.
METADATA_NAME = "instep_mapping"


@dataclass
class Mapping:
    """Tensor name → the source value it shows; the same for inputs and outputs by position."""

    values: dict[str, SourceView] = field(default_factory=dict)
    inputs: list[SourceView | None] = field(default_factory=list)
    outputs: list[SourceView | None] = field(default_factory=list)


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


def _row(view: SourceView | None) -> list[Any] | None:
    return None if view is None else [view.name, list(view.perm), list(view.shape)]


def _read(row: list[Any] | None) -> SourceView | None:
    return None if row is None else SourceView(str(row[0]), tuple(map(int, row[1])), tuple(map(int, row[2])))


def to_json(mapping: Mapping) -> dict[str, Any]:
    """The table as plain JSON data."""
    return {
        "version": 1,
        "values": {name: _row(view) for name, view in mapping.values.items()},
        "inputs": [_row(v) for v in mapping.inputs],
        "outputs": [_row(v) for v in mapping.outputs],
    }


def from_json(data: dict[str, Any]) -> Mapping:
    """The mapping of a table read back. Raises ValueError when it is not a table of version 1."""
    if not isinstance(data, dict) or data.get("version") != 1:
        raise ValueError("the mapping table must be a JSON object of version 1; write the file again with Instep")
    values = {name: view for name, row in data["values"].items() if (view := _read(row)) is not None}
    return Mapping(values, [_read(r) for r in data["inputs"]], [_read(r) for r in data["outputs"]])
