"""Recurrent layers among the nodes of a graph: steps of one cell, each fed by the one before, over all times.

They are found by what their nodes compute, whatever they are called. What a layer of a framework does not do (a state
that is read between two steps, a projection, weights that something else reads) leaves the steps as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from instep.emit.code.call import Weight
from instep.graph import ops
from instep.graph.core import Graph, Node, Value
from instep.graph.operator import Operator

__all__ = ["Found", "Recur", "Recurrent", "one_bias", "recurrences", "single", "states", "trained"]


@dataclass(frozen=True)
class Recur(Operator):
    """A recurrent layer over [batch, time, features], or [time, batch, features] where ``time`` is 0.

    Inputs: the sequence, the states that it begins with where ``begins`` (h, and c of an LSTM), then for each layer and
    direction the input weight [gates·hidden, features], the recurrent weight and ``biases`` biases, the one of the
    inputs first. Outputs: the sequence, h, and c of an LSTM; ``gives`` says which of them something reads.

    ``cell`` is "lstm" (gates i, f, g, o), "gru" (r, z, n; ``gates`` says where each lies in the arrays), "tanh" or
    "relu". A layer that is ``reversed`` reads its times from the last to the first, and gives what it makes of them in
    that order, unless it is ``ordered``. A ``stack`` of n layers in two ``directions`` has states [n·2, batch, hidden];
    that of one layer has them as the graph has: with an axis of size 1 in front, or without.
    """

    cell: str
    time: int
    gates: tuple[int, ...] = ()
    biases: int = 0
    begins: bool = False
    gives: tuple[bool, ...] = ()
    reversed: bool = False
    ordered: bool = False
    stack: int = 1
    directions: int = 1


@dataclass(frozen=True)
class Recurrent:
    """Which recurrent layers a framework has: those of one layer that it ``takes``, and whether it ``stacks`` those of
    one module."""

    takes: Callable[[Graph, Node], bool]
    stacks: bool = False


@dataclass
class Found:
    """A layer in place of ``inside``, to be computed where ``at`` was."""

    node: Node
    inside: list[Node]
    at: Node


@dataclass
class _Step:
    """One step of a cell: what it reads, what it makes, and its nodes."""

    cell: str
    gates: tuple[int, ...]
    moved: Value
    axis: int
    time: int
    recurrent: list[Value]
    before: list[Value]
    after: list[Value]
    inside: list[Node]

    @property
    def key(self) -> tuple[object, ...]:
        return (self.cell, self.gates, self.moved, self.axis, *self.recurrent)


def trained(graph: Graph, value: Value) -> bool:
    """Whether a constant is a parameter that the source trains."""
    return "/" not in value.name and value.name not in graph.meta.get("buffers", ())


def states(op: Operator) -> int:
    """How many states the cell of a ``Recur`` has."""
    return 2 if op.cell == "lstm" else 1


def one_bias(graph: Graph, biases: Sequence[Value]) -> Weight:
    """The sum of one bias or two as one array. It is trained as the source's where at most one of them is."""
    first, *rest = sorted(biases, key=lambda v: not trained(graph, v))
    return Weight(first, plus=rest[0] if rest else None)


def single(graph: Graph, node: Node) -> bool:
    """Whether a layer with one bias for each gate is trained as the ``Recur`` of ``node`` is.

    The sum of two biases that are trained takes twice the step that one takes.
    """
    biases = node.inputs[len(node.inputs) - node.op.biases :]
    return sum(trained(graph, v) for v in biases) < 2


def recurrences(graph: Graph, kinds: Recurrent) -> list[Found]:
    """The recurrent layers of ``graph`` that a framework with ``kinds`` has."""
    seen = _Reader(graph)
    found = [layer for chain in _chains(seen) if (layer := _layer(seen, chain)) is not None]
    found = [layer for layer in _alone(seen, found) if kinds.takes(graph, layer.node)]
    if kinds.stacks:
        found = _stacked(seen, found)
    return [_turned(seen, layer) for layer in found]


