"""Recurrent layers, unrolled over their fixed length, and wrappers that call a layer several times."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from instep.capture.keras.builder import MAX_STEPS, Builder
from instep.capture.keras.network import Layer, is_network, read_network
from instep.capture.keras.registry import Unsupported, layer
from instep.graph import Value, ops

__all__: list[str] = []

#: x [N, G·units] already multiplied by the input weights, and the state → the new state; its first part comes out.
Step = Callable[[Value, list[Value]], list[Value]]


def _gates(b: Builder, x: Value, count: int) -> list[Value]:
    size = x.shape[-1] // count
    return [b.slice(x, x.rank - 1, i * size, (i + 1) * size) for i in range(count)]


def _weights(b: Builder, features: int, gates: int) -> tuple[Value, Value, Value | None]:
    """Kernel, recurrent kernel and bias of a cell, as rows of the graph's Linear."""
    units = b.whole("units")
    kernel = b.weight("kernel", (features, gates * units), "weight_ih", np.transpose)
    recurrent = b.weight("recurrent_kernel", (units, gates * units), "weight_hh", np.transpose)
    if not b.flag("use_bias", True):
        return kernel, recurrent, None
    shape = (2, gates * units) if gates == 3 and b.flag("reset_after", b.major >= 3) else (gates * units,)
    return kernel, recurrent, b.weight("bias", shape, "bias")


def _linear(b: Builder, x: Value, weight: Value, bias: Value | None = None) -> Value:
    return b(ops.Linear(), x, weight, *([] if bias is None else [bias]))


def _lstm(b: Builder, features: int) -> tuple[int, Callable[[Value], Value], Step]:
    """i, f, o = σ(·); c' = f·c + i·act(g); h' = o·act(c'), the gates in the order i, f, g, o."""
    kernel, recurrent, bias = _weights(b, features, 4)
    inner, outer = b.field("recurrent_activation", "sigmoid"), b.field("activation", "tanh")

    def step(x: Value, state: list[Value]) -> list[Value]:
        h, c = state
        i, f, g, o = _gates(b, b(ops.Add(), x, _linear(b, h, recurrent)), 4)
        kept = b(ops.Mul(), b.activated(f, inner), c)
        c = b(ops.Add(), kept, b(ops.Mul(), b.activated(i, inner), b.activated(g, outer)))
        return [b(ops.Mul(), b.activated(o, inner), b.activated(c, outer)), c]

    return 2, lambda x: _linear(b, x, kernel, bias), step


def _gru(b: Builder, features: int) -> tuple[int, Callable[[Value], Value], Step]:
    """z, r = σ(·); h' = z·h + (1 - z)·act(·); ``reset_after`` applies r behind the product, as cuDNN does."""
    after = b.flag("reset_after", b.major >= 3)
    kernel, recurrent, bias = _weights(b, features, 3)
    inner, outer = b.field("recurrent_activation", "sigmoid"), b.field("activation", "tanh")
    first, second = bias, None
    if bias is not None and after:
        array = b.graph.weights[bias]
        first, second = (
            b.made(f"bias{i}", np.ascontiguousarray(array[i]), f"bias_{n}") for i, n in ((0, "ih"), (1, "hh"))
        )
    units = b.whole("units")
    parts: list[Value] = []
    if not after:
        rows = b.graph.weights[recurrent]
        parts = [
            b.made("recurrent_zr", np.ascontiguousarray(rows[: 2 * units]), "weight_hh_zr"),
            b.made("recurrent_h", np.ascontiguousarray(rows[2 * units :]), "weight_hh_h"),
        ]

    def step(x: Value, state: list[Value]) -> list[Value]:
        (h,) = state
        xz, xr, xh = _gates(b, x, 3)
        if after:
            hz, hr, hh = _gates(b, _linear(b, h, recurrent, second), 3)
        else:
            hz, hr = _gates(b, _linear(b, h, parts[0]), 2)
        z = b.activated(b(ops.Add(), xz, hz), inner)
        r = b.activated(b(ops.Add(), xr, hr), inner)
        moved = b(ops.Mul(), r, hh) if after else _linear(b, b(ops.Mul(), r, h), parts[1])
        new = b.activated(b(ops.Add(), xh, moved), outer)
        return [b(ops.Add(), new, b(ops.Mul(), z, b(ops.Sub(), h, new)))]

    return 1, lambda x: _linear(b, x, kernel, first), step


