"""Images flattened for a linear layer, and unfolded behind one: the layer's weights take the order of the elements."""

from __future__ import annotations

import numpy as np

from instep.graph import Node, Value, ops
from instep.rewrite.driver import rewrite
from instep.rewrite.edit import Editor
from instep.rewrite.fold.weights import set_constant

__all__ = ["fold_flattened_order"]

_VIEWS = (ops.Reshape, ops.Permute)
#: Beyond so many elements the index map is not written out.
LARGEST = 1 << 22


@rewrite("each output is a sum over the inputs in any order: the weight's columns (or rows) are reordered instead")
def fold_flattened_order(edit: Editor) -> bool:
    changed = False
    for node in edit.nodes(ops.Linear):
        weight = node.inputs[1]
        if edit.array(weight) is None or len(edit.users[weight]) != 1:
            continue
        changed |= _columns(edit, node)
        changed |= _rows(edit, node)
    return changed


def _columns(edit: Editor, node: Node) -> bool:
    """Permute, Reshape, Linear → Reshape, Linear."""
    x = node.inputs[0]
    chain: list[Node] = []
    root = x
    while (view := edit.maker(root, *_VIEWS)) is not None:
        chain.insert(0, view)
        root = view.inputs[0]
    while chain and not isinstance(chain[0].op, ops.Permute):
        root = chain.pop(0).output  # a reshape alone moves nothing
    order = _order_of(chain, root, x.shape)
    if order is None:
        return False
    weight = edit.array(node.inputs[1])
    assert weight is not None
    set_constant(edit, node, 1, weight[:, np.argsort(order)])
    plain = edit.add(ops.Reshape(x.shape), [root], chain[-1])
    edit.update(node, inputs=[plain, *node.inputs[1:]])
    return True


def _rows(edit: Editor, node: Node) -> bool:
    """Linear, Reshape, Permute → Linear, Reshape."""
    if len(node.inputs) > 2 and (edit.array(node.inputs[2]) is None or len(edit.users[node.inputs[2]]) != 1):
        return False
    end = node.output
    while (each := edit.only_user(end)) is not None and each.op.elementwise and len(each.inputs) == 1:
        end = each.output
    first, chain = end, []
    while (view := edit.only_user(end, *_VIEWS)) is not None:
        chain.append(view)
        end = view.output
    while chain and not isinstance(chain[-1].op, ops.Permute):
        chain.pop()
    if not chain:
        return False
    order = _order_of(chain, first, first.shape)
    if order is None:
        return False
    for i, constant in enumerate(node.inputs[1:], 1):
        array = edit.array(constant)
        assert array is not None
        set_constant(edit, node, i, array[order])
    value = node.output
    while value is not first:  # what lies between is in another order now
        value.source = None
        value = edit.users[value][0].output
    first.source = None
    edit.splice(chain[-1], ops.Reshape(chain[-1].output.shape), [first])
    return True


def _order_of(chain: list[Node], root: Value, rows: tuple[int, ...]) -> np.ndarray | None:
    """The order in which the views lay out each row (of the last of ``rows``' axes), where it is the same in all.

    None where elements go from one row to another, or nothing moves.
    """
    if not chain or root.size > LARGEST or root.size % rows[-1]:
        return None
    places = np.arange(root.size, dtype=np.int64).reshape(root.shape)
    for view in chain:
        (places,) = view.op.evaluate(places)
    table = places.reshape(-1, rows[-1])
    table = table - np.arange(len(table))[:, None] * rows[-1]
    order = table[0]
    same = np.array_equal(table, np.broadcast_to(order, table.shape)) and order.min() >= 0 and order.max() < len(order)
    return order if same and not np.array_equal(order, np.arange(len(order))) else None
