"""Recurrent layers, unrolled over their fixed length, and wrappers that call a layer several times."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from instep.capture.keras.builder import MAX_STEPS, Builder
from instep.capture.keras.handlers.spatial import arranged, convolved, kept_size
from instep.capture.keras.network import Layer, is_network, numbered, read_network, snake
from instep.capture.keras.registry import Unsupported, layer
from instep.graph import Value, ops

__all__: list[str] = []

#: x [N, G·units] already multiplied by the input weights, and the state → the new state; its first part comes out.
Step = Callable[[Value, list[Value]], list[Value]]
#: time, the state before and behind the step, what came out so far, whether the first state was given → state, output.
Hidden = Callable[[int, list[Value], list[Value], list[Value], bool], tuple[list[Value], Value]]


def _gates(b: Builder, x: Value, count: int, axis: int = 1) -> list[Value]:
    size = x.shape[axis] // count
    return [b.slice(x, axis, i * size, (i + 1) * size) for i in range(count)]


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
    return 2, lambda x: _linear(b, x, kernel, bias), _long(b, 1, lambda h: _linear(b, h, recurrent))


def _long(b: Builder, axis: int, recurrent: Callable[[Value], Value]) -> Step:
    inner, outer = b.field("recurrent_activation", "sigmoid"), b.field("activation", "tanh")

    def step(x: Value, state: list[Value]) -> list[Value]:
        h, c = state
        i, f, g, o = _gates(b, b(ops.Add(), x, recurrent(h)), 4, axis)
        kept = b(ops.Mul(), b.activated(f, inner), c)
        c = b(ops.Add(), kept, b(ops.Mul(), b.activated(i, inner), b.activated(g, outer)))
        return [b(ops.Mul(), b.activated(o, inner), b.activated(c, outer)), c]

    return step


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


def _pictures(b: Builder, features: int) -> tuple[int, Callable[[Value], Value], Step]:
    """An LSTM whose products are convolutions (Shi et al., arXiv 1506.04214): SAME and of stride 1 for the state."""
    layout, n = b.layout(), int(b.place.layer.kind[-2])
    kernel, filters = b.sizes("kernel_size", n), b.whole("filters")
    of = [b.weight("kernel", (*kernel, features, 4 * filters), "weight_ih", arranged(n, layout))]
    recurrent = [b.weight("recurrent_kernel", (*kernel, filters, 4 * filters), "weight_hh", arranged(n, layout))]
    if b.flag("use_bias", True):
        of.append(b.weight("bias", (4 * filters,), "bias"))
    axis = n + 1 if layout == "NHWC" else 1
    return 2, lambda x: convolved(b, x, of, kernel, 1), _long(b, axis, lambda h: kept_size(b, h, recurrent, kernel))


_CELLS = {"LSTM": _lstm, "GRU": _gru, "SimpleRNN": _simple}
_CELLS |= {f"{name}Cell": cell for name, cell in _CELLS.items()}


@layer("LSTM", "GRU", "SimpleRNN", "CuDNNLSTM", "CuDNNGRU")
def recurrent(b: Builder, x: Any, *_: Any, initial_state: Any = None, mask: Any = None, **kwargs: Any) -> Any:
    """[batch, time, features] unrolled; the whole sequence or the last step, and the states where asked for."""
    x, given = _taken(x, initial_state)
    hidden = _hidden(b, mask)
    _check(b, x, 3, _, kwargs)
    x = _batch_first(b, x)
    if b.place.layer.kind not in _CELLS:
        raise Unsupported("it is of a kind that only a GPU had")
    backwards = b.flag("go_backwards")
    with b.inside(b.place.layer, "cell"):
        outputs, state = _cell(b, x, backwards, given, hidden)
    return _result(b, outputs, state)


@layer("LSTMCell", "GRUCell", "SimpleRNNCell")
def one_step(b: Builder, x: Value, states: Any = None, *_: Any, **kwargs: Any) -> Any:
    """A cell by itself: what comes out of a step, and the state behind it."""
    given = _given(states)
    if any(v is not None for v in kwargs.values()) or _ or x.rank != 2:
        raise Unsupported("it is called with constants, or with a sequence")
    count, enter, step = _CELLS[b.place.layer.kind](b, x.shape[1])
    if len(given) != count:
        raise Unsupported(f"it is called with {len(given)} states, not {count}")
    new = step(enter(x), given)
    return new[0], *new


@layer("RNN")
def cells(b: Builder, x: Any, *_: Any, initial_state: Any = None, mask: Any = None, **kwargs: Any) -> Any:
    """One of Keras' cells, or several of which each reads what the one before it makes."""
    x, given = _taken(x, initial_state)
    hidden = _hidden(b, mask)
    _check(b, x, 3, _, kwargs)
    x = _batch_first(b, x)
    outer, backwards = _inner(b, "cell"), b.flag("go_backwards")
    names: dict[str, int] = {}
    states: list[Value] = []
    outputs: list[Value] = []
    with b.inside(outer, "cell"):
        inner = [_layer_of(b, e, "cell") for e in _entries(b)] if outer.kind == "StackedRNNCells" else [outer]
        for i, cell in enumerate(inner):
            if cell.kind not in _CELLS or cell.registered:
                raise Unsupported(f"its cell {(cell.registered or cell.kind)[:80]} is none of Keras' own")
            x, backwards = (_sequence(b, outputs), False) if outputs else (x, backwards)
            if cell is outer:
                outputs, state = _cell(b, x, backwards, given, hidden)
            else:
                with b.inside(cell, f"cells/{numbered(snake(cell.kind), names)}", str(i)):
                    outputs, state = _cell(b, x, backwards, given, hidden)
            states += state
    return _result(b, outputs, states)


