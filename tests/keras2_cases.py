"""Runs in a child process: networks of Keras 2 (tf_keras), saved as .keras and .h5, with what Keras makes of inputs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras

L = keras.layers


def layers() -> Any:
    i = keras.Input((16, 16, 8), name="img")
    inner = keras.Sequential(
        [keras.Input((16, 16, 8)), L.Conv2D(8, 3, padding="same"), L.BatchNormalization(), L.Activation("relu")],
        name="inner",
    )
    x = L.SeparableConv2D(8, 3, strides=2, depth_multiplier=2)(inner(i))
    x = tf.nn.relu6(1 - (x * 2.0 + 1.0))[:, 1:, :, :4]
    x = tf.reshape(tf.concat([x, x], axis=-1), (-1, 42, 8))
    x = tf.reduce_mean(tf.transpose(x, (0, 2, 1)), axis=1, keepdims=True)
    x = tf.reshape(x, (-1, 6, 7))
    x = L.MultiHeadAttention(2, 4)(x, x)
    y = L.TimeDistributed(L.Dense(2))(L.Bidirectional(L.LSTM(3, return_sequences=True))(x))
    norm = L.Normalization(axis=-1)
    norm.build((None, 6, 7))
    return keras.Model(i, [y, L.GRU(3)(x), L.LayerNormalization()(norm(x))])


def functions() -> Any:
    i = keras.Input((8, 8, 12), name="img")
    x = L.Conv2D(12, 3, padding="same", activation="hard_sigmoid", name="stage1/conv")(i)
    outs = [
        tf.nn.depth_to_space(x, 2),
        tf.nn.space_to_depth(x, 2),
        tf.image.resize(x, (11, 5)),
        tf.image.resize(x, (16, 16), method="nearest"),
        tf.clip_by_value(x, 0.2, 0.6),
        tf.math.add(x, 1.0),
        tf.maximum(x, 0.5),
        tf.split(x, 3, axis=-1)[1],
        tf.pad(x, [[0, 0], [1, 1], [2, 0], [0, 0]], mode="REFLECT"),
        tf.nn.leaky_relu(x),
        tf.nn.softmax(x),
        tf.nn.gelu(x),
        tf.nn.silu(x),
        tf.math.l2_normalize(x, axis=-1),
        tf.stack([x, x], axis=1),
        tf.squeeze(tf.reduce_sum(x, axis=1, keepdims=True), 1),
        tf.expand_dims(x, 1),
        tf.math.sqrt(tf.abs(x)),
        x**2,
        x / 3,
        -x,
        tf.sigmoid(x),
        tf.tile(x, [1, 2, 1, 1]),
        tf.repeat(x, 2, axis=1),
        tf.gather(x, [1, 0], axis=1),
        tf.matmul(x, x, transpose_b=True),
        L.LeakyReLU(0.2)(x),
        L.LeakyReLU()(x),
        L.ReLU(6.0)(x),
        L.ThresholdedReLU(0.5)(x),
        L.ZeroPadding2D(((0, 1), (0, 1)))(x),
    ]
    return keras.Model(i, outs)


def states() -> Any:
    i = keras.Input((5, 4), name="x")
    y, *last = L.Bidirectional(L.LSTM(3, return_sequences=True, return_state=True))(i)
    both = L.Bidirectional(L.LSTM(3), merge_mode="sum")(i, initial_state=last)
    word, h, c = L.LSTM(3, return_sequences=True, return_state=True)(y, initial_state=last[2:])
    film = L.Reshape((2, 2, 5, 1))(i)
    seen, *kept = L.ConvLSTM2D(2, 3, padding="same", return_state=True)(film)
    again = L.ConvLSTM2D(2, 3, padding="same")(film, initial_state=kept)
    cell = L.RNN([L.GRUCell(3), L.SimpleRNNCell(3)])(i, initial_state=[h, c])
    heard = L.AdditiveAttention()([L.Dense(3)(i), word])
    return keras.Model(i, [y, *last, both, word, seen, again, cell, heard])


def randomise(model: Any) -> None:
    """Weights as training might leave them."""
    rng = np.random.default_rng(0)
    for weight in model.weights:
        if weight.dtype == tf.float32:
            positive = "variance" in weight.name or "gamma" in weight.name
            value = rng.uniform(0.5, 1.5, weight.shape) if positive else rng.standard_normal(weight.shape) * 0.4
            weight.assign(value.astype(np.float32))
    for layer in model.layers:
        if isinstance(layer, L.Normalization):
            layer.finalize_state()


def main(folder: Path) -> None:
    for made in (layers, functions, states):
        model = made()
        randomise(model)
        x = np.random.default_rng(1).standard_normal((2, *model.inputs[0].shape[1:])).astype(np.float32)
        outputs = [a.numpy() for a in tf.nest.flatten(model(x, training=False))]
        np.savez(folder / f"{made.__name__}.npz", in0=x, **{f"out{i}": a for i, a in enumerate(outputs)})
        model.save(folder / f"{made.__name__}.keras")
        model.save(folder / f"{made.__name__}.h5")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
