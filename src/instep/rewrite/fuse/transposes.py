"""Lets matrix products read and write transposed, so that nobody moves the data for them."""

from __future__ import annotations

from instep.graph import Node, Value, ops
from instep.rewrite.driver import rewrite
from instep.rewrite.edit import Editor
from instep.rewrite.view_algebra import View

__all__ = ["absorb_transposes"]


def _swap(rank: int) -> ops.Permute:
    return ops.Permute((*range(rank - 2), rank - 1, rank - 2))


@rewrite("A·B with B stored transposed is A·(Bᵀ)ᵀ, and (A·Bᵀ)ᵀ = B·Aᵀ: the product's own flags say the same")
def absorb_transposes(edit: Editor) -> bool:
    changed = False
    for node in edit.nodes(ops.MatMul):
        changed |= _turn_output(edit, node)
        changed |= _turn_second(edit, node)
    return changed


def _turn_second(edit: Editor, node: Node) -> bool:
    """Read the second operand the other way round where that moves less, or in longer runs."""
    op, (a, b) = node.op, node.inputs
    assert isinstance(op, ops.MatMul)
    chain = _views_above(edit, b)
    if not chain:
        return False
    root = chain[-1].inputs[0]
    straight, turned = View(root.shape), View(root.shape)
    links = [n.op for n in reversed(chain)]
    if not (all(straight.then(o) for o in links) and all(turned.then(o) for o in (*links, _swap(b.rank)))):
        return False
    if _effort(turned) >= _effort(straight):
        return False
    value: Value = root
    for step in turned.to_ops():
        value = edit.add(step, [value], chain[0])
    edit.update(node, op.with_(transpose_b=not op.transpose_b), [a, value])
    return True


def _views_above(edit: Editor, value: Value) -> list[Node]:
    """The views that make ``value`` for one reader only, nearest first."""
    chain: list[Node] = []
    while (node := edit.maker(value, ops.Permute, ops.Reshape)) is not None and edit.only_user(value) is not None:
        chain.append(node)
        value = node.inputs[0]
    return chain


def _effort(view: View) -> tuple[bool, int]:
    """(moves at all, minus the length of the runs that stay together)."""
    sizes, perm = view.core()
    together = sizes[-1] if perm and perm[-1] == len(perm) - 1 else 1
    return view.moves, -together


def _turn_output(edit: Editor, node: Node) -> bool:
    """A product of a transposed second operand whose result is transposed: swap the operands instead."""
    op, (a, b) = node.op, node.inputs
    assert isinstance(op, ops.MatMul)
    after = edit.only_user(node.output, ops.Permute)
    if after is None or not op.transpose_b or after.op != _swap(node.output.rank) or a.rank != b.rank:
        return False
    edit.splice(after, ops.MatMul(False, not op.transpose_a), [b, a])
    edit.erase(node)
    return True
