"""Recurrent layers as PyTorch's."""

from __future__ import annotations

from collections.abc import Sequence

from instep.emit.code.call import Call, Weight
from instep.emit.code.recurrences import Recur, states, trained
from instep.emit.torch.table import rule
from instep.graph.core import Graph, Node, Value

__all__: list[str] = []

_LAYERS = {"lstm": "nn.LSTM", "gru": "nn.GRU", "tanh": "nn.RNN", "relu": "nn.RNN"}
_DEFAULTS = {
    "num_layers": 1, "nonlinearity": "tanh", "bias": True, "batch_first": False, "bidirectional": False,
}  # fmt: skip


@rule(Recur)
def recurrent(node: Node, graph: Graph) -> list[Call]:
    """PyTorch has an axis for the layers in every state, and none that only reads backwards."""
    op, x = node.op, node.inputs[0]
    begins = node.inputs[1 : 1 + states(op) * op.begins]
    sequence, *ends = node.outputs
    weights, untrained = _weights(node, graph, node.inputs[1 + len(begins) :])
    hidden, features = node.inputs[-1 - op.biases].shape[-1], x.shape[2]
    fields = {"input_size": features, "hidden_size": hidden, "num_layers": op.stack}
    fields |= {"nonlinearity": op.cell} if op.cell in ("tanh", "relu") else {}
    fields |= {"bias": op.biases > 0, "batch_first": op.time == 1, "bidirectional": op.directions == 2}
    flat = ends[0].rank == 2
    given = [f"{{{n + 1}}}{'[None]' if flat else ''}" for n in range(len(begins))]
    state = f", ({', '.join(given)})" if len(given) > 1 else "".join(f", {g}" for g in given)
    turned = f".flip({op.time})" if op.reversed else ""
    code, gives = f"{{layer}}({{0}}{turned}{state})", ""
    behind: list[Call] = []
    outputs = [sequence, *ends]
    if op.ordered and op.gives[0]:
        outputs[0] = Value(f"{sequence.name}.backwards", sequence.shape)
        behind.append(Call([outputs[0]], [sequence], f"{{0}}{turned}"))
    if not any(op.gives[1:]):
        code, outputs = f"{code}[0]", outputs[:1]
    else:
        gives = "{0}, ({1}, {2})" if states(op) == 2 else "{0}, {1}"
        for n, end in enumerate(ends if flat else ()):
            if op.gives[1 + n]:
                outputs[1 + n] = Value(end.name, (1, *end.shape))
                behind.append(Call([outputs[1 + n]], [end], "{0}[0]"))
    call = Call([x, *begins], outputs, code, fields, _LAYERS[op.cell], 2, weights, defaults=_DEFAULTS)
    call.untrained, call.gives, call.closed = untrained, gives, True
    return [call, *behind]


def _weights(node: Node, graph: Graph, arrays: Sequence[Value]) -> tuple[dict[str, Weight], tuple[str, ...]]:
    """A layer's arrays by PyTorch's names, and those that are not trained.

    PyTorch has two biases, each of which is trained. Where the source has one, the other stays zero.
    """
    op, weights, untrained = node.op, {}, []
    each = 2 + op.biases
    order = None if op.gates in ((), (0, 1, 2)) else op.gates
    for n in range(op.stack * op.directions):
        level, back = divmod(n, op.directions)
        end = f"_l{level}{'_reverse' if back else ''}"
        mine = list(arrays[n * each : (n + 1) * each])
        if op.biases == 1:
            mine.append(Value(f"{mine[2].name}/none", mine[2].shape))
        for name, value in zip(("weight_ih", "weight_hh", "bias_ih", "bias_hh"), mine, strict=False):
            weights[f"{name}{end}"] = Weight(value, order=order)
            if value not in graph.weights or not trained(graph, value):
                untrained.append(f"{name}{end}")
    return weights, tuple(untrained)
