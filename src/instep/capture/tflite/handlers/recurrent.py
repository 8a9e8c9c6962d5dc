"""Handlers of fused recurrent layers, unrolled over their fixed length, and of their single steps. A state tensor holds
what a run starts from: zeros in a fresh interpreter, or what an operator or an input of the network gives."""

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
#: A second input, and the weights of the gates for it.
Beside = tuple[Value, Sequence[Value | None]] | None


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


def _unrolled(b: Builder, x: Value, state: list[Value], step: Step, time: int, backwards: bool = False) -> Value:
    """``step`` along the axis ``time`` of ``x`` (0 or 1), or against it: its first state after every step of time."""
    length = x.shape[time]
    if x.rank != 3 or length > _MAX_STEPS:
        raise Unsupported(f"unrolling {list(x.shape)} would take more than {_MAX_STEPS} steps")
    batch, features = x.shape[1 - time], x.shape[2]
    outputs: list[Value] = []
    for t in reversed(range(length)) if backwards else range(length):
        state = step(b.reshape(b.slice(x, time, t, t + 1), (batch, features)), state)
        size = state[0].shape[1]
        outputs.append(b.reshape(state[0], (1, batch, size) if time == 0 else (batch, 1, size)))
    return b.concat(outputs[::-1] if backwards else outputs, time)


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

    def entering(self, x: Value, beside: Beside = None) -> Value:
        """What the inputs give to the gates' sums; ``beside`` is a second input with weights of its own."""
        moved = _linear(self.b, x, self.enter, self.bias)
        if beside is None:
            return moved
        weight = _joined(self.b, beside[1][1 if self.coupled else 0 :], "weight_aux")
        if weight is None:
            raise Unsupported("its second input's weights are left out")
        return self.b(ops.Add(), moved, _linear(self.b, beside[0], weight))

    def run(self, moved: Value, state: list[Value], time: int, backwards: bool = False) -> Value:
        return _unrolled(self.b, moved, state, self.step, time, backwards)

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
        raise Unsupported("its state, or a weight that it needs, is left out")
    return found


def _padded(given: Sequence[Value | None], count: int) -> list[Value | None]:
    """``given`` with what a file leaves out at its end."""
    return [*given, *[None] * (count - len(given))]


def _time(b: Builder) -> int:
    return 0 if b.option("TimeMajor", False) else 1


@reads("UNIDIRECTIONAL_SEQUENCE_LSTM", "UnidirectionalSequenceLSTMOptions")
def lstm(b: Builder, x: Value, *rest: Value | None) -> Value:
    given = _padded(rest, 23)
    layer = _Lstm(b, given[:17], given[19:23])
    return layer.run(layer.entering(x), _state(*given[17:19]), _time(b))


@reads("BIDIRECTIONAL_SEQUENCE_LSTM", "BidirectionalSequenceLSTMOptions")
def bidirectional_lstm(b: Builder, x: Value, *rest: Value | None) -> tuple[Value, ...]:
    given, time = _padded(rest, 47), _time(b)
    beside, weights = given[38], (given[39:43], given[43:47])
    along, against = _Lstm(b, given[:17]), _Lstm(b, given[17:34])
    own, other = _second(x, beside, weights)
    forward = along.run(along.entering(*own), _state(*given[34:36]), time)
    backward = against.run(against.entering(*other), _state(*given[36:38]), time, True)
    return _both(b, forward, backward)


def _second(x: Value, beside: Value | None, weights: Sequence[Sequence[Value | None]]) -> list[tuple[Value, Beside]]:
    """(input, second input) of either direction: with weights of its own the second one counts for both, without
    them it is what the backward direction reads (bidirectional_sequence_lstm.cc)."""
    if beside is None:
        return [(x, None), (x, None)]
    if all(w is None for one in weights for w in one):
        return [(x, None), (beside, None)]
    return [(x, (beside, one)) for one in weights]


def _both(b: Builder, forward: Value, backward: Value) -> tuple[Value, ...]:
    return (b.concat([forward, backward], 2),) if b.option("MergeOutputs", False) else (forward, backward)


