"""Batch norms, scales and shifts by constants fold into the layers around them; what stays becomes Mul and Add."""

from __future__ import annotations

import numpy as np

from instep.graph import Node, Value, ops
from instep.rewrite.driver import rewrite
from instep.rewrite.edit import Editor
from instep.rewrite.fold.absorb import absorb
from instep.rewrite.fold.affine import Affine, Plan, read_affine
from instep.rewrite.fold.deliver import deliver
from instep.rewrite.fold.weights import LAYERS, adopt, sole_user

__all__ = ["fold_scales", "spell_scales"]

#: Constants that undo each other, such as 6 and 1/6 in float32, do so up to their rounding.
ROUNDING = 2.0**-23


@rewrite("x · s + t by constants composes with a linear layer into a linear layer; computed in float64")
def fold_scales(edit: Editor) -> bool:
    changed = False
    for node in edit.nodes(ops.BatchNorm, ops.Mul, ops.Add, ops.Sub, ops.Div, ops.Neg, ops.Conv2d):
        if not edit.alive(node):
            continue
        if node.op.fields().get("activation"):
            changed |= _fold_active(edit, node)
        elif not _continues(edit, node):
            changed |= _fold_chain(edit, node)
    return changed


def _fold_active(edit: Editor, node: Node) -> bool:
    """Fold arithmetic with a fused activation into the layer right before it, activation included."""
    activation = node.op.fields()["activation"]
    read = read_affine(edit, node, active=True) if not isinstance(node.op, LAYERS) else None
    layer = edit.maker(read[0], *LAYERS) if read is not None else None
    if read is None or layer is None:
        return False
    plan = absorb(edit, read[0], read[1])
    if plan is None:
        return False
    _run(plan)
    adopt(edit, read[0], node)
    edit.update(layer, layer.op.with_(activation=activation))
    return True


def _continues(edit: Editor, node: Node) -> bool:
    """Whether the next node is a later part of the same chain."""
    if not sole_user(edit, node.output):
        return False
    after = edit.users[node.output][0]
    read = read_affine(edit, after)
    return read is not None and read[0] is node.output


def _chain(edit: Editor, tail: Node) -> list[tuple[Node, Value, Affine]]:
    """The affine nodes that end in ``tail``, first to last: (node, its input, its scale and shift)."""
    chain: list[tuple[Node, Value, Affine]] = []
    node: Node | None = tail
    while node is not None:
        read = read_affine(edit, node)
        if read is None:
            break
        chain.append((node, *read))
        node = edit.maker(read[0]) if sole_user(edit, read[0]) else None
    return chain[::-1]


def _fold_chain(edit: Editor, tail: Node) -> bool:
    chain = _chain(edit, tail)
    return bool(chain) and _fold(edit, chain)


def _fold(edit: Editor, chain: list[tuple[Node, Value, Affine]]) -> bool:
    if _vanish(edit, chain):
        return True
    for count in range(len(chain), 0, -1):
        last = chain[count - 1][0]
        head = chain[0][1]
        plan = absorb(edit, head, _compose(chain[:count]))
        if plan is not None:
            _run(plan)
            for node, _, _ in chain[: count - 1]:
                adopt(edit, head, node)
                head = node.output
            adopt(edit, head, last)
            return True
    if _fold_forward(edit, chain):
        return True
    if len(chain) > 1 and isinstance(chain[0][0].op, LAYERS):  # a depthwise layer of one place takes in what follows
        return _fold(edit, chain[1:])
    return _fold_apart(edit, chain) or _shorten(edit, chain)


def _vanish(edit: Editor, chain: list[tuple[Node, Value, Affine]]) -> bool:
    """Drop a chain that undoes itself."""
    tail, whole = chain[-1][0], _compose(chain)
    if whole.scales or whole.shifts or edit.is_output(tail.output):
        return False
    edit.redirect(tail.output, chain[0][1])
    _erase(edit, chain)
    return True


def _run(plan: Plan) -> None:
    for act in plan:
        act()


