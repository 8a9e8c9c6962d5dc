"""One step of a recurrent cell among the nodes of a graph: an LSTM's, a GRU's, or a plain one's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from instep.emit.code.recurrences.reader import Reader
from instep.graph import ops
from instep.graph.core import Node, Value
from instep.graph.operator import Operator

__all__ = ["Step", "step_of"]


@dataclass
class Step:
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


def step_of(seen: Reader, node: Node) -> Step | None:
    """The step of a cell whose new state ``node`` makes."""
    match node.op:
        case ops.Mul():
            return _lstm(seen, node)
        case ops.Add():
            return _gru(seen, node)
        case ops.Tanh() | ops.Relu():
            return _plain(seen, node)
    return None


def _lstm(seen: Reader, node: Node) -> Step | None:
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


def _gated(seen: Reader, value: Value, kind: type[Operator]) -> Iterator[tuple[Node, Node, Value]]:
    """A product, the gate (of ``kind``) and what it is multiplied with."""
    for product, gate, other in seen.both(value, ops.Mul):
        made = seen.made(gate, kind)
        if made is not None:
            yield product, made, other


def _gru(seen: Reader, node: Node) -> Step | None:
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


def _two_sums(seen: Reader, r: Node, z: Node, x_new: Value, h_new: Value, inside: list[Node]) -> Step | None:
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
            return Step("gru", x[1], moved, axis, time, recurrent, [state], [], [*all_nodes, product])
    return None


def _plain(seen: Reader, node: Node) -> Step | None:
    """h' = tanh(x + W h), or with a ReLU."""
    cell = "tanh" if isinstance(node.op, ops.Tanh) else "relu"
    step = _sum(seen, node.inputs[0], cell, [node])
    return step and replace(step, after=[node.output])


def _sum(seen: Reader, value: Value, cell: str, inside: list[Node]) -> Step | None:
    """A step whose gates ``value`` are the input's product and that of the state."""
    for total, x, h in seen.both(value, ops.Add):
        nodes = [*inside, total]
        entered, product = _time(seen, x, nodes), seen.made(h, ops.Linear)
        if entered is not None and product is not None:
            state, *recurrent = product.inputs
            return Step(cell, (), *entered, recurrent, [state], [], [*nodes, product])
    return None


def _parts(seen: Reader, values: Sequence[Value], inside: list[Node]) -> tuple[Value, tuple[int, ...]] | None:
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


def _time(seen: Reader, value: Value, inside: list[Node]) -> tuple[Value, int, int] | None:
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
