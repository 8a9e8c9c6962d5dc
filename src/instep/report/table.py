"""The table of `instep show`: a network as the tree of its scopes, with shapes, parameters and multiply-accumulates."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from instep.graph import Graph
from instep.runtime import TFLiteInfo

__all__ = ["Line", "Table", "table_of_file", "table_of_graph"]

#: state_dict endings of arrays that training does not learn
_BUFFERS = ("running_mean", "running_var", "num_batches_tracked", "relative_position_index")


@dataclass(frozen=True)
class Line:
    """One row: a scope with the sums of what is inside (``operator`` empty), or one operator."""

    depth: int
    name: str
    operator: str
    shape: tuple[int, ...]
    parameters: int
    macs: int
    origin: str = ""
    #: additions, subtractions, multiplications, divisions (``Operator.arithmetic``)
    arithmetic: int = 0


@dataclass
class Table:
    """A network at a glance. ``lines`` is the tree in order of computation; the rest are totals."""

    source: str
    kind: str
    inputs: list[tuple[str, tuple[int, ...], str]]
    outputs: list[tuple[str, tuple[int, ...], str]]
    lines: list[Line]
    parameters: int
    parameter_bytes: int
    macs: int
    arithmetic: int
    #: the bytes of all values that operators make, as if none were reused
    activation_bytes: int
    ops: dict[str, int]
    max_rank: int
    notes: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain data; ``lines`` as a list of objects."""

        def ports(rows: list[tuple[str, tuple[int, ...], str]]) -> list[dict[str, Any]]:
            return [{"name": n, "shape": list(s), "dtype": d} for n, s, d in rows]

        return {
            "source": self.source,
            "kind": self.kind,
            "inputs": ports(self.inputs),
            "outputs": ports(self.outputs),
            "parameters": self.parameters,
            "parameter_bytes": self.parameter_bytes,
            "macs": self.macs,
            "arithmetic": self.arithmetic,
            "activation_bytes": self.activation_bytes,
            "ops": self.ops,
            "max_rank": self.max_rank,
            "notes": self.notes,
            "facts": self.facts,
            "lines": [
                {
                    "depth": r.depth,
                    "name": r.name,
                    "operator": r.operator,
                    "shape": list(r.shape),
                    "parameters": r.parameters,
                    "macs": r.macs,
                    "arithmetic": r.arithmetic,
                    "origin": r.origin,
                }
                for r in self.lines
            ],
        }


@dataclass
class _Item:
    """One operator before it has its place in the tree."""

    path: tuple[str, ...]
    operator: str
    shape: tuple[int, ...]
    parameters: int
    macs: int
    arithmetic: int
    origin: str

    def line(self, depth: int, name: str) -> Line:
        cost = self.parameters, self.macs, self.origin, self.arithmetic
        return Line(depth, name, self.operator, self.shape, *cost)


def _tree(items: Iterable[_Item]) -> list[Line]:
    """Rows for the operators, with a row for each scope where it begins; a scope of one operator is that row."""
    items = list(items)
    lines: list[Line] = []

    def visit(group: list[_Item], depth: int) -> None:
        i = 0
        while i < len(group):
            head = group[i].path[depth] if len(group[i].path) > depth else None
            j = i
            while j < len(group) and (group[j].path[depth] if len(group[j].path) > depth else None) == head:
                j += 1
            inside = group[i:j]
            if head is None:
                lines.extend(item.line(depth, "") for item in inside)
            elif len(inside) == 1:
                lines.append(inside[0].line(depth, ".".join(inside[0].path[depth:])))
            else:
                last, name, deeper = inside[-1], head, depth + 1
                parameters, macs, arithmetic = (
                    sum(counts) for counts in zip(*((x.parameters, x.macs, x.arithmetic) for x in inside), strict=True)
                )
                lines.append(Line(depth, name, "", last.shape, parameters, macs, arithmetic=arithmetic))
                visit(inside, deeper)
            i = j

    visit(items, 0)
    return lines


def _path(scope: str) -> tuple[str, ...]:
    return tuple(part for part in scope.split(".") if part)


def table_of_graph(graph: Graph, source: str, notes: Iterable[str] = ()) -> Table:
    """The table of a captured graph. A parameter that several operators share counts where it is used first."""
    counted: set[object] = set()
    said = set(graph.meta.get("constants", ()))  # numbers in a network's text, which are no parameters
    items: list[_Item] = []
    for node in graph.nodes:
        parameters = 0
        for value in node.inputs:
            if value not in graph.weights or value in counted:
                continue
            counted.add(value)
            if value.dtype.startswith("float") and not value.name.endswith(_BUFFERS) and value.name not in said:
                parameters += value.size
        specs = [v.spec for v in node.inputs], [v.spec for v in node.outputs]
        cost = node.op.macs(*specs), node.op.arithmetic(*specs)
        items.append(_Item(_path(node.scope), node.op.name, node.output.shape, parameters, *cost, node.origin))
    ops: dict[str, int] = {}
    for node in graph.nodes:
        ops[node.op.name] = ops.get(node.op.name, 0) + 1
    made = [v for n in graph.nodes for v in n.outputs]
    return Table(
        source,
        "network",
        [(n, v.shape, v.dtype) for n, v in zip(graph.input_names, graph.inputs, strict=True)],
        [(n, v.shape, v.dtype) for n, v in zip(graph.output_names, graph.outputs, strict=True)],
        _tree(items),
        sum(i.parameters for i in items),
        sum(v.nbytes for v in graph.weights if v in counted),
        sum(i.macs for i in items),
        sum(i.arithmetic for i in items),
        sum(v.nbytes for v in made),
        ops,
        max((v.rank for v in graph.values()), default=0),
        list(notes),
    )


