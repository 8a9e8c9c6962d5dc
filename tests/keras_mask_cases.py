"""Runs in a child process: networks with masks, of Keras 3 or Keras 2, saved, with what Keras makes of inputs.

``python keras_mask_cases.py FOLDER KIND``: KIND is a backend of Keras 3, or keras2. Steps are masked at the end, at the
start and between; the last sample of each has none that is.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

FOLDER, KIND = Path(sys.argv[1]), sys.argv[2]
keras: Any
if KIND == "keras2":
    import tensorflow as tf
    import tf_keras as keras

    cast: Any = tf.cast
else:
    import keras

    cast = keras.ops.cast
L: Any = keras.layers
WORDS = np.array([[3, 5, 2, 0, 0, 0], [0, 4, 0, 7, 1, 0], [0, 0, 6, 1, 2, 8], [1, 2, 3, 4, 5, 6]], np.int32)


def words() -> tuple[Any, Any]:
    i = keras.Input((6,), dtype="int32", name="words")
    return i, L.Embedding(9, 4, mask_zero=True)(i)


def recurrent() -> Any:
    i, x = words()
    heads = [
        L.LSTM(3), L.GRU(3), L.SimpleRNN(3), L.LSTM(3, return_sequences=True), L.GRU(3, return_sequences=True),
        L.SimpleRNN(3, return_sequences=True, go_backwards=True), L.GRU(3, go_backwards=True),
        L.RNN(L.LSTMCell(3), return_sequences=True, zero_output_for_mask=True),
        L.RNN([L.GRUCell(3), L.SimpleRNNCell(2)], return_sequences=True), L.Bidirectional(L.LSTM(3)),
        L.Bidirectional(L.GRU(2, return_sequences=True), merge_mode="ave"),
    ]  # fmt: skip
    outs = [h(x) for h in heads]
    outs += L.LSTM(3, return_state=True)(x)
    both = L.Bidirectional(L.LSTM(2, return_sequences=True, return_state=True), merge_mode=None)(x)
    return keras.Model(i, [*outs, *both, L.GRU(2)(both[1])])


def passed() -> Any:
    """Through layers that pass it on, that drop it, and that make another one."""
    i, x = words()
    kept = L.LayerNormalization()(L.Dropout(0.2)(L.Dense(4, activation="relu")(x)))
    lost = L.Conv1D(4, 3, padding="same")(x)
    wide = L.TimeDistributed(L.Dense(3))(x)
    sums = L.Add()([kept, x])
    joined = L.Concatenate()([kept, x])
    along = L.Concatenate(axis=1)([kept, x])
    inner_in = keras.Input((6, 4))
    inner = keras.Model(inner_in, L.Dense(3)(L.Activation("tanh")(inner_in)), name="inner")(x)
    row = keras.Sequential([L.Dense(3), L.LSTM(2, return_sequences=True), L.GRU(2)], name="row")(x)
    last = [L.GRU(2)(v) for v in (kept, lost, wide, sums, joined, along, inner, x * 2.0)]
    pools = [L.GlobalAveragePooling1D()(v) for v in (x, kept, lost, inner)]
    return keras.Model(i, [*last, *pools, row, L.GlobalMaxPooling1D()(x), L.GlobalAveragePooling1D(keepdims=True)(x)])


def twofold() -> Any:
    """Two masks meet."""
    i, x = words()
    j = keras.Input((6, 4), name="steps")
    y = L.Masking(0.5)(j)
    met = [
        L.Add()([x, y]),
        L.Maximum()([x, y]),
        L.Multiply()([x, y]),
        L.Minimum()([x, j]),
        L.Concatenate()([x, y]),
        L.Add()([x, L.Conv1D(4, 1)(y)]),
    ]
    outs = [L.LSTM(2)(v) for v in met] + [y, L.GRU(2)(y), L.TimeDistributed(L.Dense(2))(y)]
    told = L.LSTM(3)(j, mask=cast(i, "bool"))
    state = L.LSTM(2)(x, initial_state=[L.Dense(2)(L.Flatten()(j)), L.Dense(2)(L.Flatten()(j))])
    return keras.Model(
        [i, j], [*outs, told, state, L.Softmax(axis=1)(L.Reshape((6,))(L.Dense(1)(j)), mask=cast(i, "bool"))]
    )


def attention() -> Any:
    i, _ = words()
    j = keras.Input((6, 4), name="steps")
    many = L.MultiHeadAttention

    def x() -> Any:  # Keras 3 takes the masks off what its MultiHeadAttention reads
        return L.Embedding(9, 4, mask_zero=True)(i)

    def y() -> Any:
        return L.Masking(0.5)(j)

    own = x()
    outs = [
        L.Attention()([x(), y()]), L.Attention(use_scale=True, score_mode="concat")([x(), y(), j]),
        L.Attention(score_mode="concat")([j, x()]), L.AdditiveAttention()([x(), y()]), L.AdditiveAttention()([j, x()]),
        many(2, 3)(x(), y()), many(2, 3)(own, own, use_causal_mask=True), many(2, 3)(j, x()),
        many(2, 3, dropout=0.1)(x(), y(), j), many(2, 3)(j, j, attention_mask=L.Reshape((1, 6))(cast(i, "bool"))),
        L.GRU(2)(many(2, 3)(x(), y())), L.GRU(2)(L.Attention()([x(), y()])),
        *many(2, 3)(j, x(), return_attention_scores=True), L.Attention()([x(), y()], use_causal_mask=True),
        *L.Attention()([j, x()], return_attention_scores=True),
    ]  # fmt: skip
    block = x()
    block = L.LayerNormalization()(L.Add()([block, many(2, 3)(block, block)]))
    return keras.Model([i, j], [*outs, L.GlobalAveragePooling1D()(block)])


def films() -> Any:
    i = keras.Input((4, 5, 5, 2), name="film")
    j = keras.Input((4,), dtype="int32", name="seen")
    seen = cast(j, "bool")
    if KIND == "jax":  # Keras on JAX takes no mask there
        return keras.Model([i, j], L.ConvLSTM2D(2, 3, padding="same")(i))
    outs = [L.ConvLSTM2D(2, 3, padding="same", return_sequences=s)(i, mask=seen) for s in (False, True)]
    return keras.Model([i, j], outs)


def nested() -> Any:
    """Words of sentences: each sentence has a mask of its own."""
    i = keras.Input((3, 6), dtype="int32", name="words")
    x = L.Embedding(9, 4, mask_zero=True)(i)
    return keras.Model(i, [L.TimeDistributed(L.LSTM(3))(x), L.TimeDistributed(L.GlobalAveragePooling1D())(x)])


def row() -> Any:
    return keras.Sequential(
        [keras.Input((6,), dtype="int32", name="words"), L.Embedding(9, 4, mask_zero=True), L.Dropout(0.1),
         L.Bidirectional(L.GRU(3, return_sequences=True)), L.Dense(4), L.GlobalAveragePooling1D()]
    )  # fmt: skip


def inputs_of(model: Any) -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    steps = rng.standard_normal((4, 6, 4)).astype(np.float32)
    steps[0, 4:], steps[1, 0], steps[2, 2] = 0.5, 0.5, 0.5
    given = {"words": WORDS, "steps": steps, "film": rng.standard_normal((4, 4, 5, 5, 2)).astype(np.float32),
             "seen": np.array([[1, 1, 0, 0], [0, 1, 0, 1], [0, 0, 1, 1], [1, 1, 1, 1]], np.int32)}  # fmt: skip
    found = [given[t.name.partition(":")[0]] for t in model.inputs]
    sentences = np.stack([WORDS[[0, 1, 2]], WORDS[[3, 2, 1]]])
    return [sentences if tuple(t.shape[1:]) == (3, 6) else a for t, a in zip(model.inputs, found, strict=True)]


def flat(tree: Any) -> list[np.ndarray]:
    return [np.asarray(v) for v in tree] if isinstance(tree, list | tuple) else [np.asarray(tree)]


def main() -> None:
    for made in (recurrent, passed, twofold, attention, films, nested, row):
        model = made()
        rng = np.random.default_rng(0)
        for weight in model.weights:
            weight.assign(rng.standard_normal(tuple(weight.shape)).astype(np.float32) * 0.7)
        given = inputs_of(model)
        outputs = flat(model(given if len(given) > 1 else given[0]))
        arrays = {f"in{i}": a for i, a in enumerate(given)} | {f"out{i}": a for i, a in enumerate(outputs)}
        np.savez(FOLDER / f"{made.__name__}.npz", **arrays)  # type: ignore[arg-type]
        for suffix in ("keras", "h5"):
            model.save(FOLDER / f"{made.__name__}.{suffix}")


if __name__ == "__main__":
    main()
