"""Can a computed tensor hold -inf? Only then need attention care for rows that are masked throughout."""

from __future__ import annotations

import numpy as np

from instep.graph import Graph, Operator, Value, ops

__all__ = ["may_be_infinite"]

#: What hands infinities of its operands on as they are.
_CARRY: tuple[type[Operator], ...] = (
    ops.Reshape, ops.Permute, ops.Slice, ops.Concat, ops.Pad, ops.Expand, ops.Flip, ops.Roll, ops.Gather,
    ops.TakeAlong, ops.Where, ops.Add, ops.Maximum, ops.Minimum, ops.Cast, ops.Dropout,
)  # fmt: skip
#: What makes infinities of infinite constants, and of inputs that are numbers none.
_SCALE: tuple[type[Operator], ...] = (ops.Mul, ops.Sub, ops.Div, ops.Neg)


def may_be_infinite(graph: Graph, value: Value) -> bool:
    """Does ``value`` come from an infinite constant, a logarithm, or as it is from an input (a mask to be added)?

    Everything else (products, activations, what an input is scaled to) is finite where the inputs are.
    """
    producers = graph.producers()
    todo, seen = [(value, True)], set()
    while todo:
        value, moved = todo.pop()
        if (value, moved) in seen or not value.dtype.startswith("float"):
            continue
        seen.add((value, moved))
        array, node = graph.weights.get(value), producers.get(value)
        if array is not None:
            if np.isinf(array).any():
                return True
        elif node is None:
            if moved:
                return True
        elif isinstance(node.op, ops.Log) or (isinstance(node.op, ops.Pad) and np.isinf(node.op.value)):
            return True
        elif isinstance(node.op, _CARRY + _SCALE):
            todo += [(v, moved and isinstance(node.op, _CARRY)) for v in node.inputs]
    return False