def table_of_file(info: TFLiteInfo) -> Table:
    """The table of a TFLite file: names of output tensors are the scopes; constants are the parameters."""
    tensors = info.tensors
    counted: set[int] = set()
    items: list[_Item] = []
    for op in info.ops:
        parameters = 0
        for index in op.inputs:
            if index < 0 or index in counted or not tensors[index].constant_bytes:
                continue
            counted.add(index)
            if not tensors[index].dtype.startswith(("int32", "int64", "bool")):
                parameters += _size(tensors[index].shape)
        first = info.made(op)
        name, shape = (first.name, first.shape) if first is not None else ("", ())
        # our tensors are called scope/operation; other tools' names are taken whole
        scope = name.rpartition("/")[0] if info.instep else name.replace("/", ".")
        items.append(
            _Item(_path(scope), op.name, shape, parameters, _macs(info, op), _arithmetic(info, op), info.origin(op))
        )
    made = [tensors[i] for op in info.ops for i in op.outputs if i >= 0]
    facts = {k: v for k, v in info.instep.items() if k not in ("views", "blocks", "origins")}  # for programs
    return Table(
        info.path,
        "tflite",
        [(n, tensors[i].shape, tensors[i].dtype) for n, i in zip(info.input_names, info.inputs, strict=False)],
        [(n, tensors[i].shape, tensors[i].dtype) for n, i in zip(info.output_names, info.outputs, strict=False)],
        _tree(items),
        sum(i.parameters for i in items),
        sum(tensors[i].constant_bytes for i in counted),
        sum(i.macs for i in items),
        sum(i.arithmetic for i in items),
        sum(_size(t.shape) * _width(t.dtype) for t in made),
        dict(info.histogram.most_common()),
        info.max_rank,
        [],
        facts,
    )


def _size(shape: tuple[int, ...]) -> int:
    return math.prod(shape)


def _width(dtype: str) -> int:
    try:
        return np.dtype(dtype).itemsize
    except TypeError:
        return 1


def _macs(info: TFLiteInfo, op: Any) -> int:
    """Multiply-accumulates of the operators that have a filter or multiply matrices (damaged ones lack them)."""
    shapes = [info.tensors[i].shape if i >= 0 else () for i in op.inputs]
    if len(shapes) < 2 + (op.name == "TRANSPOSE_CONV") or not op.outputs or not shapes[0] or not shapes[1]:
        return 0
    made, second = _size(info.tensors[op.outputs[0]].shape), shapes[1]
    match op.name:
        case "CONV_2D" | "CONV_3D":  # the filter is [out, kh, kw, in], or [kd, kh, kw, in, out]
            return made * _size(second[1:] if op.name == "CONV_2D" else second[:-1])
        case "DEPTHWISE_CONV_2D":
            return made * _size(second[1:3])
        case "TRANSPOSE_CONV":  # inputs are (shape, filter, x); the filter is [out, kh, kw, in]
            return _size(shapes[2]) * _size(second[:3])
        case "FULLY_CONNECTED":
            return made * second[-1]
        case "BATCH_MATMUL":
            return made * shapes[0][-1]
    return 0


#: Arithmetic operations for each element that comes out, besides the multiply-accumulates (see Operator.arithmetic).
_EACH = {
    "CONV_2D": 1, "CONV_3D": 1, "DEPTHWISE_CONV_2D": 1, "ADD": 1, "SUB": 1, "MUL": 1, "DIV": 1, "LOGISTIC": 64,
    "TANH": 64, "SOFTMAX": 64, "LOG_SOFTMAX": 64, "L2_NORMALIZATION": 3,
}  # fmt: skip


def _arithmetic(info: TFLiteInfo, op: Any) -> int:
    """Arithmetic operations of an operator of a file, as ``Operator.arithmetic`` counts those of a graph."""
    if not op.outputs:
        return 0
    made = _size(info.tensors[op.outputs[0]].shape)
    each = _EACH.get(op.name, 0)
    match op.name:
        case "FULLY_CONNECTED":
            each = int(len(op.inputs) > 2 and op.inputs[2] >= 0)
        case "ADD_N":
            each = len(op.inputs) - 1
        case "AVERAGE_POOL_2D" | "MAX_POOL_2D":
            each = getattr(op.options, "filterHeight", 0) * getattr(op.options, "filterWidth", 0)
    return 2 * _macs(info, op) + each * made