@reads("LSTM", "LSTMOptions")
def lstm_step(b: Builder, x: Value, *rest: Value | None) -> tuple[Value, ...]:
    if b.option("KernelType"):
        return _basic_lstm(b, x, _state(*_padded(rest, 4)))
    given = _padded(rest, 23)
    layer = _Lstm(b, given[:17], given[19:23])
    return (layer.step(layer.entering(x), _state(*given[17:19]))[0],)


def _basic_lstm(b: Builder, x: Value, given: list[Value]) -> tuple[Value, ...]:
    """The first version's, with one matrix for [x, h] and the gates i, g, f, o (lstm_cell.h): h', c', [x, h] and the
    gates' sums."""
    h, weight, bias, c = given
    joined = b.concat([x, h], 1)
    sums = _linear(b, joined, weight, bias)
    size = sums.shape[1] // 4
    i, g, f, o = (b.slice(sums, 1, n * size, (n + 1) * size) for n in range(4))
    entering = b(ops.Mul(), b(ops.Sigmoid(), i), b(ops.Tanh(), g))
    c = b(ops.Add(), entering, b(ops.Mul(), b(ops.Sigmoid(), f), c))
    return b(ops.Mul(), b(ops.Sigmoid(), o), b(ops.Tanh(), c)), c, joined, sums


def _rnn_step(b: Builder, recurrent: Value) -> Step:
    """h' = act(W x + R h + b), of what W x + b already is."""

    def step(moved: Value, state: list[Value]) -> list[Value]:
        return [b.activated(b(ops.Add(), moved, _linear(b, state[0], recurrent)))]

    return step


@reads("RNN", "RNNOptions")
def rnn_step(b: Builder, x: Value, weight: Value, recurrent: Value, bias: Value, state: Value) -> Value:
    return _rnn_step(b, recurrent)(_linear(b, x, weight, bias), [state])[0]


@reads("UNIDIRECTIONAL_SEQUENCE_RNN", "SequenceRNNOptions")
def rnn(b: Builder, x: Value, weight: Value, recurrent: Value, bias: Value, state: Value) -> Value:
    return _unrolled(b, _linear(b, x, weight, bias), [state], _rnn_step(b, recurrent), _time(b))


@reads("BIDIRECTIONAL_SEQUENCE_RNN", "BidirectionalSequenceRNNOptions")
def bidirectional_rnn(b: Builder, x: Value, *rest: Value | None) -> tuple[Value, ...]:
    given = _padded(rest, 11)
    inputs = _second(x, given[8], ([given[9]], [given[10]]))
    if _time(b) and inputs[0][1] is None:
        # bidirectional_sequence_rnn.cc: batch after batch, the second input counts only where it has weights
        inputs = [(x, None), (x, None)]
    results = []
    for (source, beside), at, backwards in zip(inputs, (0, 4), (False, True), strict=True):
        weight, recurrent, bias, state = _state(*given[at : at + 4])
        moved = _linear(b, source, weight, bias)
        if beside is not None:
            (weight,) = _state(*beside[1])
            moved = b(ops.Add(), moved, _linear(b, beside[0], weight))
        results.append(_unrolled(b, moved, [state], _rnn_step(b, recurrent), _time(b), backwards))
    return _both(b, *results)


@reads("SVDF", "SVDFOptions")
def svdf(b: Builder, x: Value, features: Value, times: Value, bias: Value | None, state: Value) -> Value:
    """Filters of rank r: each keeps its last features' products and adds them up by weights of time (Nakkiran et al.,
    Interspeech 2015; svdf.h)."""
    (filters, length), batch, rank = times.shape, x.shape[0], b.option("Rank", 1)
    if rank < 1 or filters % rank:
        raise Unsupported(f"{filters} filters are not of rank {rank}")
    memory = b.reshape(state, (batch, filters, length))
    newest = b.reshape(_linear(b, x, features), (batch, filters, 1))
    memory = b.concat([b.slice(memory, 2, 1, length), newest], 2)
    found = b(ops.ReduceSum((2,), False), b(ops.Mul(), memory, b.reshape(times, (1, filters, length))))
    units = b(ops.ReduceSum((2,), False), b.reshape(found, (batch, filters // rank, rank)))
    return b.activated(units if bias is None else b(ops.Add(), units, bias))
