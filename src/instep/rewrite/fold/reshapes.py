"""What acts on each element, between a reshape and its inverse, acts on the first shape."""

from __future__ import annotations

import numpy as np

from instep.graph import Node, Value, ops
from instep.rewrite.driver import rewrite
from instep.rewrite.edit import Editor
from instep.rewrite.fold.affine import Affine, read_affine
from instep.rewrite.fold.weights import shrink

__all__ = ["cross_reshapes"]

#: A constant may grow to this share of the tensor that it acts on.
SHARE = 8


@rewrite(
    "an element meets the same constants in whatever shape it lies: a reshape and its inverse around that are idle"
)
def cross_reshapes(edit: Editor) -> bool:
    """Activations, scales and shifts by constants: batch norms of bands of rows, say, that are channels for a while."""
    changed = False
    for last in edit.nodes(ops.Reshape):
        if not edit.alive(last):
            continue
        found = _between(edit, last)
        if found is None:
            continue
        value, steps = found
        made = [step for node, affine in steps if (step := _moved(node, affine, last.output.shape)) is not None]
        if len(made) < len(steps):
            continue
        for node, affine in made:
            value = _apply(edit, node, value, affine)
        edit.replace(last, value)
        changed = True
    return changed


def _between(edit: Editor, last: Node) -> tuple[Value, list[tuple[Node, Affine | None]]] | None:
    """(the value before the first reshape, the nodes from there to ``last``); None where there is no such chain."""
    steps: list[tuple[Node, Affine | None]] = []
    value = last.inputs[0]
    while True:
        node = edit.maker(value)
        if node is None or edit.is_output(value):
            return None
        if isinstance(node.op, ops.Reshape):
            fits = steps and node.inputs[0].shape == last.output.shape
            return (node.inputs[0], steps[::-1]) if fits else None
        if edit.only_user(value) is None:
            return None
        if len(node.inputs) == 1 and node.op.elementwise and node.inputs[0].spec == node.output.spec:
            steps.append((node, None))
            value = node.inputs[0]
            continue
        read = read_affine(edit, node)
        if read is None or read[0].spec != node.output.spec:
            return None
        steps.append((node, read[1]))
        value = read[0]


def _moved(node: Node, affine: Affine | None, shape: tuple[int, ...]) -> tuple[Node, Affine | None] | None:
    """A step for tensors of ``shape``; None where its constants would grow too large."""
    if affine is None:
        return node, None
    given = (affine.scale, affine.shift)
    arrays = [shrink(np.broadcast_to(a, node.output.shape).reshape(shape)) for a in given]
    if any(a.size > max(b.size, node.output.size // SHARE) for a, b in zip(arrays, given, strict=True)):
        return None
    return node, Affine(*arrays)


def _apply(edit: Editor, node: Node, value: Value, affine: Affine | None) -> Value:
    if affine is None:
        return edit.add(node.op, [value], node)
    for op, array, idle in ((ops.Mul(), affine.scale, 1), (ops.Add(), affine.shift, 0)):
        if np.any(array != idle):
            name = f"{node.output.name}.{op.name.lower()}"
            value = edit.add(op, [value, edit.constant(array.astype(value.dtype), name)], node)
    return value