class _Reader:
    """A graph, with what makes each value and what reads it."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.users, self.makers = graph.users(), graph.producers()
        self.place = {node: n for n, node in enumerate(graph.nodes)}

    def made(self, value: Value, *kinds: type[Operator]) -> Node | None:
        """What makes ``value``, if it is of ``kinds`` and has no activation of its own."""
        node = self.makers.get(value)
        return node if node and type(node.op) in kinds and not getattr(node.op, "activation", "") else None

    def both(self, value: Value, kind: type[Operator]) -> Iterator[tuple[Node, Value, Value]]:
        """A node with two inputs, and those in either order."""
        node = self.made(value, kind)
        if node is not None:
            a, b = node.inputs
            yield node, a, b
            yield node, b, a

    def only(self, value: Value, readers: Sequence[Node]) -> bool:
        """Whether nothing but ``readers`` reads ``value``."""
        return value not in self.graph.outputs and all(any(u is r for r in readers) for u in self.users[value])

    def beyond(self, value: Value, held: Container[int]) -> bool:
        """Whether more reads ``value`` than nodes with the ids ``held``."""
        return value in self.graph.outputs or any(id(u) not in held for u in self.users.get(value, ()))

    def read(self, value: Value) -> bool:
        return value in self.graph.outputs or bool(self.users.get(value))

    def vector(self, value: Value) -> bool:
        return value in self.graph.weights and value.rank == 1 and value.dtype == "float32"

    def zero(self, value: Value) -> bool:
        """Whether ``value`` is nothing but zeros, and no parameter."""
        while (node := self.made(value, ops.Slice, ops.Reshape, ops.Expand)) is not None:
            value = node.inputs[0]
        array = self.graph.weights.get(value)
        return array is not None and "/" in value.name and not np.any(array)


# -- one step ----------------------------------------------------------------------------------------------------------
def _step(seen: _Reader, node: Node) -> _Step | None:
    """The step of a cell whose new state ``node`` makes."""
    match node.op:
        case ops.Mul():
            return _lstm(seen, node)
        case ops.Add():
            return _gru(seen, node)
        case ops.Tanh() | ops.Relu():
            return _plain(seen, node)
    return None


def _lstm(seen: _Reader, node: Node) -> _Step | None:
    """h' = σ(o) · tanh(c'), c' = σ(f) · c + σ(i) · tanh(g)."""
    for _, gate, cell in seen.both(node.output, ops.Mul):
        o, squashed = seen.made(gate, ops.Sigmoid), seen.made(cell, ops.Tanh)
        if o is None or squashed is None:
            continue
        for total, kept, new in seen.both(squashed.inputs[0], ops.Add):
            for keeping, f, c in _gated(seen, kept, ops.Sigmoid):
                for making, i, squeezed in _gated(seen, new, ops.Sigmoid):
                    g = seen.made(squeezed, ops.Tanh)
                    if g is None:
                        continue
                    inside = [node, o, squashed, total, keeping, f, making, i, g]
                    parts = _parts(seen, [n.inputs[0] for n in (i, f, g, o)], inside)
                    if parts is None or parts[1] != (0, 1, 2, 3):
                        continue
                    step = _sum(seen, parts[0], "lstm", inside)
                    if step is not None:
                        return replace(step, before=[*step.before, c], after=[node.output, total.output])
    return None


def _gated(seen: _Reader, value: Value, kind: type[Operator]) -> Iterator[tuple[Node, Node, Value]]:
    """A product, the gate (of ``kind``) and what it is multiplied with."""
    for product, gate, other in seen.both(value, ops.Mul):
        made = seen.made(gate, kind)
        if made is not None:
            yield product, made, other


