"""Runs in a child process: the sweep over Keras' layers and functions, saved with what Keras makes of inputs.

``python keras_sweep.py FOLDER 3|2``: FOLDER/NAME.keras, .h5 (where Keras writes one) and .npz for each family, and
FOLDER/refused_N.keras for each expression that is refused.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import numpy as np

import keras_sweep_tables as tables

FOLDER, MAJOR = Path(sys.argv[1]), int(sys.argv[2])
if MAJOR >= 3:
    import keras
    from keras import ops
else:
    import tf_keras as keras

    ops: Any = None
KNOWN: dict[str, Any] = {"np": np, "ops": ops, "L": keras.layers, "A": keras.activations}


def constant(*shape: int) -> Any:
    return ops.convert_to_tensor(np.random.default_rng(7).standard_normal(shape).astype(np.float32))


def build(expressions: list[str]) -> Any:
    """One output per expression, of the inputs that they name."""
    used = [n for n in tables.SHAPES if any(re.search(rf"(?<![\w.]){n}(?![\w=])", e) for e in expressions)]
    inputs = {n: keras.Input(tables.SHAPES[n][0], dtype=tables.SHAPES[n][1], name=n) for n in used}
    outputs = [eval(e, {**KNOWN, "K": constant, **inputs}) for e in expressions]
    return keras.Model(list(inputs.values()), outputs)


def randomise(model: Any) -> None:
    rng = np.random.default_rng(0)
    for weight in model.weights:
        if "float32" not in str(weight.dtype):
            continue
        name, shape = getattr(weight, "path", weight.name), tuple(weight.shape)
        spread = rng.uniform(0.5, 1.5, shape) if re.search("variance|gamma|scale", name) else None
        weight.assign((rng.standard_normal(shape) * 0.4 if spread is None else spread).astype(np.float32))


def numbers(name: str, rng: np.random.Generator) -> np.ndarray:
    shape, dtype = tables.SHAPES[name]
    if dtype == "float32":
        return rng.standard_normal((2, *shape)).astype(dtype)
    return rng.integers(0, 2 if dtype == "bool" else 5, (2, *shape)).astype(dtype)


def keep(name: str, expressions: list[str]) -> None:
    model = build(expressions)
    randomise(model)
    rng = np.random.default_rng(1)
    given = [numbers(n, rng) for n in model.input_names] if MAJOR < 3 else [numbers(i.name, rng) for i in model.inputs]
    made = model(given if len(given) > 1 else given[0], training=False)
    arrays = [np.asarray(a) for a in (made if isinstance(made, list | tuple) else [made])]
    assert len(arrays) == len(expressions), name
    kept: dict[str, Any] = {f"in{i}": a for i, a in enumerate(given)} | {f"out{i}": a for i, a in enumerate(arrays)}
    np.savez(FOLDER / f"{name}.npz", **kept)
    model.save(FOLDER / f"{name}.keras")
    try:
        model.save(FOLDER / f"{name}.h5")
    except TypeError:  # tensors and generators within the config, which Keras cannot write into such a file
        (FOLDER / f"{name}.h5").unlink(missing_ok=True)


def main() -> None:
    families = {**tables.FUNCTIONS, **tables.LAYERS} if MAJOR >= 3 else tables.LAYERS_2
    for name, expressions in families.items():
        keep(name, expressions)
    for number, expression in enumerate(tables.REFUSED if MAJOR >= 3 else tables.REFUSED_2):
        build([expression]).save(FOLDER / f"refused_{number}.keras")


if __name__ == "__main__":
    main()
