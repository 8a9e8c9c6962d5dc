"""Files that Google's converter makes of networks with loops, fused recurrent layers, variables and complex numbers.

Run as a program, with a folder: TensorFlow and both its Keras live in a process of their own.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.update(KERAS_BACKEND="tensorflow", CUDA_VISIBLE_DEVICES="", TF_CPP_MIN_LOG_LEVEL="3")

import keras
import numpy as np
import tensorflow as tf
import tf_keras

SEQUENCE = (5, 3)


def layers3() -> dict[str, Callable[[], Any]]:
    """Keras 3 keeps its recurrent layers as loops."""
    L = keras.layers
    return {
        "lstm": lambda: L.LSTM(4, return_sequences=True),
        "gru": lambda: L.GRU(4),
        "bidirectional": lambda: L.Bidirectional(L.SimpleRNN(4, return_sequences=True)),
        "cells": lambda: L.RNN(L.StackedRNNCells([L.LSTMCell(4), L.GRUCell(3)])),
        "stateful": lambda: L.LSTM(4, stateful=True),
    }


def layers2() -> dict[str, Callable[[], Any]]:
    """Of Keras 2's the converter makes fused operators."""
    L = tf_keras.layers
    return {
        "fused": lambda: L.LSTM(4, return_sequences=True),
        "fused_both": lambda: L.Bidirectional(L.LSTM(4)),
    }


class Spectrum(tf.Module):
    """Frames, their spectrum by magnitude; parts of it by hand."""

    @tf.function(input_signature=[tf.TensorSpec((2, 48), tf.float32)])
    def call(self, x: Any) -> Any:
        found = tf.signal.stft(x, 16, 8, 16)
        plane = tf.signal.rfft2d(tf.reshape(x, (2, 6, 8)), (8, 4))
        return tf.abs(found), tf.math.real(plane) - tf.math.imag(plane)


class Decided(tf.Module):
    """A branch that the numbers decide, within a loop that constants decide."""

    @tf.function(input_signature=[tf.TensorSpec((2, 4), tf.float32)])
    def call(self, x: Any) -> Any:
        def body(i: Any, x: Any) -> Any:
            y = tf.cond(tf.reduce_sum(x) > 0, lambda: x - 1.0, lambda: tf.tanh(x) + 2.0)
            return i + 1, y * tf.cast(i, tf.float32)

        return tf.while_loop(lambda i, x: i < 4, body, [tf.constant(1), x])[1]


class Asked(tf.Module):
    """A loop whose rounds the numbers decide."""

    @tf.function(input_signature=[tf.TensorSpec((4,), tf.float32)])
    def call(self, x: Any) -> Any:
        return tf.while_loop(lambda x: tf.reduce_sum(x) < 100.0, lambda x: x * x + 1.0, [x])[0]


def network(space: Any, layer: Any) -> Any:
    x = space.Input(SEQUENCE, batch_size=1)
    model = space.Model(x, layer()(x))
    rng = np.random.default_rng(3)
    for weight in model.weights:
        if "state" not in weight.name:
            weight.assign(rng.standard_normal(weight.shape) * 0.5)
    return model


def main(folder: Path) -> None:
    lite = tf.lite.TFLiteConverter
    for space, found in ((keras, layers3()), (tf_keras, layers2())):
        for name, layer in found.items():
            (folder / f"{name}.tflite").write_bytes(lite.from_keras_model(network(space, layer)).convert())
    packed = lite.from_keras_model(network(tf_keras, layers2()["fused"]))
    packed.optimizations, packed.target_spec.supported_types = [tf.lite.Optimize.DEFAULT], [tf.float16]
    (folder / "fused_half.tflite").write_bytes(packed.convert())
    for module in (Spectrum(), Decided(), Asked()):
        made = lite.from_concrete_functions([module.call.get_concrete_function()], module)
        (folder / f"{type(module).__name__.lower()}.tflite").write_bytes(made.convert())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
