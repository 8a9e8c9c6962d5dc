"""Layers over sequences: embeddings and recurrence, unrolled over a fixed length."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from instep.graph import ops
from instep.graph.core import Value
from instep.graph.text.fields import BOOL, COUNT, FLOAT, Field
from instep.graph.text.layers import DECAY
from instep.graph.text.table import INIT, Place, layer

__all__: list[str] = []

_ZEROS = ("zeros", ())
#: Most steps of a recurrence: each becomes some ten operators.
MAX_TIME = 1024


@layer("embedding", Field("count", COUNT, doc="how many there are to choose from"), Field("out", COUNT),
       Field("init", INIT, "normal(1)", "default: as PyTorch's"), weighted=True)  # fmt: skip
def embedding(at: Place, xs: list[Value], f: SimpleNamespace) -> Value:
    """A row of the weight for each integer. Weights: weight [count, out]."""
    return at.node(ops.Gather(0), at.weight("weight", (f.count, f.out), f.init, (f.count, f.out)), xs[0])


@layer(
    "lstm",
    Field("hidden", COUNT),
    Field("forget_bias", FLOAT, 0.0, "added to the forget gate besides its bias; TensorFlow 1's cell has 1"),
    Field("bias", BOOL, True, "whether it has one (PyTorch has two, whose sum counts)"),
    Field("init", INIT, "torch", "how the weights start; the fans are those of both kernels as one"),
    DECAY,
    inputs=3,
    weighted=True,
)
def lstm(at: Place, xs: list[Value], f: SimpleNamespace) -> list[Value]:
    """A long short-term memory (Hochreiter & Schmidhuber 1997): ``y, h_next, c_next = lstm(x, h, c)``.

    x is [batch, time, features], h and c are [batch, hidden]; y is [batch, time, hidden], h and c come back as they are
    after the last step. i, f, o = σ(·), g = tanh(·); c' = f·c + i·g; h' = o·tanh(c'). Weights: weight_ih
    [4·hidden, features], weight_hh [4·hidden, hidden] and bias, in PyTorch's order i, f, g, o (TensorFlow 1 has
    i, j, f, o, where j is g).
    """
    x, h, c = xs
    if x.rank != 3 or h.shape != (x.shape[0], f.hidden) or c.shape != h.shape:
        at.fail(f"needs [batch, time, features] and two states [batch, {f.hidden}], got {[list(v.shape) for v in xs]}")
    batch, time, features = x.shape
    if time > MAX_TIME:
        at.fail(f"{time} steps; at most {MAX_TIME} are unrolled")
    torch = f.init[0] == "torch"
    fans = (f.hidden if torch else features + f.hidden, 4 * f.hidden)
    weight = at.weight("weight_ih", (4 * f.hidden, features), f.init, fans, decay=f.decay)
    recurrent = at.weight("weight_hh", (4 * f.hidden, f.hidden), f.init, fans, decay=f.decay)
    bias = [at.weight("bias", (4 * f.hidden,), f.init if torch else _ZEROS, fans)] if f.bias else []
    moved = at.node(ops.Linear(), x, weight, *bias, part="moved")
    if f.forget_bias:
        added = np.repeat([0.0, f.forget_bias, 0.0, 0.0], f.hidden)
        moved = at.node(ops.Add(), moved, at.constant((added, "float32", None), "forget_bias"), part="biased")
    ys: list[Value] = []
    for t in range(time):
        now = at.node(ops.Slice((0, t, 0), (batch, t + 1, 4 * f.hidden), (1, 1, 1)), moved, part="now")
        now = at.node(ops.Reshape((batch, 4 * f.hidden)), now, part="now")
        h, c = _step(at, at.node(ops.Add(), now, at.node(ops.Linear(), h, recurrent, part="from_h"), part="gates"), c)
        ys.append(at.node(ops.Reshape((batch, 1, f.hidden)), h, part="y"))
    return [at.node(ops.Concat(1), *ys, part="sequence"), h, c]


def _step(at: Place, gates: Value, c: Value) -> tuple[Value, Value]:
    batch, size = c.shape

    parts = [
        at.node(ops.Slice((0, k * size), (batch, (k + 1) * size), (1, 1)), gates, part=name)
        for k, name in enumerate("ifgo")
    ]
    kinds = (ops.Sigmoid, ops.Sigmoid, ops.Tanh, ops.Sigmoid)
    i, f, g, o = (at.node(kind(), v, part=n) for kind, v, n in zip(kinds, parts, "ifgo", strict=True))
    kept = at.node(ops.Mul(), f, c, part="kept")
    c = at.node(ops.Add(), kept, at.node(ops.Mul(), i, g, part="new"), part="c")
    return at.node(ops.Mul(), o, at.node(ops.Tanh(), c), part="h"), c