def _gru(seen: _Reader, node: Node) -> _Step | None:
    """h' = n + σ(z) · (h - n), n = tanh(xₙ + σ(r) · hₙ)."""
    for _, new, moved in seen.both(node.output, ops.Add):
        n = seen.made(new, ops.Tanh)
        for product, z, rest in _gated(seen, moved, ops.Sigmoid):
            minus = seen.made(rest, ops.Sub)
            if n is None or minus is None or minus.inputs[1] is not new:
                continue
            for total, x_new, reset in seen.both(n.inputs[0], ops.Add):
                for resetting, r, h_new in _gated(seen, reset, ops.Sigmoid):
                    inside = [node, n, product, z, minus, total, resetting, r]
                    step = _two_sums(seen, r, z, x_new, h_new, inside)
                    if step is not None and step.before == [minus.inputs[0]]:
                        return replace(step, after=[node.output])
    return None


def _two_sums(seen: _Reader, r: Node, z: Node, x_new: Value, h_new: Value, inside: list[Node]) -> _Step | None:
    """A step whose gates r and z are sums of parts of the input's and the state's products."""
    for first, x_r, h_r in seen.both(r.inputs[0], ops.Add):
        for second, x_z, h_z in seen.both(z.inputs[0], ops.Add):
            all_nodes = [*inside, first, second]
            x = _parts(seen, [x_r, x_z, x_new], all_nodes)
            h = _parts(seen, [h_r, h_z, h_new], all_nodes)
            if x is None or h is None or x[1] != h[1]:
                continue
            entered, product = _time(seen, x[0], all_nodes), seen.made(h[0], ops.Linear)
            if entered is None or product is None:
                continue
            state, *recurrent = product.inputs
            moved, axis, time = entered
            return _Step("gru", x[1], moved, axis, time, recurrent, [state], [], [*all_nodes, product])
    return None


def _plain(seen: _Reader, node: Node) -> _Step | None:
    """h' = tanh(x + W h), or with a ReLU."""
    cell = "tanh" if isinstance(node.op, ops.Tanh) else "relu"
    step = _sum(seen, node.inputs[0], cell, [node])
    return step and replace(step, after=[node.output])


def _sum(seen: _Reader, value: Value, cell: str, inside: list[Node]) -> _Step | None:
    """A step whose gates ``value`` are the input's product and that of the state."""
    for total, x, h in seen.both(value, ops.Add):
        nodes = [*inside, total]
        entered, product = _time(seen, x, nodes), seen.made(h, ops.Linear)
        if entered is not None and product is not None:
            state, *recurrent = product.inputs
            return _Step(cell, (), *entered, recurrent, [state], [], [*nodes, product])
    return None


