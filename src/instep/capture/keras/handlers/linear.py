"""Layers that multiply by a matrix: Dense, EinsumDense, Embedding."""

from __future__ import annotations

import math

import numpy as np

from instep.capture.einsum import contracted
from instep.capture.keras.builder import Builder
from instep.capture.keras.registry import Unsupported, layer
from instep.graph import Value, ops

__all__: list[str] = []


@layer("Dense")
def dense(b: Builder, x: Value) -> Value:
    units = b.whole("units")
    inputs = [x, b.weight("kernel", (x.shape[-1], units), "weight", np.transpose)]
    if b.flag("use_bias", True):
        inputs.append(b.weight("bias", (units,), "bias"))
    return b.activated(b(ops.Linear(), *inputs), b.field("activation"))


@layer("Embedding")
def embedding(b: Builder, x: Value) -> Value:
    table = b.weight("embeddings", (b.whole("input_dim"), b.whole("output_dim")), "weight")
    return b(ops.Gather(0), table, x if x.dtype.startswith(("int", "uint")) else b.cast(x, "int32"))


@layer("ReversibleEmbedding")
def reversible_embedding(b: Builder, x: Value, reverse: bool = False) -> Value:
    """An embedding; ``reverse`` is the product with its rows, or with a matrix of its own, that gives back logits."""
    tied = b.flag("tie_weights", True)
    table = b.weight("embeddings", (b.whole("input_dim"), b.whole("output_dim")), "weight")
    if not tied:
        shape = (b.whole("output_dim"), b.whole("input_dim"))
        table = b.weight("reverse_embeddings", shape, "reverse.weight", np.transpose) if reverse else table
    if not reverse:
        return b(ops.Gather(0), table, x if x.dtype.startswith(("int", "uint")) else b.cast(x, "int32"))
    y = b(ops.Linear(), x, table)
    cap = b.field("logit_soft_cap")
    if cap is None:
        return y
    limit = b.scalar(b.number("logit_soft_cap"), y.dtype)
    return b(ops.Mul(), b(ops.Tanh(), b(ops.Div(), y, limit)), limit)


@layer("EinsumDense")
def einsum_dense(b: Builder, x: Value) -> Value:
    """A product over some axes of x with a weight, as an equation says: "abc,cde->abde"."""
    equation = b.field("equation")
    left, kernel, out = _equation(equation, x.rank)
    output = _output_shape(b, x, out, left)
    sizes = dict(zip(out, output, strict=True)) | dict(zip(left, x.shape, strict=True))
    if any(c not in sizes for c in kernel):
        raise Unsupported(f"its equation {equation!r} does not say the sizes of its weight")
    summed = [c for c in left if c not in out]
    made = [c for c in kernel if c not in summed]
    kept = [c for c in left if c not in summed]
    if set(out) != set(kept) | set(made):
        raise Unsupported(f"its equation {equation!r} makes axes of nothing")
    axes = str(b.field("bias_axes") or "")
    if set(summed) - set(kernel) or set(made) & set(left) or (axes and set(axes) != set(made)):
        return _general(b, x, (left, kernel, out), sizes, axes)
    columns, rows = math.prod(sizes[c] for c in summed), math.prod(sizes[c] for c in made)
    order = [kernel.index(c) for c in (*made, *summed)]
    shape = [sizes[c] for c in kernel]
    weight = b.weight("kernel", shape, "weight", lambda a: a.transpose(order).reshape(rows, columns))
    flat = b.reshape(b.permute(x, [left.index(c) for c in (*kept, *summed)]), [*(sizes[c] for c in kept), columns])
    inputs = [flat, weight]
    bias = _bias(b, out, made, sizes)
    if bias is not None:
        inputs.append(bias)
    y = b.reshape(b(ops.Linear(), *inputs), [sizes[c] for c in (*kept, *made)])
    y = b.permute(y, [[*kept, *made].index(c) for c in out])
    return b.activated(y, b.field("activation"))


def _general(b: Builder, x: Value, words: tuple[str, str, str], sizes: dict[str, int], axes: str) -> Value:
    """Axes that both share and that stay, or a bias of other axes than the weight makes: written out."""
    left, kernel, out = words
    weight = b.weight("kernel", [sizes[c] for c in kernel], "weight")
    y = contracted(b, [(left, x), (kernel, weight)], out)
    if axes:
        first = min(out.index(c) for c in axes if c in out)
        y = b(ops.Add(), y, b.weight("bias", [sizes[c] if c in axes else 1 for c in out[first:]], "bias"))
    return b.activated(y, b.field("activation"))


def _equation(equation: object, rank: int) -> tuple[str, str, str]:
    """Letters of x, of the weight and of the result; an ellipsis becomes letters of its own."""
    if not isinstance(equation, str) or equation.count(",") != 1 or equation.count("->") != 1:
        raise Unsupported(f"its equation is {equation!r}")
    left, _, rest = equation.replace(" ", "").partition(",")
    kernel, _, out = rest.partition("->")
    if "..." in left:
        free = [c for c in "ABCDEFGHIJKLMNOP" if c not in equation]
        letters = "".join(free[: max(rank - len(left) + 3, 0)])
        left, out = left.replace("...", letters), out.replace("...", letters)
    words = (left, kernel, out)
    if len(left) != rank or any(not w.isalpha() or len(set(w)) != len(w) for w in words):
        raise Unsupported(f"its equation {equation!r} does not fit rank {rank}")
    return words


def _output_shape(b: Builder, x: Value, out: str, left: str) -> list[int]:
    given = b.field("output_shape")
    given = given if isinstance(given, list) else [given]
    sizes: list[int] = []
    for i, letter in enumerate(out):
        own = given[len(given) - len(out) + i] if len(given) - len(out) + i >= 0 else None
        if own is None:
            if letter not in left:
                raise Unsupported(f"its output_shape {given} leaves '{letter}' open")
            own = x.shape[left.index(letter)]
        if not isinstance(own, int) or own < 1:
            raise Unsupported(f"its output_shape is {given}")
        sizes.append(own)
    return sizes


def _bias(b: Builder, out: str, made: list[str], sizes: dict[str, int]) -> Value | None:
    axes = b.field("bias_axes")
    if not axes:
        return None
    # Keras keeps the bias with ones for the axes behind the first of its own
    first = min(out.index(c) for c in axes if c in out)
    shape = [sizes[c] if c in axes else 1 for c in out[first:]]
    order = [c for c in out[first:] if c in axes]
    moved = [order.index(c) for c in made]
    squeezed = [sizes[c] for c in order]
    return b.weight("bias", shape, "bias", lambda a: a.reshape(squeezed).transpose(moved).reshape(-1))
