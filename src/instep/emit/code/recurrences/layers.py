"""Steps that follow each other over all times are one layer."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from instep.emit.code.recurrences.operator import Recur, states
from instep.emit.code.recurrences.reader import Reader
from instep.emit.code.recurrences.steps import Step, step_of
from instep.graph import ops
from instep.graph.core import Node, Value

__all__ = ["Found", "alone", "arrays", "chains", "layer_of", "turned"]


@dataclass
class Found:
    """A layer in place of ``inside``, to be computed where ``at`` was."""

    node: Node
    inside: list[Node]
    at: Node


def chains(seen: Reader) -> list[list[Step]]:
    """Steps of which each reads the state that the one before it makes, and nothing of the sequence twice."""
    steps = {s.after[0]: s for node in seen.graph.nodes if (s := step_of(seen, node)) is not None}
    following = {s.before[0]: s for s in steps.values()}
    found = []
    for step in steps.values():
        if (before := steps.get(step.before[0])) is not None and before.key == step.key:
            continue
        chain = [step]
        while (then := following.get(chain[-1].after[0])) is not None and then.key == step.key:
            chain.append(then)
        found.append(chain)
    return found


def layer_of(seen: Reader, chain: list[Step]) -> Found | None:
    """The layer that a chain of steps is, without others."""
    first, last = chain[0], chain[-1]
    length = first.moved.shape[first.axis]
    times = [step.time for step in chain]
    backwards = times == list(range(length))[::-1]
    if length < 2 or not (backwards or times == list(range(length))):
        return None
    if any(list(a.after) != list(b.before) for a, b in pairwise(chain)):
        return None
    entered = _entered(seen, first.moved)
    if entered is None or not all(_shaped(first, v) for v in (*first.before, *last.after)):
        return None
    x, weight, biases, inside = entered
    recurrent, *second = first.recurrent
    biases = [*biases, *second]
    hidden = last.after[0].shape[-1]
    fits = weight.shape == (first.moved.shape[2], x.shape[2]) and recurrent.shape == (weight.shape[0], hidden)
    vectors = [v for v in (weight, recurrent) if v not in seen.graph.weights or v.dtype != "float32"]
    if not fits or vectors or len(biases) > 2 or not all(map(seen.vector, biases)):
        return None
    if first.cell == "gru" and len(biases) == 1:
        return None  # the two are not alike: that of the state is within r · (W h + b)
    inside = [*inside, *(n for step in chain for n in step.inside)]
    outputs, ordered = _sequence(seen, chain, backwards, inside)
    outputs = [*outputs, *last.after]
    held = {id(n) for n in inside}
    if any(seen.beyond(v, held) for node in inside for v in node.outputs if v not in outputs):
        return None
    outside = [seen.beyond(v, held) for v in outputs]
    begins = not all(map(seen.zero, first.before))
    op = Recur(
        first.cell, first.axis, first.gates, len(biases), begins, tuple(outside), reversed=backwards,
        ordered=backwards and ordered,
    )  # fmt: skip
    inputs = [x, *(first.before if begins else ()), weight, recurrent, *biases]
    at = first.inside[0]
    return Found(Node(op, inputs, outputs, at.scope, at.origin), inside, at)


def _entered(seen: Reader, moved: Value) -> tuple[Value, Value, list[Value], list[Node]] | None:
    """The sequence, its weight and the vectors that are added to their product."""
    inside: list[Node] = []
    biases: list[Value] = []
    for total, product, vector in seen.both(moved, ops.Add):
        if seen.vector(vector) and seen.made(product, ops.Linear):
            biases, inside, moved = [vector], [total], product
            break
    linear = seen.made(moved, ops.Linear)
    if linear is None or linear.inputs[0].rank != 3:
        return None
    x, weight, *bias = linear.inputs
    return x, weight, [*bias, *biases], [linear, *inside]


def _shaped(step: Step, state: Value) -> bool:
    """Whether a state is [batch, hidden] or [1, batch, hidden], as all are."""
    batch = step.moved.shape[1 - step.axis]
    return state.shape == step.after[0].shape and state.shape[:-1] in ((batch,), (1, batch)) and state.rank in (2, 3)


def _sequence(seen: Reader, chain: list[Step], backwards: bool, inside: list[Node]) -> tuple[list[Value], bool]:
    """The states of all times as one value, and whether they lie in the order of the times; the nodes that join them
    are put with ``inside``. A value that nothing has where they are not joined."""
    step, after = chain[0], [s.after[0] for s in chain]
    batch, hidden = step.moved.shape[1 - step.axis], after[0].shape[-1]
    alone = [batch, hidden]
    alone.insert(step.axis, 1)
    rows: list[list[tuple[Value, Node | None]]] = []
    for state in after:
        reshaped = [u for u in seen.users[state] if type(u.op) is ops.Reshape]
        views = [(u.output, u) for u in reshaped if u.output.shape == tuple(alone)]
        rows.append([*views, *([(state, None)] if state.shape == tuple(alone) else [])])
    for value, _ in rows[0]:
        for node in seen.users[value]:
            if type(node.op) is not ops.Concat or node.op.axis != step.axis or len(node.inputs) != len(after):
                continue
            for ordered, row in ((True, rows[::-1] if backwards else rows), (False, rows)):
                picked = [next((p for p in r if p[0] is v), None) for r, v in zip(row, node.inputs, strict=True)]
                if any(p is None for p in picked):
                    continue
                inside += [node, *(p[1] for p in picked if p is not None and p[1] is not None)]
                turned = _flipped(seen, node.output, step.axis) if not ordered else None
                inside += [turned] if turned is not None else []
                return [turned.output if turned is not None else node.output], ordered or turned is not None
    shape = [batch, hidden]
    shape.insert(step.axis, len(chain))
    return [Value(f"{after[-1].name}.all", shape)], False


def _flipped(seen: Reader, value: Value, axis: int) -> Node | None:
    """The node that turns ``value`` around, where it alone reads it."""
    users = seen.users[value]
    if value in seen.graph.outputs or len(users) != 1 or type(users[0].op) is not ops.Flip:
        return None
    return users[0] if tuple(users[0].op.axes) == (axis,) else None


def alone(seen: Reader, found: list[Found]) -> list[Found]:
    """Those whose arrays nothing reads but layers with just these arrays."""
    owners: dict[int, tuple[Value, ...]] = {}
    for layer in found:
        owners |= {id(n): arrays(layer.node) for n in layer.inside}

    def good(layer: Found) -> bool:
        mine = arrays(layer.node)
        readers = [u for v in mine for u in seen.users[v]]
        return len(set(mine)) == len(mine) and all(owners.get(id(u)) == mine for u in readers)

    return [layer for layer in found if good(layer)]


def arrays(node: Node) -> tuple[Value, ...]:
    """The weights and biases of a layer."""
    return tuple(node.inputs[1 + states(node.op) * node.op.begins :])


# -- the order of the axes ---------------------------------------------------------------------------------------------
def turned(seen: Reader, layer: Found) -> Found:
    """``layer`` with the batch first where the source turns the sequence before and behind the layer."""
    node, turn = layer.node, (1, 0, 2)
    before = seen.made(node.inputs[0], ops.Permute)
    if node.op.time or before is None or before.op.perm != turn or not seen.only(before.output, layer.inside):
        return layer
    behind: list[Node] = []
    sequence = node.outputs[0]
    if node.op.gives[0]:
        behind = seen.users[sequence]
        if len(behind) != 1 or type(behind[0].op) is not ops.Permute or behind[0].op.perm != turn:
            return layer
        if sequence in seen.graph.outputs:
            return layer
        sequence = behind[0].output
    op = node.op.with_(time=1)
    made = Node(op, [before.inputs[0], *node.inputs[1:]], [sequence, *node.outputs[1:]], node.scope, node.origin)
    return Found(made, [*layer.inside, before, *behind], layer.at)
