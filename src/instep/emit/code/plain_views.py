"""Views that no person would write: of a view, or to a shape that the operator behind them makes by itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from instep.graph import ops
from instep.graph.core import Graph, Node, Value

__all__ = ["without_needless_views"]


def without_needless_views(nodes: Sequence[Node], graph: Graph) -> list[Node]:
    """``nodes``, in order, of which none reads a view that it can do without; views that nothing reads are gone."""
    makers = {v: n for n in nodes for v in n.outputs}
    reads = Counter(v for n in nodes for v in n.inputs) + Counter(graph.outputs)
    found: list[Node] = []
    for node in nodes:
        inputs = [_straight(node, value, makers, reads) for value in node.inputs]
        changed = any(a is not b for a, b in zip(inputs, node.inputs, strict=True))
        reads.update(inputs)
        reads.subtract(node.inputs)
        found.append(replace(node, inputs=inputs) if changed else node)
    return [n for n in found if not isinstance(n.op, ops.Reshape | ops.Expand) or reads[n.output]]


def _straight(node: Node, value: Value, makers: dict[Value, Node], reads: Counter[Value]) -> Value:
    """What ``node`` can read in the place of ``value``."""
    made = makers.get(value)
    if made is None or value.dtype != made.inputs[0].dtype:
        return value
    if isinstance(made.op, ops.Expand) and node.op.elementwise and len(node.inputs) == 2:
        # broadcast against the other operand it is the same
        (x,), other = made.inputs, [v for v in node.inputs if v is not value]
        whole = any(v.shape == node.output.shape for v in other)
        return x if whole and x.rank == value.rank else value
    # a block whose last step is a view keeps it, as others of its kind may need it
    twice = isinstance(made.op, ops.Reshape) and isinstance(node.op, ops.Reshape) and made.scope == node.scope
    return made.inputs[0] if twice and reads[value] == 1 else value
