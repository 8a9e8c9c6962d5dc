"""Nodes that people write as one expression, as operators of code alone: a place of an axis, parts, a stack, attention.

Recurrent layers (``recurrences/``) are among them. A dialect has those that its table has rules for; where it has
none, the nodes stay as they are.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass

from instep.emit.code.plain_views import without_needless_views
from instep.emit.code.recurrences import Recur, Recurrent, recurrences
from instep.graph import ops
from instep.graph.core import Graph, Node, Value
from instep.graph.operator import Operator
from instep.graph.text.picks import MOST_PARTS, parts, pick, picks

__all__ = ["Attend", "Select", "Split", "Stack", "Unbind", "idiomatic"]


@dataclass(frozen=True)
class Select(Operator):
    """One place of an axis, without the axis: x[:, 3]."""

    axis: int
    index: int


@dataclass(frozen=True)
class Unbind(Operator):
    """All places of an axis, each without the axis."""

    axis: int


@dataclass(frozen=True)
class Split(Operator):
    """A value in parts of these sizes along an axis."""

    axis: int
    sizes: tuple[int, ...]


@dataclass(frozen=True)
class Stack(Operator):
    """Values of one shape along a new axis."""

    axis: int


@dataclass(frozen=True)
class Attend(Operator):
    """softmax(scale · q kᵀ + bias) v over the last two axes; the bias is a fourth input."""

    scale: float


def idiomatic(graph: Graph, known: Container[type[Operator]], recurrent: Recurrent | None = None) -> list[Node]:
    """The nodes of ``graph``, those together that are one of ``known``, in an order in which they can be computed.

    ``recurrent`` says which recurrent layers a framework has.
    """
    users, makers = graph.users(), graph.producers()
    attended = _attended(graph, users, makers) if Attend in known else {}
    inner = {n for nodes, _ in attended.values() for n in nodes}
    layers = recurrences(graph, recurrent) if recurrent is not None and Recur in known else []
    begun = {layer.at: layer.node for layer in layers}
    within = {n for layer in layers for n in layer.inside}
    stacked = {n: s for n in graph.nodes if Stack in known and (s := _stacked(n, makers)) is not None}
    found: list[Node] = []
    nodes, place = graph.nodes, 0
    while place < len(nodes):
        node = nodes[place]
        if node in within:
            found += [begun[node]] if node in begun else []
            place += 1
            continue
        cuts = parts(nodes, place)
        taken = picks(nodes, place, users) if cuts == 1 else 0
        x, outputs = node.inputs[:1], [n.output for n in nodes[place : place + cuts]]
        step = 1
        if 1 < cuts <= MOST_PARTS and Split in known:
            found.append(Node(Split(*_cut(x[0], outputs)), x, outputs, node.scope, node.origin))
            step = cuts
        elif taken > 1 and Unbind in known:
            outputs = [n.output for n in nodes[place + 1 : place + 2 * taken : 2]]
            axis, _ = pick(nodes, place, users) or (0, 0)
            found.append(Node(Unbind(axis), x, outputs, node.scope, node.origin))
            step = 2 * taken
        elif taken and Select in known:
            axis, index = pick(nodes, place, users) or (0, 0)
            found.append(Node(Select(axis, index), x, nodes[place + 1].outputs, node.scope, node.origin))
            step = 2
        elif node in attended:
            found += attended[node][1]
        elif node not in inner:
            found.append(stacked.get(node, node))
        place += step
    return without_needless_views(found, graph)


def _cut(x: Value, outputs: list[Value]) -> tuple[int, tuple[int, ...]]:
    """The axis that ``outputs`` are cut along, and their sizes on it."""
    axis = next(a for a, n in enumerate(x.shape) if outputs[0].shape[a] != n)
    return axis, tuple(v.shape[axis] for v in outputs)


def _stacked(node: Node, makers: Mapping[Value, Node]) -> Node | None:
    """A concatenation of values that got an axis of size 1 for it."""
    if type(node.op) is not ops.Concat or len(node.inputs) < 2:
        return None
    axis, inputs = node.op.axis, []
    for value in node.inputs:
        view = makers.get(value)
        if view is None or type(view.op) is not ops.Reshape or view.inputs[0] not in makers:
            return None
        (x,), shape = view.inputs, value.shape
        if shape != (*x.shape[:axis], 1, *x.shape[axis:]):
            return None
        inputs.append(x)
    return Node(Stack(axis), inputs, node.outputs, node.scope, node.origin)


# -- attention ---------------------------------------------------------------------------------------------------------
def _attended(
    graph: Graph, users: Mapping[Value, list[Node]], makers: Mapping[Value, Node]
) -> dict[Node, tuple[list[Node], list[Node]]]:
    """By the last product of each attention the nodes before it, and those that stand for all."""
    found = {}
    for node in graph.nodes:
        made = _attention(node, graph, users, makers)
        if made is not None:
            found[node] = made
    return found


def _attention(
    node: Node, graph: Graph, users: Mapping[Value, list[Node]], makers: Mapping[Value, Node]
) -> tuple[list[Node], list[Node]] | None:
    """softmax(q kᵀ) v with scales on q, k or their product, and a bias added to it, of which nothing else is read."""
    inside: list[Node] = []

    def step(value: Value, *kinds: type[Operator]) -> Node | None:
        """What makes ``value``, if it is of ``kinds`` and for this alone."""
        made = makers.get(value)
        if made is None or type(made.op) not in kinds or len(users[value]) > 1 or value in graph.outputs:
            return None
        within = made.scope == node.scope or not node.scope or made.scope.startswith(f"{node.scope}.")
        if not within or getattr(made.op, "activation", ""):
            return None
        inside.append(made)
        return made

    def scaled(value: Value) -> tuple[Value, float]:
        """What a number is multiplied with, and the number; ``value`` and 1 where there is none."""
        made = makers.get(value)
        if made is None or type(made.op) not in (ops.Mul, ops.Div):
            return value, 1.0
        number = graph.array(made.inputs[1])
        if "/" not in made.inputs[1].name:
            return value, 1.0  # a parameter, which stays one
        if number is None or number.size != 1 or number.ndim > value.rank or step(value, type(made.op)) is None:
            return value, 1.0
        factor = float(number.item())
        return made.inputs[0], factor if type(made.op) is ops.Mul else 1 / factor if factor else float("nan")

    if type(node.op) is not ops.MatMul or node.op.transpose_a or node.op.transpose_b or node.output.rank < 3:
        return None
    weights, v = node.inputs
    soft = step(weights, ops.Softmax)
    if soft is None or soft.op.axis != weights.rank - 1:
        return None
    scores, bias, outer = soft.inputs[0], [], 1.0
    if (added := makers.get(scores)) is not None and type(added.op) is ops.Add:
        if step(scores, ops.Add) is None:
            return None
        scores, other = added.inputs
        if other.rank > scores.rank or other.shape[-2:] != scores.shape[-2:]:
            return None
        bias = [other]
    scores, outer = scaled(scores)
    product = step(scores, ops.MatMul)
    if product is None or product.op.transpose_a:
        return None
    (q, k), views = product.inputs, []
    if not product.op.transpose_b:
        turned = step(k, ops.Permute)
        if turned is None:
            return None
        k, views = _upright(turned)
    (q, first), (k, second) = scaled(q), scaled(k)
    same = q.rank == k.rank == v.rank and q.shape[:-2] == k.shape[:-2] == v.shape[:-2]
    scale = outer * first * second
    if not same or not 0 < scale < float("inf") or any(x.dtype != "float32" for x in (q, k, v, *bias)):
        return None
    return inside, [*views, Node(Attend(scale), [q, k, v, *bias], node.outputs, node.scope, node.origin)]


def _upright(turned: Node) -> tuple[Value, list[Node]]:
    """The keys that ``turned`` makes kᵀ of, and the permute that is left of it for that."""
    (x,), perm = turned.inputs, turned.op.perm  # type: ignore[attr-defined]
    perm = (*perm[:-2], perm[-1], perm[-2])
    if perm == tuple(range(x.rank)):
        return x, []
    k = Value(f"{turned.output.name}.k", tuple(x.shape[p] for p in perm), x.dtype)
    return k, [Node(ops.Permute(perm), [x], [k], turned.scope, turned.origin)]