def _simple(b: Builder, features: int) -> tuple[int, Callable[[Value], Value], Step]:
    kernel, recurrent, bias = _weights(b, features, 1)
    outer = b.field("activation", "tanh")

    def step(x: Value, state: list[Value]) -> list[Value]:
        return [b.activated(b(ops.Add(), x, _linear(b, state[0], recurrent)), outer)]

    return 1, lambda x: _linear(b, x, kernel, bias), step


_CELLS = {"LSTM": _lstm, "GRU": _gru, "SimpleRNN": _simple}


@layer("LSTM", "GRU", "SimpleRNN", "CuDNNLSTM", "CuDNNGRU")
def recurrent(b: Builder, x: Value, *_: Any, initial_state: Any = None, **kwargs: Any) -> Any:
    """[batch, time, features] unrolled; the whole sequence or the last step, and the states where asked for."""
    kind = b.place.layer.kind
    if kind not in _CELLS or any(v is not None for v in kwargs.values()) or _:
        raise Unsupported("it is called with a mask or is of a kind that only a GPU had")
    if x.rank != 3 or b.flag("stateful") or x.shape[1] > MAX_STEPS:
        raise Unsupported(f"it is stateful, or unrolling {list(x.shape)} would take more than {MAX_STEPS} steps")
    batch, length, features = x.shape
    with b.inside(b.place.layer, "cell"):
        count, enter, step = _CELLS[kind](b, features)
        given = [initial_state] if isinstance(initial_state, Value) else initial_state
        zeros = b.full((batch, b.whole("units")), 0.0, x.dtype)
        state = list(given) if given else [zeros] * count
        moved = enter(x)
        outputs: list[Value] = []
        backwards = b.flag("go_backwards")
        for t in reversed(range(length)) if backwards else range(length):
            at = b.reshape(b.slice(moved, 1, t, t + 1), (batch, moved.shape[2]))
            state = step(at, state)
            outputs.append(state[0])
        y = state[0]
        if b.flag("return_sequences"):
            y = b.concat([b.reshape(o, (batch, 1, o.shape[1])) for o in outputs], 1)
    return (y, *state) if b.flag("return_state") else y


# -- wrappers ----------------------------------------------------------------------------------------------------------
def _inner(b: Builder, field: str) -> Layer:
    entry = b.field(field)
    if not isinstance(entry, dict) or not isinstance(entry.get("config"), dict):
        raise Unsupported(f"it does not say what its {field} is")
    network = read_network(entry, b.origin) if is_network(entry) else None
    registered = str(entry.get("registered_name") or "")
    kind = str(entry.get("class_name"))
    return Layer(kind, str(entry["config"].get("name", field)), entry["config"],
                 registered=registered if ">" in registered else "", network=network)  # fmt: skip


@layer("TimeDistributed")
def time_distributed(b: Builder, x: Value) -> Value:
    """The layer on every step at once: time becomes part of the batch."""
    batch, length = x.shape[:2]
    flat = b.reshape(x, (batch * length, *x.shape[2:]))
    with b.inside(_inner(b, "layer"), "layer"):
        y = b.call(flat)
    if not isinstance(y, Value):
        raise Unsupported("its layer gives several results")
    return b.reshape(y, (batch, length, *y.shape[1:]))


@layer("Bidirectional")
def bidirectional(b: Builder, x: Value, **kwargs: Any) -> Value:
    if any(v is not None for v in kwargs.values()):
        raise Unsupported("it is called with states or a mask")
    forward = _inner(b, "layer")
    backward = _inner(b, "backward_layer") if b.field("backward_layer") else None
    if backward is None:
        config = forward.config | {"go_backwards": not forward.config.get("go_backwards", False)}
        backward = Layer(forward.kind, forward.name, config)
    sides: list[Value] = []
    for inner, attribute, name in ((forward, "forward_layer", "forward"), (backward, "backward_layer", "backward")):
        with b.inside(inner, attribute, name):
            side = b.call(x)
        if not isinstance(side, Value):
            raise Unsupported("its layers give their states")
        sides.append(side)
    if forward.config.get("return_sequences"):
        sides[1] = b(ops.Flip((1,)), sides[1])
    return _merged(b, sides)


def _merged(b: Builder, sides: Sequence[Value]) -> Value:
    first, second = sides
    match b.field("merge_mode", "concat"):
        case "concat":
            return b.concat(sides, first.rank - 1)
        case "sum":
            return b(ops.Add(), first, second)
        case "mul":
            return b(ops.Mul(), first, second)
        case "ave":
            return b(ops.Mul(), b(ops.Add(), first, second), b.scalar(0.5, first.dtype))
    raise Unsupported(f"its merge_mode is {b.field('merge_mode')!r}")
