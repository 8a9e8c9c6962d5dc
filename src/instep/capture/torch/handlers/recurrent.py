"""LSTM, GRU and plain recurrent layers, unrolled over their fixed length."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from instep.capture.torch.builder import Builder
from instep.capture.torch.registry import handles
from instep.graph import Value, ops

__all__: list[str] = []

#: One step: (x [..., G·H] already multiplied by the input weights, states, recurrent weight, its bias) → new states.
Cell = Callable[[Builder, Value, Sequence[Value], Value, Value | None], tuple[Value, ...]]


def _gates(b: Builder, x: Value, count: int) -> list[Value]:
    size = x.shape[-1] // count
    return [b.slice(x, x.rank - 1, i * size, (i + 1) * size) for i in range(count)]


def _linear(b: Builder, x: Value, weight: Value, bias: Value | None) -> Value:
    return b(ops.Linear(), x, weight, *([] if bias is None else [bias]))


def lstm_step(b: Builder, x: Value, state: Sequence[Value], w: Value, bias: Value | None) -> tuple[Value, ...]:
    """i, f, o = σ(·); g = tanh(·); c' = f·c + i·g; h' = o·tanh(c') (Hochreiter & Schmidhuber 1997; torch.nn.LSTM)."""
    h, c = state
    i, f, g, o = _gates(b, b(ops.Add(), x, _linear(b, h, w, bias)), 4)
    kept = b(ops.Mul(), b(ops.Sigmoid(), f), c)
    c = b(ops.Add(), kept, b(ops.Mul(), b(ops.Sigmoid(), i), b(ops.Tanh(), g)))
    return b(ops.Mul(), b(ops.Sigmoid(), o), b(ops.Tanh(), c)), c


def gru_step(b: Builder, x: Value, state: Sequence[Value], w: Value, bias: Value | None) -> tuple[Value, ...]:
    """r, z = σ(·); n = tanh(x_n + r·(W h + b)); h' = (1 - z)·n + z·h (Cho et al. 2014, torch.nn.GRU)."""
    (h,) = state
    xr, xz, xn = _gates(b, x, 3)
    hr, hz, hn = _gates(b, _linear(b, h, w, bias), 3)
    r, z = b(ops.Sigmoid(), b(ops.Add(), xr, hr)), b(ops.Sigmoid(), b(ops.Add(), xz, hz))
    n = b(ops.Tanh(), b(ops.Add(), xn, b(ops.Mul(), r, hn)))
    return (b(ops.Add(), n, b(ops.Mul(), z, b(ops.Sub(), h, n))),)


def _plain_step(kind: Any) -> Cell:
    def step(b: Builder, x: Value, state: Sequence[Value], w: Value, bias: Value | None) -> tuple[Value, ...]:
        return (b(kind(), b(ops.Add(), x, _linear(b, state[0], w, bias))),)

    return step


def _run(
    b: Builder, cell: Cell, x: Value, state: Sequence[Value], params: Sequence[Value | None], backwards: bool
) -> tuple[Value, list[Value]]:
    """One direction of one layer over x [T, N, I], from states [1, N, H]: (outputs [T, N, H], last states)."""
    w_in, w_hidden, b_in, b_hidden, w_out = params
    assert w_in is not None and w_hidden is not None
    length = x.shape[0]
    moved = _linear(b, x, w_in, b_in)
    outputs: list[Value] = []
    current = list(state)
    for t in reversed(range(length)) if backwards else range(length):
        current = list(cell(b, b.slice(moved, 0, t, t + 1), current, w_hidden, b_hidden))
        if w_out is not None:
            current[0] = _linear(b, current[0], w_out, None)  # proj_size: what goes on is a projection of h
        outputs.append(current[0])
    return b.concat(outputs[::-1] if backwards else outputs, 0), current


def _network(
    b: Builder,
    cell: Cell,
    x: Value,
    hx: Sequence[Value],
    params: Sequence[Value],
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> tuple[Value, ...]:
    if train and dropout:
        raise b.fail("dropout in training mode is random; call eval() on the module")
    batched = x.rank == 3
    if not batched:
        x = b.reshape(x, (x.shape[0], 1, x.shape[1]))
        hx = [b.reshape(h, (h.shape[0], 1, h.shape[1])) for h in hx]
    elif batch_first:
        x = b.permute(x, (1, 0, 2))
    directions = 2 if bidirectional else 1
    per = len(params) // (num_layers * directions)
    full = 4 if has_biases else 2
    finals: list[list[Value]] = [[] for _ in hx]
    for layer in range(num_layers):
        sides: list[Value] = []
        for direction in range(directions):
            k = layer * directions + direction
            mine: list[Value | None] = [*params[k * per : (k + 1) * per]]
            mine = [*mine[:full], *[None] * (4 - full), *(mine[full:] or [None])]
            state = [b.slice(h, 0, k, k + 1) for h in hx]
            y, last = _run(b, cell, x, state, mine, direction == 1)
            sides.append(y)
            for group, value in zip(finals, last, strict=True):
                group.append(value)
        x = b.concat(sides, 2)
    states = [b.concat(group, 0) for group in finals]
    if not batched:
        return b.reshape(x, (x.shape[0], x.shape[2])), *(b.reshape(s, (s.shape[0], s.shape[2])) for s in states)
    return (b.permute(x, (1, 0, 2)) if batch_first else x), *states


@handles("lstm.input")
def lstm(b: Builder, x: Value, hx: Sequence[Value], params: Sequence[Value], *rest: Any) -> tuple[Value, ...]:
    return _network(b, lstm_step, x, hx, params, *rest)


@handles("gru.input")
def gru(b: Builder, x: Value, hx: Value, params: Sequence[Value], *rest: Any) -> tuple[Value, ...]:
    return _network(b, gru_step, x, [hx], params, *rest)


@handles("rnn_tanh.input", "rnn_relu.input")
def rnn(b: Builder, x: Value, hx: Value, params: Sequence[Value], *rest: Any) -> tuple[Value, ...]:
    kind = ops.Tanh if "rnn_tanh" in str(b.step.target) else ops.Relu
    return _network(b, _plain_step(kind), x, [hx], params, *rest)


def _one(
    b: Builder,
    cell: Cell,
    x: Value,
    state: Sequence[Value],
    w_in: Value,
    w_hidden: Value,
    b_in: Value | None,
    b_hidden: Value | None,
) -> tuple[Value, ...]:
    return cell(b, _linear(b, x, w_in, b_in), state, w_hidden, b_hidden)


@handles("lstm_cell")
def lstm_cell(b: Builder, x: Value, hx: Sequence[Value], w: Value, u: Value, p: Any = None, q: Any = None) -> Any:
    return _one(b, lstm_step, x, hx, w, u, p, q)


@handles("gru_cell")
def gru_cell(b: Builder, x: Value, hx: Value, w: Value, u: Value, p: Any = None, q: Any = None) -> Value:
    return _one(b, gru_step, x, [hx], w, u, p, q)[0]


@handles("rnn_tanh_cell", "rnn_relu_cell")
def rnn_cell(b: Builder, x: Value, hx: Value, w: Value, u: Value, p: Any = None, q: Any = None) -> Value:
    kind = ops.Tanh if "rnn_tanh" in str(b.step.target) else ops.Relu
    return _one(b, _plain_step(kind), x, [hx], w, u, p, q)[0]
