"""Runs in a child process: live models with a call() of their own, captured, held against what they compute.

``python keras_live_cases.py FOLDER KIND``: KIND is a backend of Keras 3 or keras2. FOLDER/found.json is the result.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

import instep
from instep.capture import CaptureError, capture

keras: Any
FOLDER, KIND = Path(sys.argv[1]), sys.argv[2]
if KIND == "keras2":
    import tensorflow as tf
    import tf_keras as keras

    functions: Any = (tf.matmul, tf.nn.relu, tf.exp)
else:
    import keras
    from keras import ops

    functions = (ops.matmul, ops.relu, ops.exp)
matmul, relu, exp = functions
L: Any = keras.layers
Model: Any = keras.Model


class Mix(L.Layer):
    """Arrays of its own, one by one and in a list."""

    def build(self, shape: Any) -> None:
        self.gain = self.add_weight(name="gain", shape=(shape[-1],), initializer="random_normal")
        self.turns = [
            self.add_weight(name=f"turn{i}", shape=(shape[-1], shape[-1]), initializer="random_normal",
                            trainable=i == 0) for i in range(2)
        ]  # fmt: skip

    def call(self, x: Any) -> Any:
        y = x * (self.gain * 2.0) + 1.0
        for turn in self.turns:
            y = matmul(y, turn)
        return y


class Block(L.Layer):
    def __init__(self, filters: int) -> None:
        super().__init__()
        self.conv = L.Conv2D(filters, 3, padding="same", name="conv")
        self.norm = L.BatchNormalization(name="norm")
        self.mix = Mix()

    def call(self, x: Any, training: Any = None) -> Any:
        return x + relu(self.mix(self.norm(self.conv(x), training=training)))


class Net(Model):
    def __init__(self) -> None:
        super().__init__()
        self.stem = L.Conv2D(6, 3, padding="same", activation="relu")
        self.blocks = [Block(6) for _ in range(2)]
        self.head = keras.Sequential([L.GlobalAveragePooling2D(), L.Dense(5)])
        self.each = L.TimeDistributed(Mix())
        self.drop = L.Dropout(0.3)

    def call(self, x: Any, training: bool = False) -> Any:
        y = self.stem(x)
        for block in [*self.blocks, self.blocks[0]]:
            y = block(y, training=training)
        return {"scores": self.head(self.drop(y, training=training)), "map": self.each(y)}


class Pair(Model):
    def __init__(self) -> None:
        super().__init__()
        self.dense, self.words = L.Dense(3), L.Embedding(9, 3)

    def call(self, x: Any, words: Any) -> Any:
        return self.dense(x) + self.words(words)


class Several(Model):
    def __init__(self) -> None:
        super().__init__()
        self.dense = L.Dense(3)

    def call(self, parts: Any) -> Any:
        a, b = parts
        return [self.dense(a), self.dense(b) + 1.0]


class Cell(L.Layer):
    """A cell of a recurrent layer: Keras does not ship what it computes."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.state_size = self.output_size = 4
        self.inner, self.back = L.Dense(4), L.Dense(4, use_bias=False)

    def build(self, shape: Any) -> None:
        self.inner.build(shape)
        self.back.build((None, 4))
        self.built = True

    def call(self, x: Any, states: Any, training: Any = None) -> Any:
        h = relu(self.inner(x) + self.back(states[0]))
        return h, [h]


class Lambdas(Model):
    def __init__(self) -> None:
        super().__init__()
        self.twice = L.Lambda(lambda v: v * 2.0 + 1.0)
        self.tail = keras.Sequential([keras.Input((4,)), L.Lambda(lambda v: v * v), L.Dense(2)])

    def call(self, x: Any) -> Any:
        return self.tail(self.twice(x))


class Deciding(L.Layer):
    def call(self, x: Any) -> Any:
        if float(np.asarray(x).sum()) > 0:
            return exp(x)
        return x


class Decided(Model):
    def __init__(self) -> None:
        super().__init__()
        self.gate = Deciding()

    def call(self, x: Any) -> Any:
        return self.gate(x)


class Foreign(Model):
    def call(self, x: Any) -> Any:
        if KIND == "jax":
            import jax.numpy as jnp

            return jnp.exp(x)
        import tensorflow

        return tensorflow.exp(x)


def functional() -> Any:
    """Whole layers, an opened one and a Lambda in one functional model."""
    i = keras.Input((8, 8, 6), name="i")
    return keras.Model(i, [Block(6)(i), L.Conv2D(3, 3, name="last")(i), L.Lambda(lambda v: v + 1.0)(i)], name="mixed")


def recurrent() -> Any:
    i = keras.Input((5, 3), name="i")
    return keras.Model(i, L.RNN(Cell(), return_sequences=True, return_state=True)(i))


MODELS: dict[str, tuple[Any, Any]] = {
    "net": (Net, [[2, 8, 8, 3]]), "pair": (Pair, ["2,5,4", "int32:2,5"]), "several": (Several, None),
    "lambdas": (Lambdas, [[2, 4]]), "functional": (functional, [[2, 8, 8, 6]]), "recurrent": (recurrent, [[2, 5, 3]]),
}  # fmt: skip


def flat(tree: Any) -> list[np.ndarray]:
    if isinstance(tree, dict):
        return [np.asarray(tree[k]) for k in sorted(tree)]
    return [np.asarray(v) for v in tree] if isinstance(tree, list | tuple) else [np.asarray(tree)]


def compared(name: str) -> dict[str, Any]:
    """Names of what was captured, and how far it is from what the model computes."""
    made, shapes = MODELS[name]
    model, rng = made(), np.random.default_rng(0)
    if name == "several":  # called before, which tells the shapes
        model([np.zeros((1, 4), np.float32)] * 2)
    captured = capture(model, inputs=shapes)
    graph = captured.graph
    given = [rng.integers(0, 9, v.shape) if v.dtype == "int32" else rng.standard_normal(v.shape) for v in graph.inputs]
    cast = [np.asarray(a, v.dtype) for a, v in zip(given, graph.inputs, strict=True)]
    want = flat(model(*cast) if name == "pair" else model(cast if name == "several" else cast[0]))
    table = graph.run([a.astype("float64") if a.dtype.kind == "f" else a for a in cast], keep=[])
    far = [float(np.abs(table[v] - w).max()) for v, w in zip(graph.outputs, want, strict=True)]
    return {
        "far": far,
        "weights": {v.name: list(v.shape) for v in graph.weights},
        "scopes": [n.scope for n in graph.nodes],
        "outputs": graph.output_names,
        "inputs": graph.input_names,
        "layers": [v.name for v in model.layers],
        "buffers": graph.meta.get("buffers", []),
    }


def refused(model: Any, inputs: Any) -> str:
    try:
        capture(model, inputs=inputs)
    except CaptureError as error:
        return str(error)
    return "captured"


def main() -> None:
    found: dict[str, Any] = {name: compared(name) for name in MODELS}
    proof = instep.convert(Net(), FOLDER / "net.tflite", inputs=[[1, 8, 8, 3]]).verdict
    assert proof is not None
    found["proof"] = [proof.verdict, proof.notes]
    found["said"] = {
        "deciding": refused(Decided(), [[1, 4]]),
        "unbuilt": refused(Decided(), None),
        "layer": refused(L.Dense(3), None),
    }
    if KIND != "keras2":
        found["said"]["foreign"] = refused(Foreign(), [[1, 4]])
    (FOLDER / "found.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main()
