"""What stands for layers that symbolic tensors do not go through: wrappers written out, and arrays as layers."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

__all__ = ["WRITTEN", "parameter"]


def each(functions: Any, layer: Any, x: Any, **_: Any) -> Any:
    """TimeDistributed of an opened layer: time becomes part of the batch."""
    shape = tuple(int(n) for n in x.shape)
    made = layer.layer(functions.reshape(x, (shape[0] * shape[1], *shape[2:])))
    return functions.reshape(made, (*shape[:2], *(int(n) for n in made.shape[1:])))


def steps(functions: Any, layer: Any, x: Any, initial_state: Any = None, mask: Any = None, **_: Any) -> Any:
    """RNN of a cell that was opened, step by step."""
    if mask is not None:
        raise NotImplementedError("a mask reaches an RNN whose cell is not Keras' own")
    state = initial_state
    if state is None:
        cell, of = layer.cell, {"batch_size": int(x.shape[0])}
        made = getattr(cell, "get_initial_state", None)
        if made is not None:
            state = made(**of) if hasattr(functions, "convert_to_numpy") else made(dtype="float32", **of)
        else:
            sizes = cell.state_size if isinstance(cell.state_size, list | tuple) else [cell.state_size]
            state = [functions.zeros((of["batch_size"], int(n))) for n in sizes]
    state = list(state) if isinstance(state, list | tuple) else [state]
    outputs: list[Any] = []
    times = range(int(x.shape[1]))
    for t in reversed(times) if layer.go_backwards else times:
        y, state = layer.cell(x[:, t], state)
        state = list(state) if isinstance(state, list | tuple) else [state]
        outputs.append(y)
    whole = functions.stack(outputs, axis=1) if layer.return_sequences else outputs[-1]
    return [whole, *state] if layer.return_state else whole


#: Layers of Keras that call others in ways that symbolic tensors do not go.
WRITTEN = {"TimeDistributed": each, "RNN": steps}


_classes: dict[str, type] = {}


def parameter(keras: Any) -> type:
    """The layer whose result is an array of an opened layer, in the Keras at hand."""
    home = keras.__name__
    if home in _classes:
        return _classes[home]

    class Parameter(keras.layers.Layer):
        """An array that a layer with a call() of its own holds."""

        def __init__(self, value: Any, trainable: bool = True, kind: str = "float32", **options: Any) -> None:
            super().__init__(**options)
            shape = tuple(value.shape) if isinstance(value, np.ndarray) else tuple(value)
            self.array_shape, self.kind = shape, str(value.dtype) if isinstance(value, np.ndarray) else kind
            self.trainable = trainable
            start = (lambda *_, **__: value) if isinstance(value, np.ndarray) else "zeros"
            self.value = self.add_weight(
                name="value", shape=shape, dtype=self.kind, initializer=start, trainable=trainable
            )

        def call(self, inputs: Any) -> Any:
            if home == "keras" and hasattr(keras, "ops"):
                return keras.ops.convert_to_tensor(self.value)
            return sys.modules["tensorflow"].identity(self.value)

        def get_config(self) -> dict[str, Any]:
            shape = list(self.array_shape)
            return {**super().get_config(), "value": shape, "shape": shape, "kind": self.kind}

        @classmethod
        def from_config(cls, config: dict[str, Any], **_: Any) -> Any:
            return cls(**{k: v for k, v in config.items() if k != "shape"})

    register = keras.saving.register_keras_serializable("instep.capture")
    _classes[home] = register(Parameter)
    return _classes[home]