def _parts(seen: _Reader, values: Sequence[Value], inside: list[Node]) -> tuple[Value, tuple[int, ...]] | None:
    """What ``values`` are equal parts of along its last axis, and which part each is."""
    cuts = [seen.made(v, ops.Slice) for v in values]
    whole = cuts[0].inputs[0] if cuts[0] is not None else values[0]
    size, places = values[0].shape[-1] if values[0].rank else 0, []
    for cut in cuts:
        if cut is None or cut.inputs[0] is not whole or not size or whole.shape[-1] != size * len(values):
            return None
        start, rank = cut.op.starts[-1], whole.rank
        expected = ((*[0] * (rank - 1), start), (*whole.shape[:-1], start + size), (1,) * rank)
        if (tuple(cut.op.starts), tuple(cut.op.stops), tuple(cut.op.steps)) != expected or start % size:
            return None
        places.append(start // size)
    if sorted(places) != list(range(len(values))):
        return None
    inside += [cut for cut in cuts if cut is not None]
    return whole, tuple(places)


def _time(seen: _Reader, value: Value, inside: list[Node]) -> tuple[Value, int, int] | None:
    """The sequence that ``value`` is one time of, the axis of time and the time."""
    view = seen.made(value, ops.Reshape)
    cut = seen.made(view.inputs[0] if view is not None else value, ops.Slice)
    if cut is None or cut.inputs[0].rank != 3:
        return None
    whole, op = cut.inputs[0], cut.op
    axes = [a for a, n in enumerate(whole.shape) if (op.starts[a], op.stops[a], op.steps[a]) != (0, n, 1)]
    if len(axes) != 1 or axes[0] == 2 or op.stops[axes[0]] != op.starts[axes[0]] + 1:
        return None
    (axis,), batch = axes, whole.shape[1 - axes[0]]
    if value.shape not in ((batch, whole.shape[2]), (1, batch, whole.shape[2])):
        return None
    inside += [cut] if view is None else [cut, view]
    return whole, axis, op.starts[axis]


# -- one layer ---------------------------------------------------------------------------------------------------------
def _chains(seen: _Reader) -> list[list[_Step]]:
    """Steps of which each reads the state that the one before it makes, and nothing of the sequence twice."""
    steps = {s.after[0]: s for node in seen.graph.nodes if (s := _step(seen, node)) is not None}
    following = {s.before[0]: s for s in steps.values()}
    chains = []
    for step in steps.values():
        if (before := steps.get(step.before[0])) is not None and before.key == step.key:
            continue
        chain = [step]
        while (then := following.get(chain[-1].after[0])) is not None and then.key == step.key:
            chain.append(then)
        chains.append(chain)
    return chains


def _layer(seen: _Reader, chain: list[_Step]) -> Found | None:
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


def _entered(seen: _Reader, moved: Value) -> tuple[Value, Value, list[Value], list[Node]] | None:
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


def _shaped(step: _Step, state: Value) -> bool:
    """Whether a state is [batch, hidden] or [1, batch, hidden], as all are."""
    batch = step.moved.shape[1 - step.axis]
    return state.shape == step.after[0].shape and state.shape[:-1] in ((batch,), (1, batch)) and state.rank in (2, 3)


def _sequence(seen: _Reader, chain: list[_Step], backwards: bool, inside: list[Node]) -> tuple[list[Value], bool]:
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


def _flipped(seen: _Reader, value: Value, axis: int) -> Node | None:
    """The node that turns ``value`` around, where it alone reads it."""
    users = seen.users[value]
    if value in seen.graph.outputs or len(users) != 1 or type(users[0].op) is not ops.Flip:
        return None
    return users[0] if tuple(users[0].op.axes) == (axis,) else None


def _alone(seen: _Reader, found: list[Found]) -> list[Found]:
    """Those whose arrays nothing reads but layers with just these arrays."""
    owners: dict[int, tuple[Value, ...]] = {}
    for layer in found:
        owners |= {id(n): _arrays(layer.node) for n in layer.inside}

    def good(layer: Found) -> bool:
        arrays = _arrays(layer.node)
        readers = [u for v in arrays for u in seen.users[v]]
        return len(set(arrays)) == len(arrays) and all(owners.get(id(u)) == arrays for u in readers)

    return [layer for layer in found if good(layer)]


def _arrays(node: Node) -> tuple[Value, ...]:
    return tuple(node.inputs[1 + states(node.op) * node.op.begins :])


# -- several layers of one module --------------------------------------------------------------------------------------
def _stacked(seen: _Reader, found: list[Found]) -> list[Found]:
    """``found``, with those of one module in place of its parts."""
    modules: dict[str, list[Found]] = {}
    for layer in found:
        modules.setdefault(_module(layer), []).append(layer)
    made: list[Found] = []
    for module, layers in modules.items():
        whole = _stack(seen, layers) if module and len(layers) > 1 else None
        made += [whole] if whole is not None else layers
    return made


def _module(layer: Found) -> str:
    """The place that the names of a layer's arrays say it has."""
    places = {v.name.rpartition(".")[0] for v in _arrays(layer.node)}
    return places.pop() if len(places) == 1 else ""


def _stack(seen: _Reader, layers: list[Found]) -> Found | None:
    """``layers``, in the order in which they are computed, as one; None where they are more than that."""
    kinds = [layer.node.op for layer in layers]
    two = 2 if kinds[1].reversed else 1
    first, count = layers[0].node, len(layers)
    alike = {(o.cell, o.time, o.gates, o.biases, o.begins) for o in kinds}
    if count % two or len(alike) > 1 or (first.outputs[1].rank != 3 and first.op.begins):
        return None
    if [o.reversed for o in kinds] != [bool(n % two) for n in range(count)]:
        return None
    if any(o.reversed and not o.ordered for o in kinds) or len({n.node.outputs[1].shape for n in layers}) > 1:
        return None
    held = [n for layer in layers for n in layer.inside]
    x, inside = first.inputs[0], list(held)
    for n in range(0, count, two):
        sides = [layer.node for layer in layers[n : n + two]]
        if any(side.inputs[0] is not x for side in sides):
            return None
        following = layers[n + two : n + 2 * two]
        x = sides[0].outputs[0]
        if two == 2:
            joined = [u for u in seen.users.get(x, ()) if type(u.op) is ops.Concat]
            if len(joined) != 1 or joined[0].inputs != [s.outputs[0] for s in sides] or joined[0].op.axis != 2:
                return None
            if not all(seen.only(s.outputs[0], joined) for s in sides):
                return None
            inside, x = [*inside, joined[0]], joined[0].output
        if following and not seen.only(x, [u for layer in following for u in layer.inside]):
            return None
    begins = _begins(seen, layers)
    ends = _ends(seen, layers, held, inside)
    if begins is None or ends is None:
        return None
    reads = (seen.read(x), *(seen.read(v) for v in ends))
    op = first.op.with_( stack=count // two, directions=two, gives=reads, reversed=False, ordered=False
    )  # fmt: skip
    arrays = [v for layer in layers for v in _arrays(layer.node)]
    node = Node(op, [first.inputs[0], *begins, *arrays], [x, *ends], first.scope, first.origin)
    return Found(node, inside, layers[0].at)


def _begins(seen: _Reader, layers: list[Found]) -> list[Value] | None:
    """The states [layers · directions, batch, hidden] that all begin with."""
    op, wholes = layers[0].node.op, []
    for state in range(states(op) * op.begins):
        cuts = [seen.made(layer.node.inputs[1 + state], ops.Slice) for layer in layers]
        whole = cuts[0].inputs[0] if cuts[0] is not None else None
        for n, cut in enumerate(cuts):
            if cut is None or whole is None or cut.inputs[0] is not whole or whole.rank != 3:
                return None
            expected = ((n, 0, 0), (n + 1, *whole.shape[1:]), (1, 1, 1))
            fields = (tuple(cut.op.starts), tuple(cut.op.stops), tuple(cut.op.steps))
            if fields != expected or whole.shape[0] != len(layers):
                return None
        assert whole is not None
        wholes.append(whole)
    return wholes


def _ends(seen: _Reader, layers: list[Found], held: list[Node], inside: list[Node]) -> list[Value] | None:
    """The states that all end with, joined; the nodes that join them are put with ``inside``."""
    ends = []
    for state in range(states(layers[0].node.op)):
        values = [layer.node.outputs[1 + state] for layer in layers]
        joined = [u for u in seen.users[values[0]] if type(u.op) is ops.Concat and u.inputs == values and not u.op.axis]
        if not all(seen.only(v, [*held, *joined]) for v in values) or len(joined) > 1:
            return None
        inside += joined
        shape = (len(layers), *values[0].shape[-2:])
        ends.append(joined[0].output if joined else Value(f"{values[-1].name}.all", shape))
    return ends


# -- the order of the axes ---------------------------------------------------------------------------------------------
def _turned(seen: _Reader, layer: Found) -> Found:
    """With the batch first where the source turns the sequence before and behind the layer."""
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
