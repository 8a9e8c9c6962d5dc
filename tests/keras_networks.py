"""Runs exported Keras networks in a process of its own without Instep: python keras_networks.py FOLDER.

Every FOLDER/NAME.py, with its weights beside it, is given the arrays of NAME.npz. FOLDER/results.pickle gets by name
what it computes, what three samples give that are those arrays, what a .keras file of it computes, its running
statistics after a batch in training mode, and what a step of ``fit`` does to its weights.
"""

from __future__ import annotations

import importlib.util
import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np


def main(folder: Path) -> None:
    results = {path.stem: run(path) for path in sorted(folder.glob("*.py"))}
    assert not [m for m in sys.modules if m.split(".")[0] == "instep"]
    (folder / "results.pickle").write_bytes(pickle.dumps(results))


def run(path: Path) -> dict[str, Any]:
    import keras

    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with np.load(path.with_suffix(".npz")) as arrays:
        inputs = [arrays[str(i)] for i in range(len(arrays))]
    model = module.load()
    found: dict[str, Any] = {"outputs": values(model, inputs), "names": [layer.name for layer in model.layers]}
    if model.inputs[0].shape[0] is None:
        found["three"] = values(model, [np.concatenate([x] * 3) for x in inputs])
    written = path.with_suffix(".keras")
    if not written.exists():
        model.save(written)
    found["reloaded"] = values(keras.saving.load_model(written), inputs)
    return found | trained(model, inputs)


def values(model: Any, inputs: list[np.ndarray], training: bool = False) -> list[np.ndarray]:
    outputs = model(inputs if len(inputs) > 1 else inputs[0], training=training)
    return [np.asarray(y) for y in (outputs if isinstance(outputs, list | tuple) else [outputs])]


def trained(model: Any, inputs: list[np.ndarray]) -> dict[str, Any]:
    """Statistics after one batch, and what one step of gradient descent does."""
    values(model, inputs, training=True)
    kept = {f"{layer.name}.{w.name}": np.array(w) for layer in model.layers for w in layer.non_trainable_weights}
    before = [np.array(w) for w in model.trainable_weights]
    targets = [np.zeros([d or len(inputs[0]) for d in y.shape], "float32") for y in model.outputs]
    model.compile(optimizer="sgd", loss=["mse"] * len(targets))
    read, want = (x if len(x) > 1 else x[0] for x in (inputs, targets))
    history = model.fit(read, want, batch_size=len(inputs[0]), epochs=1, verbose=0)
    moved = [not np.array_equal(a, np.array(w)) for a, w in zip(before, model.trainable_weights, strict=True)]
    return {"statistics": kept, "moved": moved, "loss": history.history["loss"]}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
