"""Moves a graph to one layout: every spatial operator reads it (NHWC, NCHW), and as few bytes as possible are moved.

Every computed value may be stored as it is or in one alternative axis order (``orders.py``). Which of the two each
takes is settled exactly (``cut.py``, ``mincut.py``); then the graph is written down so (``write.py``). How each
operator's fields follow a permutation is a table (``rules.py``).
"""

from __future__ import annotations

from instep.graph import ops
from instep.rewrite.driver import Rewrite
from instep.rewrite.edit import Editor
from instep.rewrite.layout.cut import Chosen
from instep.rewrite.layout.orders import Orders
from instep.rewrite.layout.write import Writer

__all__ = ["assign_layout"]


def assign_layout(io: str = "nhwc", layout: str = "NHWC") -> Rewrite:
    """The rewrite that has every spatial operator read ``layout``; ``io``: how 4-D inputs and outputs lie afterwards.

    Where ``io`` is ``layout`` in small letters, those whose channels lie elsewhere are turned to it; else they keep the
    source's order.
    """

    def run(edit: Editor) -> bool:
        leveled = _level_ranks(edit)
        orders = Orders(edit, io == layout.lower(), layout)
        if not orders.alternative:
            return leveled
        Writer(orders, Chosen(orders)).write()
        return True

    return Rewrite("assign-layout", "a transposed value holds the same numbers; every axis field moves with it", run)


def _level_ranks(edit: Editor) -> bool:
    """Elementwise operators get inputs of one rank."""
    changed = False
    for node in edit.nodes():
        if not node.op.elementwise:
            continue
        rank = node.output.rank
        inputs = [
            edit.add(ops.Reshape((1,) * (rank - v.rank) + v.shape), [v], node)
            if v.rank < rank and v not in edit.graph.weights and v.size > 1
            else v
            for v in node.inputs
        ]
        if inputs != node.inputs:
            edit.update(node, inputs=inputs)
            changed = True
    if changed:
        edit.graph.sort()
    return changed