def _compose(chain: list[tuple[Node, Value, Affine]]) -> Affine:
    whole = chain[0][2]
    for _, _, affine in chain[1:]:
        whole = whole.then(affine)
    if len(chain) > 1 and np.all(np.abs(whole.scale - 1) <= ROUNDING):
        return Affine(np.ones_like(whole.scale), whole.shift)
    return whole


def _fold_forward(edit: Editor, chain: list[tuple[Node, Value, Affine]]) -> bool:
    """Fold the whole chain, or its scale alone, into the layers that read it."""
    tail, head = chain[-1][0], chain[0][1]
    whole = _compose(chain)
    if edit.is_output(tail.output) or not np.all(np.isfinite(whole.scale)):
        return False
    plan = deliver(edit, tail.output, whole)
    if plan is not None:
        _run(plan)
        source = head.source
        edit.redirect(tail.output, head)
        head.source = source  # the readers changed, the value did not become the tail's
        _erase(edit, chain)
        return True
    if not (whole.scales and whole.shifts) or np.any(np.abs(whole.scale) < 1e-6):
        return False
    plan = deliver(edit, tail.output, Affine(whole.scale, np.zeros_like(whole.shift)))
    if plan is None:
        return False
    _run(plan)
    _rebuild(edit, chain, Affine(np.ones_like(whole.scale), whole.shift / whole.scale))
    tail.output.source = None
    return True


def _fold_apart(edit: Editor, chain: list[tuple[Node, Value, Affine]]) -> bool:
    """Fold the scale backwards and leave the shift, or the shift forwards and leave the scale."""
    tail, head, whole = chain[-1][0], chain[0][1], _compose(chain)
    if not (whole.scales and whole.shifts):
        return False
    one, zero = np.ones_like(whole.scale), np.zeros_like(whole.shift)
    plan = absorb(edit, head, Affine(whole.scale, zero))
    if plan is not None:
        _run(plan)
        _rebuild(edit, chain, Affine(one, whole.shift))
        return True
    plan = deliver(edit, tail.output, Affine(one, whole.shift))
    if plan is None:
        return False
    _run(plan)
    tail.output.source = None
    _rebuild(edit, chain, Affine(whole.scale, zero))
    return True


def _erase(edit: Editor, chain: list[tuple[Node, Value, Affine]]) -> None:
    for node, _, _ in reversed(chain):
        edit.erase(node)


def _rebuild(edit: Editor, chain: list[tuple[Node, Value, Affine]], affine: Affine) -> None:
    """Let the chain's last node compute ``affine`` of the chain's input, through a Mul where both parts act."""
    tail, head = chain[-1][0], chain[0][1]
    dtype = tail.output.dtype
    stem = tail.scope or tail.output.name
    if affine.scales and affine.shifts:
        scale = edit.constant(affine.scale.astype(dtype), f"{stem}.scale")
        head = edit.add(ops.Mul(), [head, scale], tail, f"{tail.output.name}.scaled")
    if affine.shifts or not affine.scales:
        edit.splice(tail, ops.Add(), [head, edit.constant(affine.shift.astype(dtype), f"{stem}.shift")])
    else:
        edit.splice(tail, ops.Mul(), [head, edit.constant(affine.scale.astype(dtype), f"{stem}.scale")])
    _erase(edit, chain[:-1])


def _shorten(edit: Editor, chain: list[tuple[Node, Value, Affine]]) -> bool:
    """Compose the chain's arithmetic where that takes fewer nodes and no larger constants."""
    whole = _compose(chain)
    needed = max(1, whole.scales + whole.shifts)
    if needed >= len(chain) or whole.size > max(affine.size for _, _, affine in chain):
        return False
    _rebuild(edit, chain, whole)
    return True


@rewrite("a batch norm with fixed statistics is x · s + t per channel; computed in float64")
def spell_scales(edit: Editor) -> bool:
    changed = False
    for node in edit.nodes(ops.BatchNorm):
        read = read_affine(edit, node)
        if read is not None:
            _rebuild(edit, [(node, *read)], read[1])
            changed = True
    return changed
