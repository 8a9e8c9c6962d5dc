"""A graph as a file: weights as safetensors, the network itself as JSON in the file's metadata."""

from __future__ import annotations

import json
import math
import os
from typing import Any

import numpy as np

from instep.graph.core import Graph, GraphError, Node, SourceView, Value
from instep.graph.operator import OPERATORS, Operator
from instep.graph.validate import validate
from instep.whole import written

__all__ = ["from_json", "load", "save", "to_json"]

#: The metadata key, and the version of what stands under it.
KEY, VERSION = "instep.graph", 1


def save(graph: Graph, path: str | os.PathLike[str]) -> None:
    """Write ``graph`` to one ``.safetensors`` file, whole or not at all; any safetensors reader sees its weights."""
    from safetensors.numpy import save as pack

    tensors = {v.name: np.array(a, order="C") for v, a in graph.weights.items()}
    data = pack(tensors, metadata={KEY: json.dumps(to_json(graph), separators=(",", ":"))})
    with written(path) as file:
        file.write(data)


def load(path: str | os.PathLike[str]) -> Graph:
    """Read what ``save`` wrote. Raises GraphError naming the file when it holds no graph or a broken one."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(os.fspath(path), framework="numpy") as file:
            text = (file.metadata() or {}).get(KEY)
            if text is None:
                raise GraphError(f"{os.fspath(path)} holds weights but no graph; save it with instep.graph.store.save")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise GraphError(f"{os.fspath(path)} is not a safetensors file: {error}") from error
    try:
        return from_json(json.loads(text), tensors)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise GraphError(f"{os.fspath(path)} holds a graph that cannot be read: {error}") from error


def to_json(graph: Graph) -> dict[str, Any]:
    """The network without its weights' numbers, as JSON values. ``meta`` keeps what JSON can say."""
    validate(graph)
    return {
        "version": VERSION,
        "values": {v.name: _value(v) for v in graph.values()},
        "inputs": [[name, v.name] for name, v in zip(graph.input_names, graph.inputs, strict=True)],
        "outputs": [[name, v.name] for name, v in zip(graph.output_names, graph.outputs, strict=True)],
        "weights": [v.name for v in graph.weights],
        "nodes": [_node(n) for n in graph.nodes],
        "meta": {k: v for k, v in graph.meta.items() if _plain(v)},
    }


def from_json(data: dict[str, Any], tensors: dict[str, np.ndarray]) -> Graph:
    """The graph that ``to_json`` described, with ``tensors`` as its weights. Raises GraphError when it is not valid."""
    if data["version"] != VERSION:
        raise GraphError(f"the graph has version {data['version']}, this Instep reads {VERSION}")
    values = {
        name: Value(name, spec["shape"], spec["dtype"], _source(spec.get("source")))
        for name, spec in data["values"].items()
    }
    missing = [name for name in data["weights"] if name not in tensors]
    if missing:
        raise GraphError(f"weights are missing: {', '.join(missing[:5])}")
    graph = Graph(
        [values[v] for _, v in data["inputs"]],
        [values[v] for _, v in data["outputs"]],
        [
            Node(
                _operator(n["op"], n.get("fields", {})),
                [values[v] for v in n["inputs"]],
                [values[v] for v in n["outputs"]],
                n.get("scope", ""),
                n.get("origin", ""),
            )
            for n in data["nodes"]
        ],
        {values[name]: tensors[name] for name in data["weights"]},
        [name for name, _ in data["inputs"]],
        [name for name, _ in data["outputs"]],
        dict(data.get("meta", {})),
    )
    validate(graph, after="loading")
    return graph


def _value(value: Value) -> dict[str, Any]:
    spec: dict[str, Any] = {"shape": list(value.shape), "dtype": value.dtype}
    if value.source is not None:
        spec["source"] = [value.source.name, list(value.source.perm), list(value.source.shape)]
    return spec


def _source(data: list[Any] | None) -> SourceView | None:
    return None if data is None else SourceView(data[0], tuple(data[1]), tuple(data[2]))


def _node(node: Node) -> dict[str, Any]:
    made: dict[str, Any] = {"op": node.op.name}
    fields = {k: _pack(v) for k, v in node.op.fields().items()}
    if fields:
        made["fields"] = fields
    made |= {"inputs": [v.name for v in node.inputs], "outputs": [v.name for v in node.outputs]}
    return made | {k: v for k, v in (("scope", node.scope), ("origin", node.origin)) if v}


def _operator(name: str, fields: dict[str, Any]) -> Operator:
    kind = OPERATORS.get(name)
    if kind is None:
        raise GraphError(f"the operator {name} is not known here")
    return kind(**{k: _unpack(v) for k, v in fields.items()})


def _pack(value: Any) -> Any:
    """JSON has no infinities and no tuples: infinities become {"float": "inf"}, tuples lists."""
    if isinstance(value, tuple | list):
        return [_pack(v) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": repr(value)}
    return value


def _unpack(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_unpack(v) for v in value)
    if isinstance(value, dict):
        return float(value["float"])
    return value


def _plain(value: Any) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        return False
    return True
