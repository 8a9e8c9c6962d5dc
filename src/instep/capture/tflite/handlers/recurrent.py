"""Handlers of fused recurrent layers, unrolled over their fixed length. A state tensor holds what a run starts from:
zeros in a fresh interpreter, or what an operator or an input of the network gives."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from instep.capture.tflite.builder import Builder
from instep.capture.tflite.registry import Unsupported, reads
from instep.graph import Value, ops

__all__: list[str] = []

#: Steps that a sequence may have.
_MAX_STEPS = 4096
#: What a sequence step is given, already multiplied by the input weights, and the state → the new state.
Step = Callable[[Value, list[Value]], list[Value]]


def _linear(b: Builder, x: Value, weight: Value, bias: Value | None = None) -> Value:
    return b(ops.Linear(), x, weight, *([] if bias is None else [bias]))


def _joined(b: Builder, parts: Sequence[Value | None], hint: str) -> Value | None:
    """The gates' weights or biases as one, gate after gate; None where all are left out."""
    found = [p for p in parts if p is not None]
    if not found:
        return None
    if len(found) != len(parts):
        raise Unsupported(f"some of its gates' {hint} are left out")
    joined = b.concat(found, 0)
    joined.name = b.unique(f"{b.stem}.{hint}")
    return joined


def _unrolled(b: Builder, x: Value, state: list[Value], step: Step, time: int) -> Value:
    """``step`` along the axis ``time`` of ``x`` (0 or 1): what comes out of it, its first state, at every step."""
    length = x.shape[time]
    if x.rank != 3 or length > _MAX_STEPS:
        raise Unsupported(f"unrolling {list(x.shape)} would take more than {_MAX_STEPS} steps")
    batch, features = x.shape[1 - time], x.shape[2]
    outputs: list[Value] = []
    for t in range(length):
        state = step(b.reshape(b.slice(x, time, t, t + 1), (batch, features)), state)
        size = state[0].shape[1]
        outputs.append(b.reshape(state[0], (1, batch, size) if time == 0 else (batch, 1, size)))
    return b.concat(outputs, time)


class _Lstm:
    """One direction of lstm_eval.cc: i, f, o = σ(·); c' = clip(f·c + i·act(g)); h' = clip(P (o·act(c')) + p).

    ``weights`` are the operator's tensors in its order: four input weights (i, f, g, o), four recurrent ones, three
    peepholes (i, f, o), four biases, projection and its bias. Without weights of i, it is 1 - f (coupled gates);
    a peephole adds w·c to its gate, o's the new c. ``norms`` are the coefficients of normalised gates.
    """

    def __init__(self, b: Builder, weights: Sequence[Value | None], norms: Sequence[Value | None] = ()) -> None:
        self.b = b
        self.coupled = weights[0] is None
        gates = slice(1 if self.coupled else 0, 4)
        enter, recurrent = _joined(b, weights[0:4][gates], "weight_ih"), _joined(b, weights[4:8][gates], "weight_hh")
        if enter is None or recurrent is None:
            raise Unsupported("its weights are left out")
        self.enter, self.recurrent = enter, recurrent
        self.peepholes = list(weights[8:11])
        self.norms = list(norms) if any(n is not None for n in norms) else []
        biases = weights[11:15]
        # a normalised gate gets its bias behind the norm, another one with the product
        self.bias = None if self.norms else _joined(b, biases[gates], "bias")
        self.late = list(biases) if self.norms else []
        self.projection, self.projection_bias = weights[15], weights[16]

    def run(self, x: Value, h: Value, c: Value, time: int) -> Value:
        moved = _linear(self.b, x, self.enter, self.bias)
        return _unrolled(self.b, moved, [h, c], self.step, time)

    def step(self, x: Value, state: list[Value]) -> list[Value]:
        b, (h, c) = self.b, state
        sums = b(ops.Add(), x, _linear(b, h, self.recurrent))
        count = 3 if self.coupled else 4
        size = sums.shape[1] // count
        parts = [b.slice(sums, 1, i * size, (i + 1) * size) for i in range(count)]
        i, f, g, o = [None, *parts] if self.coupled else parts
        assert f is not None and g is not None and o is not None
        forget = b(ops.Sigmoid(), self.gate(f, 1, c))
        enter = self.rest(forget) if i is None else b(ops.Sigmoid(), self.gate(i, 0, c))
        new = b.activated(self.gate(g, 2))
        c = self.clipped(b(ops.Add(), b(ops.Mul(), forget, c), b(ops.Mul(), enter, new)), "CellClip")
        h = b(ops.Mul(), b(ops.Sigmoid(), self.gate(o, 3, c)), b.activated(c))
        if self.projection is not None:
            h = self.clipped(_linear(b, h, self.projection, self.projection_bias), "ProjClip")
        return [h, c]

    def gate(self, x: Value, number: int, c: Value | None = None) -> Value:
        """A gate's sum with what its peephole sees of ``c``, normalised where the operator says so."""
        b = self.b
        peephole = self.peepholes[(0, 1, -1, 2)[number]] if c is not None else None
        if c is not None and peephole is not None:
            x = b(ops.Add(), x, b(ops.Mul(), c, peephole))
        if self.norms:
            # tensor_utils.cc, MeanStddevNormalization: the epsilon 1e-8
            norm, bias = self.norms[number], self.late[number]
            if norm is None or bias is None:
                raise Unsupported("some of its gates are normalised and some are not")
            x = b(ops.LayerNorm((1,), 1e-8), x, norm, bias)
        return x

    def rest(self, x: Value) -> Value:
        return self.b(ops.Sub(), self.b.scalar(1.0, x.dtype), x)

    def clipped(self, x: Value, option: str) -> Value:
        """``x`` inside the bounds that the option of this name gives; 0 stands for none."""
        bound = float(self.b.option(option))
        return self.b(ops.Clip(-bound, bound), x) if bound > 0 else x


def _state(*values: Value | None) -> list[Value]:
    found = [v for v in values if v is not None]
    if len(found) != len(values):
        raise Unsupported("its state is left out")
    return found


@reads("UNIDIRECTIONAL_SEQUENCE_LSTM", "UnidirectionalSequenceLSTMOptions")
def lstm(b: Builder, x: Value, *rest: Value | None) -> Value:
    given = [*rest, *[None] * (23 - len(rest))]
    h, c = _state(*given[17:19])
    return _Lstm(b, given[:17], given[19:23]).run(x, h, c, 0 if b.option("TimeMajor", False) else 1)


@reads("UNIDIRECTIONAL_SEQUENCE_RNN", "SequenceRNNOptions")
def rnn(b: Builder, x: Value, weight: Value, recurrent: Value, bias: Value, state: Value) -> Value:
    """h' = act(W x + R h + b)."""

    def step(moved: Value, state: list[Value]) -> list[Value]:
        return [b.activated(b(ops.Add(), moved, _linear(b, state[0], recurrent)))]

    return _unrolled(b, _linear(b, x, weight, bias), [state], step, 0 if b.option("TimeMajor", False) else 1)
