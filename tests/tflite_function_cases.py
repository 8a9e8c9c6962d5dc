"""Files that Google's converter makes of single TensorFlow functions, and of small Keras networks with names.

Run as a program, with a folder: TensorFlow lives in a process of its own.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.update(KERAS_BACKEND="tensorflow", CUDA_VISIBLE_DEVICES="", TF_CPP_MIN_LOG_LEVEL="3")

import keras
import tensorflow as tf

A, M = (4, 3, 5), (3, 5)
Case = tuple[Callable[..., Any], tuple[tuple[int, ...], ...]]


def whole(x: Any, most: float = 4.0) -> Any:
    """Indices that are computed."""
    return tf.cast(tf.minimum(abs(x), most), tf.int32)


FUNCTIONS: dict[str, Case] = {
    "scatter_twice": (lambda x: tf.scatter_nd([[3], [1], [3], [3]], x, [5, 3]), ((4, 3),)),
    "scatter_computed": (lambda x, at: tf.scatter_nd(whole(at), x, [5, 5]), (M, (3, 1))),
    "scatter_computed_pairs": (lambda x, at: tf.scatter_nd(whole(at), x, [5, 6]), ((7,), (7, 2))),
    "update_computed": (lambda x, at, y: tf.tensor_scatter_nd_update(x, whole(at, 2.0), y), (M, (1, 1), (1, 5))),
    "add_twice": (lambda x, y: tf.tensor_scatter_nd_add(x, [[2], [2]], y), (M, (2, 5))),
    "confusion": (lambda x: tf.math.confusion_matrix([0, 1, 2], whole(x, 2.0), 3), ((3,),)),
    "set_diagonal": (lambda x, d: tf.linalg.set_diag(x, d), ((2, 4, 4), (2, 4))),
    "xor": (lambda x: tf.bitwise.bitwise_xor(tf.cast(x * 99, tf.int32), -11), (A,)),
    "shift": (lambda x: tf.bitwise.right_shift(tf.cast(x * 99, tf.int32), 2), (A,)),
    "spectrum_squared": (lambda x: abs(tf.signal.rfft(x) * tf.signal.rfft(x)), ((2, 16),)),
    "indexed": (lambda x: x[3:0:-1, tf.newaxis, ..., 4::-2], (A,)),
    "gathered": (lambda x, at: tf.gather(x, whole(at, 2.0), axis=1, batch_dims=1), (A, (4, 2))),
    "found": (lambda x: tf.where(x > 0), (A,)),
    "kept": (lambda boxes, scores: tf.image.non_max_suppression(boxes, scores, 5), ((9, 4), (9,))),
}


def unet() -> Any:
    layers = keras.layers
    given = keras.Input((8, 8, 3), batch_size=1)
    x = layers.Conv2D(4, 3, padding="same", use_bias=False, name="down")(given)
    skip = layers.ReLU()(layers.BatchNormalization()(x))
    x = layers.Conv2D(6, 3, padding="same", activation="relu", name="middle")(layers.MaxPooling2D()(skip))
    x = layers.Conv2DTranspose(4, 2, strides=2, name="up")(x)
    x = layers.DepthwiseConv2D(3, padding="same", name="mixed")(layers.Concatenate()([x, skip]))
    return keras.Model(given, layers.Conv2D(2, 1, activation="sigmoid", name="head")(layers.BatchNormalization()(x)))


def recurrent() -> Any:
    layers = keras.layers
    given = keras.Input((6, 5), batch_size=1)
    x = layers.GRU(7, return_sequences=True, name="first")(given)
    return keras.Model(given, layers.Dense(3, name="head")(layers.GRU(4, name="second")(x)))


def written(function: Callable[..., Any], shapes: tuple[tuple[int, ...], ...], path: Path) -> None:
    specs = [tf.TensorSpec(shape, tf.float32) for shape in shapes]
    concrete = tf.function(lambda *given: function(*given)).get_concrete_function(*specs)
    path.write_bytes(tf.lite.TFLiteConverter.from_concrete_functions([concrete]).convert())


def main(folder: Path) -> None:
    keras.utils.set_random_seed(1)
    for name, (function, shapes) in FUNCTIONS.items():
        written(function, shapes, folder / f"{name}.tflite")
    for make in (unet, recurrent):
        model = make()
        written(
            lambda x, model=model: model(x, training=False),
            (model.inputs[0].shape,),
            folder / f"{make.__name__}.tflite",
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
