"""Recurrent layers of one module, in several levels or two directions, are one layer where a framework has that."""

from __future__ import annotations

from instep.emit.code.recurrences.layers import Found, arrays
from instep.emit.code.recurrences.operator import states
from instep.emit.code.recurrences.reader import Reader
from instep.graph import ops
from instep.graph.core import Node, Value

__all__ = ["stacked"]


def stacked(seen: Reader, found: list[Found]) -> list[Found]:
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
    places = {v.name.rpartition(".")[0] for v in arrays(layer.node)}
    return places.pop() if len(places) == 1 else ""


def _stack(seen: Reader, layers: list[Found]) -> Found | None:
    """``layers``, in the order in which they are computed, as one; None where they are more than that."""
    first, count = layers[0].node, len(layers)
    two = 2 if layers[1].node.op.reversed else 1
    if not _alike(layers, two):
        return None
    whole = _levels(seen, layers, two)
    if whole is None:
        return None
    last, inside = whole
    held = [n for layer in layers for n in layer.inside]
    begins, ends = _begins(seen, layers), _ends(seen, layers, held, inside)
    if begins is None or ends is None:
        return None
    reads = (seen.read(last), *(seen.read(v) for v in ends))
    op = first.op.with_(stack=count // two, directions=two, gives=reads, reversed=False, ordered=False)
    weights = [v for layer in layers for v in arrays(layer.node)]
    node = Node(op, [first.inputs[0], *begins, *weights], [last, *ends], first.scope, first.origin)
    return Found(node, inside, layers[0].at)


def _alike(layers: list[Found], two: int) -> bool:
    """Whether all have one form, and every second one reads backwards where there are ``two`` directions."""
    kinds, first = [layer.node.op for layer in layers], layers[0].node
    if len(layers) % two or len({(o.cell, o.time, o.gates, o.biases, o.begins) for o in kinds}) > 1:
        return False
    if first.outputs[1].rank != 3 and first.op.begins:
        return False
    if [o.reversed for o in kinds] != [bool(n % two) for n in range(len(kinds))]:
        return False
    return all(o.ordered for o in kinds if o.reversed) and len({n.node.outputs[1].shape for n in layers}) == 1


def _levels(seen: Reader, layers: list[Found], two: int) -> tuple[Value, list[Node]] | None:
    """What the last level gives, and all nodes, where each level reads what the one below gives and nothing else
    does."""
    x = layers[0].node.inputs[0]
    inside = [n for layer in layers for n in layer.inside]
    for n in range(0, len(layers), two):
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
    return x, inside


def _begins(seen: Reader, layers: list[Found]) -> list[Value] | None:
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


def _ends(seen: Reader, layers: list[Found], held: list[Node], inside: list[Node]) -> list[Value] | None:
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
