"""Recurrent layers as Keras'."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from instep.emit.code.call import Call, Weight
from instep.emit.code.recurrences import Recur, one_bias, single, states, trained
from instep.emit.keras.linear import regularised
from instep.emit.keras.table import writes
from instep.graph.core import Graph, Node, Value

__all__ = ["takes"]

_LAYERS = {"lstm": "layers.LSTM", "gru": "layers.GRU", "tanh": "layers.SimpleRNN", "relu": "layers.SimpleRNN"}
_DEFAULTS = {
    "activation": "tanh", "use_bias": True, "return_sequences": False, "return_state": False, "go_backwards": False,
}  # fmt: skip


def takes(graph: Graph, node: Node) -> bool:
    """Whether Keras trains a layer as the source does: all of it or nothing, and the bias of an LSTM once.

    The two biases of a GRU are one array.
    """
    arrays = node.inputs[-2 - node.op.biases :]
    if node.op.cell != "gru" and node.op.biases:
        arrays = [*arrays[:2], one_bias(graph, arrays[2:]).value]
    once = node.op.cell == "gru" or single(graph, node)
    return once and len({trained(graph, v) for v in arrays}) == 1


@writes(Recur)
def recurrent(node: Node, graph: Graph) -> list[Call]:
    """Keras has the batch first, and states [batch, hidden]."""
    op, x = node.op, node.inputs[0]
    count = states(op)
    begins = node.inputs[1 : 1 + count * op.begins]
    weights, untrained = _weights(node, graph, node.inputs[1 + len(begins) :])
    ends = node.outputs[1:]
    flat = ends[0].rank == 2
    fields: dict[str, Any] = {"units": ends[0].shape[-1]}
    fields |= {"activation": op.cell} if op.cell in ("tanh", "relu") else {}
    fields |= {"use_bias": op.biases > 0, "return_sequences": op.gives[0]}
    fields |= {"return_state": any(op.gives[1:]), "go_backwards": op.reversed}
    fields |= regularised(graph, weights["kernel"])
    fields |= regularised(graph, weights["recurrent_kernel"], "recurrent_regularizer")
    given = [f"{{{n + 1}}}{'' if flat else '[0]'}" for n in range(len(begins))]
    several = f"[{', '.join(given)}]" if len(given) > 1 else "".join(given)
    state = f", initial_state={several}" if given else ""
    code = f"{{layer}}({'{0}' if op.time else 'ops.swapaxes({0}, 0, 1)'}{state})"
    return _calls(node, Call([x, *begins], [], code, fields, _LAYERS[op.cell], 1, weights, defaults=_DEFAULTS,
                             untrained=untrained, closed=True))  # fmt: skip


def _calls(node: Node, call: Call) -> list[Call]:
    """``call`` with its results, and what brings them to how the graph has them."""
    op, (sequence, *ends) = node.op, node.outputs
    flat, behind = ends[0].rank == 2, []
    raw = Value(sequence.name, sequence.shape)
    form = "{0}" if op.time else "ops.swapaxes({0}, 0, 1)"
    form = f"ops.flip({form}, {op.time})" if op.ordered else form
    results: list[Value] = []
    if op.gives[0]:
        results.append(sequence if form == "{0}" else raw)
        behind += [] if form == "{0}" else [Call([raw], [sequence], form)]
    if any(op.gives[1:]):
        # without the sequence the layer gives its last output, which is h
        results += [] if op.gives[0] else [Value(f"{ends[0].name}.last", ends[0].shape)]
        for end, read in zip(ends, op.gives[1:], strict=True):
            state = end if flat or not read else Value(end.name, end.shape[1:])
            results.append(state)
            behind += [] if state is end else [Call([state], [end], "ops.expand_dims({0}, 0)")]
    if op.gives == (False, True, False) or op.gives == (False, True):
        call.fields["return_state"] = False
        results = results[1:2]
    call.outputs = results
    return [call, *behind]


def _weights(node: Node, graph: Graph, arrays: Sequence[Value]) -> tuple[dict[str, Weight], tuple[str, ...]]:
    """A layer's arrays by Keras' names, and those that are not trained. A GRU has the gates z, r, n, and two biases."""
    weight, recurrent, *biases = arrays
    r, z, n = node.op.gates or (0, 0, 0)
    order = None if (z, r, n) == (0, 1, 2) or not node.op.gates else (z, r, n)
    found = {"kernel": Weight(weight, (1, 0), order=order), "recurrent_kernel": Weight(recurrent, (1, 0), order=order)}
    if node.op.cell == "gru" and biases:
        found["bias"] = Weight(biases[0], order=order, beside=biases[1])
    elif biases:
        found["bias"] = one_bias(graph, biases)
    return found, tuple(name for name, w in found.items() if not trained(graph, w.value))
