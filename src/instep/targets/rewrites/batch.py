"""Values of few axes as images of one row: dimension 0 is then the batch, as GPUs read it."""

from __future__ import annotations

from collections.abc import Sequence

from instep.graph import Node, Operator, Value, ops
from instep.rewrite.edit import Editor
from instep.rewrite.lower.table import Build
from instep.targets.rewrites.table import Target, clearing

__all__: list[str] = []


@clearing("axes of size 1 in front of a value change no element, and every operator counts its axes past them")
def keep_batch(b: Build, target: Target) -> bool:
    """All at once: every value between the ends that can be of rank 4 becomes it, and reshapes stand only at ends."""
    edit = b.edit
    nodes = [n for n in edit.nodes() if all(v.rank < 4 for v in n.outputs) and _lifted(n) is not None]
    if not nodes:
        return False
    tall: dict[Value, Value] = {}
    for node in nodes:
        if not edit.alive(node):
            continue
        op = _lifted(node)
        assert op is not None
        inputs = [_tall(edit, node, v, tall) if _data(node, i) else v for i, v in enumerate(node.inputs)]
        made = edit.add(op, inputs, node)
        old = node.output
        if old.source is not None:
            made.source = old.source.reshaped(made.shape)
        tall[old] = made
        edit.splice(node, ops.Reshape(old.shape), [made])
    return True


@clearing("axes of size 1 in front of the operands change no element")
def rank_4(b: Build, target: Target) -> bool:
    """The node alone on four axes, between two reshapes; of a result of four axes the operands that have fewer."""
    if b.node.output.rank == 4 and isinstance(b.node.op, (*ops.BINARY, ops.Where)):
        operands = [_tall(b.edit, b.node, v, {}) for v in b.node.inputs]
        return operands != b.node.inputs and b.done(b.node.op, *operands)
    op = _lifted(b.node) if b.node.output.rank < 4 else None
    if op is None:
        return False
    tall: dict[Value, Value] = {}
    given = list(b.node.inputs)
    inputs = [_tall(b.edit, b.node, v, tall) if _data(b.node, i) else v for i, v in enumerate(given)]
    return b.done(ops.Reshape(b.node.output.shape), b.add(op, *inputs))


def _data(node: Node, index: int) -> bool:
    """Whether an input has the axes of the result (a weight or an index has its own)."""
    if isinstance(node.op, ops.Linear | ops.Gather):
        return index == 0
    return True


def _tall(edit: Editor, node: Node, value: Value, tall: dict[Value, Value]) -> Value:
    if value.rank >= 4 or (value.size == 1 and edit.array(value) is not None):
        return value
    if value in tall:
        return tall[value]
    shape = (1,) * (4 - value.rank) + value.shape
    array = edit.array(value)
    if array is not None:
        return edit.constant(array.reshape(shape), value.name)
    made = edit.add(ops.Reshape(shape), [value], node)
    if value.source is not None:
        made.source = value.source.reshaped(shape)
    tall[value] = made
    return made


def _lifted(node: Node) -> Operator | None:
    """The node's operator on four axes; None where it cannot be or is a view already."""
    op, rank = node.op, node.inputs[0].rank if node.inputs else 0
    more = 4 - rank

    def axes(given: Sequence[int]) -> tuple[int, ...]:
        return tuple(a % rank + more for a in given)

    if isinstance(op, (*ops.BINARY, ops.Where)):
        return op
    if isinstance(op, ops.Reshape) or rank == 0 or rank > 4 or not node.inputs:
        return None
    if isinstance(op, ops.MatMul):
        fits = all(v.rank in (2, 3) for v in node.inputs) and node.inputs[0].shape[:-2] == node.inputs[1].shape[:-2]
        return op if fits else None
    if isinstance(op, ops.Linear) or op.elementwise:
        return op
    if isinstance(op, ops.REDUCTIONS):
        return op.with_(axes=axes(op.axes)) if op.keepdims else None
    if isinstance(op, ops.Softmax | ops.CumSum | ops.Concat):
        return op.with_(axis=op.axis % rank + more)
    if isinstance(op, ops.Gather):
        return op.with_(axis=op.axis % rank + more) if node.inputs[1].rank == 1 else None
    if isinstance(op, ops.Permute):
        return ops.Permute((*range(more), *(p + more for p in op.perm)))
    if isinstance(op, ops.Slice):
        return ops.Slice((0,) * more + op.starts, (1,) * more + op.stops, (1,) * more + op.steps)
    if isinstance(op, ops.Pad):
        return op.with_(pads=((0, 0),) * more + op.pads)
    return None
