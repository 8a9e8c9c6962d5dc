"""How far inputs that are indices may reach: the rows of the tables that they index, in a graph and in a file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from instep.graph import Graph, Node, Value, ops
from instep.runtime import TFLiteInfo
from instep.runtime.info import OpInfo

__all__ = ["index_bounds", "index_bounds_of_file"]

T = TypeVar("T")

#: (rows of the table that a value indexes there, or None; the values that hand its numbers on)
Use = tuple[int | None, Sequence[T]]

_HANDED_ON = (ops.Cast, ops.Clip, ops.Reshape, ops.Slice, ops.Permute, ops.Expand, ops.Concat)
_HANDED_ON_IN_FILES = frozenset(
    ("CAST", "RESHAPE", "SQUEEZE", "EXPAND_DIMS", "SLICE", "STRIDED_SLICE", "TRANSPOSE", "CONCATENATION", "PACK",
     "UNPACK", "SPLIT", "SPLIT_V", "TILE", "BROADCAST_TO", "MINIMUM", "MAXIMUM", "RELU")
)  # fmt: skip

#: What indexes a table, and at which of its two first inputs; for ONE_HOT the other one says how many rows there are.
_TABLES = {("EMBEDDING_LOOKUP", 0), ("GATHER", 1), ("GATHER_ND", 1), ("ONE_HOT", 0)}


def index_bounds(graph: Graph) -> dict[int, int]:
    """For each input of ``graph`` that indexes a table: the smallest such table's length, by input number.

    Indices may come as floats that are cast, as those of Keras 2's embeddings do.
    """
    users = graph.users()
    return _bounds(graph.inputs, lambda value: (_use(node, value) for node in users.get(value, ())))


def _use(node: Node, value: Value) -> Use[Value]:
    if isinstance(node.op, ops.Gather) and node.inputs[1] is value:
        return node.inputs[0].shape[node.op.axis], ()
    return None, node.outputs if isinstance(node.op, _HANDED_ON) else ()


def index_bounds_of_file(info: TFLiteInfo) -> dict[int, int]:
    """The same for the inputs of a TFLite file, of whatever tool."""
    readers: dict[int, list[OpInfo]] = {}
    for op in info.ops:
        for index in set(op.inputs):
            readers.setdefault(index, []).append(op)
    return _bounds(info.inputs, lambda index: (_use_in_file(info, op, index) for op in readers.get(index, ())))


def _use_in_file(info: TFLiteInfo, op: OpInfo, index: int) -> Use[int]:
    rows = _rows(info, op, op.inputs.index(index))
    outputs = [i for i in op.outputs if i >= 0] if op.name in _HANDED_ON_IN_FILES else []
    return (rows if rows is not None and rows > 0 else None), outputs


def _rows(info: TFLiteInfo, op: OpInfo, position: int) -> int | None:
    """The length of what the operator's input at ``position`` indexes, where it indexes something."""
    if (op.name, position) not in _TABLES or len(op.inputs) < 2:
        return None
    table, ids = (info.tensors[i] for i in (op.inputs[1 - position], op.inputs[position]))
    sizes: Sequence[int] = table.shape
    if op.name == "GATHER":
        axis = getattr(op.options, "axis", 0)
        return sizes[axis] if -len(sizes) <= axis < len(sizes) else None
    if op.name == "GATHER_ND":
        return min(sizes[: ids.shape[-1]], default=None) if ids.shape else None
    if op.name == "ONE_HOT":
        depth = info.constant(table.index)
        sizes = () if depth is None else [int(n) for n in depth.ravel()]
    return next(iter(sizes), None)


def _bounds(starts: Sequence[T], uses: Callable[[T], Iterable[Use[T]]]) -> dict[int, int]:
    """Follow each start through what hands its numbers on, to the tables; by the start's number."""
    bounds: dict[int, int] = {}
    for number, start in enumerate(starts):
        stack, seen = [start], {start}
        while stack:
            for rows, outputs in uses(stack.pop()):
                if rows is not None:
                    bounds[number] = min(bounds.get(number, rows), rows)
                new = [out for out in outputs if out not in seen]
                seen.update(new)
                stack += new
    return bounds