def _entries(b: Builder) -> list[Any]:
    entries = b.field("cells")
    if not isinstance(entries, list) or not entries:
        raise Unsupported("it does not say what its cells are")
    return entries


@layer("ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D")
def pictures(b: Builder, x: Any, *_: Any, initial_state: Any = None, mask: Any = None, **kwargs: Any) -> Any:
    """[batch, time, …] unrolled as an LSTM is; the state lies as what the convolutions make of the input."""
    x, state = _taken(x, initial_state)
    hidden = _hidden(b, mask)
    _check(b, x, int(b.place.layer.kind[-2]) + 3, _, kwargs)
    layout = b.layout()
    with b.inside(b.place.layer, "cell"):
        steps = _steps(b, x)
        count, enter, step = _pictures(b, steps[0].shape[-1 if layout == "NHWC" else 1])
        outputs: list[Value] = []
        times = range(x.shape[1])
        for t, at in zip(reversed(times) if b.flag("go_backwards") else times, steps, strict=True):
            moved = enter(at)
            before = state or [b.full(_quarter(moved, layout), 0.0, x.dtype)] * count
            state, output = hidden(t, before, step(moved, before), outputs, bool(state))
            outputs.append(output)
    return _result(b, outputs, state)


def _quarter(x: Value, layout: str) -> list[int]:
    """The shape of one of four parts along the channels."""
    axis = x.rank - 1 if layout == "NHWC" else 1
    return [n // 4 if i == axis else n for i, n in enumerate(x.shape)]


def _hidden(b: Builder, mask: Any) -> Hidden:
    """What a step leaves of the state and what comes out of it: where it is masked, the state of before and what came
    out before, or zeros with ``zero_output_for_mask``."""
    mask = next((m for m in (mask if isinstance(mask, list | tuple) else [mask]) if m is not None), None)
    zeros = b.flag("zero_output_for_mask")

    def step(
        t: int, state: list[Value], new: list[Value], outputs: list[Value], own: bool
    ) -> tuple[list[Value], Value]:
        if mask is None:
            return new, new[0]
        seen = b.slice(mask, 1, t, t + 1)
        shown = [b.reshape(seen, (mask.shape[0], *[1] * (v.rank - 1))) for v in new]
        held = [b(ops.Where(), m, v, old) for m, v, old in zip(shown, new, state, strict=True)]
        if not zeros and (outputs or not own):  # what came out before is the state, which begins with zeros
            return held, held[0] if not own else b(ops.Where(), shown[0], new[0], outputs[-1])
        return held, b(ops.Where(), shown[0], new[0], b.scalar(0.0, new[0].dtype))

    return step


def _check(b: Builder, x: Value, rank: int, rest: Any, kwargs: dict[str, Any]) -> None:
    if any(v is not None for v in kwargs.values()) or rest:
        raise Unsupported("it is called with constants")
    steps = x.shape[0 if b.flag("time_major") else 1]
    if x.rank != rank or b.flag("stateful") or steps > MAX_STEPS:
        raise Unsupported(f"it is stateful, or unrolling {list(x.shape)} would take more than {MAX_STEPS} steps")


def _taken(x: Any, state: Any) -> tuple[Value, list[Value]]:
    """The sequence and the states that a layer is called with; Keras 2 gives it both in one list."""
    first, *behind = x if isinstance(x, list | tuple) else [x]
    return first, [*behind, *_given(state)]


def _given(state: Any) -> list[Value]:
    """States that a layer is called with; each cell takes its own from the front."""
    if isinstance(state, list | tuple):
        return [v for part in state for v in _given(part)]
    return [] if state is None else [state]


def _steps(b: Builder, x: Value) -> list[Value]:
    """What is read at each time, in the order in which it is read."""
    times = range(x.shape[1])
    shape = (x.shape[0], *x.shape[2:])
    return [b.reshape(b.slice(x, 1, t, t + 1), shape) for t in (reversed(times) if b.flag("go_backwards") else times)]


def _cell(b: Builder, x: Value, backwards: bool, given: list[Value], hidden: Hidden) -> tuple[list[Value], list[Value]]:
    """The cell at hand over the sequence ``x``: what comes out of each step, and the last state."""
    batch, length, features = x.shape
    count, enter, step = _CELLS[b.place.layer.kind](b, features)
    own = [given.pop(0) for _ in range(count)] if given else []
    state = own or [b.full((batch, b.whole("units")), 0.0, x.dtype)] * count
    moved = enter(x)
    outputs: list[Value] = []
    for t in reversed(range(length)) if backwards else range(length):
        new = step(b.reshape(b.slice(moved, 1, t, t + 1), (batch, moved.shape[2])), state)
        state, output = hidden(t, state, new, outputs, bool(own))
        outputs.append(output)
    return outputs, state


def _batch_first(b: Builder, x: Value) -> Value:
    """Keras 2 may have the time before the batch (``time_major``); there and back are the same step."""
    return b.permute(x, (1, 0, *range(2, x.rank))) if b.flag("time_major") else x


def _sequence(b: Builder, outputs: Sequence[Value]) -> Value:
    return b.concat([b.reshape(o, (o.shape[0], 1, *o.shape[1:])) for o in outputs], 1)


def _result(b: Builder, outputs: list[Value], state: list[Value]) -> Any:
    y = outputs[-1]
    if b.flag("return_sequences"):
        y = _batch_first(b, _sequence(b, outputs))
    return (y, *state) if b.flag("return_state") else y


# -- wrappers ----------------------------------------------------------------------------------------------------------
def _inner(b: Builder, field: str) -> Layer:
    return _layer_of(b, b.field(field), field)


def _layer_of(b: Builder, entry: Any, field: str) -> Layer:
    if not isinstance(entry, dict) or not isinstance(entry.get("config"), dict):
        raise Unsupported(f"it does not say what its {field} is")
    network = read_network(entry, b.origin) if is_network(entry) else None
    registered = str(entry.get("registered_name") or "")
    kind = str(entry.get("class_name"))
    return Layer(kind, str(entry["config"].get("name", field)), entry["config"],
                 registered=registered if ">" in registered else "", network=network)  # fmt: skip


@layer("TimeDistributed")
def time_distributed(b: Builder, x: Value, mask: Value | None = None) -> Value:
    """The layer on every step at once: time becomes part of the batch; of a mask each step gets what is behind time."""
    batch, length = x.shape[:2]
    flat = b.reshape(x, (batch * length, *x.shape[2:]))
    inner = None if mask is None or mask.rank < 3 else b.reshape(mask, (batch * length, *mask.shape[2:]))
    with b.inside(_inner(b, "layer"), "layer"):
        y = b.call(flat, mask=inner)
    if not isinstance(y, Value):
        raise Unsupported("its layer gives several results")
    return b.reshape(y, (batch, length, *y.shape[1:]))


@layer("Bidirectional")
def bidirectional(b: Builder, x: Any, initial_state: Any = None, mask: Any = None, **kwargs: Any) -> Any:
    """A layer and one that reads backwards; the first half of the states is the former's, the second the latter's."""
    if any(v is not None for v in kwargs.values()):
        raise Unsupported("it is called with constants")
    x, given = _taken(x, initial_state)
    mask = next((m for m in (mask if isinstance(mask, list | tuple) else [mask]) if m is not None), None)
    half = len(given) // 2
    forward = _inner(b, "layer")
    backward = _inner(b, "backward_layer") if b.field("backward_layer") else None
    if backward is None:
        config = forward.config | {"go_backwards": not forward.config.get("go_backwards", False)}
        backward = Layer(forward.kind, forward.name, config)
    sides: list[Value] = []
    states: list[Value] = []
    for inner, attribute, name, own in (
        (forward, "forward_layer", "forward", given[:half]), (backward, "backward_layer", "backward", given[half:]),
    ):  # fmt: skip
        with b.inside(inner, attribute, name):
            # Keras has a layer within this one give zeros for masked steps where it gives all steps
            inner.config["zero_output_for_mask"] = bool(inner.config.get("return_sequences"))
            states_given = {"initial_state": own} if given else {}
            side, *last = _given(b.call(x, mask=mask, **states_given))
        sides.append(side)
        states += last
    if forward.config.get("return_sequences"):
        sides[1] = b(ops.Flip((1,)), sides[1])
    made = sides if b.field("merge_mode", "concat") is None else [_merged(b, sides)]
    return (*made, *states)


@layer("SpectralNormalization")
def spectral_norm(b: Builder, x: Value) -> Value:
    """At rest the kernel is what the last step of training left of it, divided already."""
    b.remark(
        "layers under SpectralNormalization are captured with the kernel that it left; training does not divide it"
    )
    with b.inside(_inner(b, "layer"), "layer"):
        return b.call(x)


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
