"""Runs flat programs on Keras, in a process of its own without Instep: python keras_worker.py FOLDER.

FOLDER/jobs.pickle is a list of jobs: {"source", "weights", "constants", "inputs"}; FOLDER/results.pickle gets for each
one the outputs, the outputs of the model after it was saved as .keras and loaded again, or the error as text.
"""

from __future__ import annotations

import pickle
import sys
import traceback
from pathlib import Path
from typing import Any

import numpy as np

#: Models that are compiled together.
GROUP = 40


def main(folder: Path) -> None:
    import keras

    jobs = pickle.loads((folder / "jobs.pickle").read_bytes())
    results: list[Any] = []
    for first in range(0, len(jobs), GROUP):
        keras.backend.clear_session(free_memory=False)
        part = jobs[first : first + GROUP]
        made: list[Any] = []
        for job in part:
            try:
                made.append(build(job, folder / "model.keras"))
            except Exception:
                made.append(traceback.format_exc())
        results += run(made, [job["inputs"] for job in part])
    assert not [m for m in sys.modules if m.split(".")[0] == "instep"]
    (folder / "results.pickle").write_bytes(pickle.dumps(results))


def run(made: list[Any], inputs: list[list[np.ndarray]]) -> list[Any]:
    """What the models compute; on JAX as one program, since compiling is what takes the time."""
    import keras

    good = [i for i, models in enumerate(made) if not isinstance(models, str)]

    def everything(given: list[list[Any]]) -> list[Any]:
        return [[values(m, x) for m in made[i]] for i, x in zip(good, given, strict=True)]

    if keras.backend.backend() == "jax":
        import jax

        jax.config.update("jax_disable_most_optimizations", True)
        everything = jax.jit(everything)
    found = iter(everything([inputs[i] for i in good]))
    return [m if isinstance(m, str) else [[np.asarray(y) for y in ys] for ys in next(found)] for m in made]


def build(job: dict[str, Any], path: Path) -> list[Any]:
    import keras

    space: dict[str, Any] = {}
    exec(compile(job["source"], "<flat program>", "exec"), space)
    inputs = [keras.Input(batch_shape=x.shape, dtype=str(x.dtype)) for x in job["inputs"]]
    made = space["layers"]()
    constants, own = {}, {}
    for name, array in job["constants"].items():
        own[name] = space["Parameter"](array.shape, str(array.dtype), trainable=array.dtype.kind == "f")
        constants[name] = own[name](inputs[0])
    outputs = space["forward"](made, constants, *inputs)
    model = keras.Model(inputs, list(outputs))
    for name, array in job["constants"].items():
        own[name].value.assign(array)
    for name, arrays in job["weights"].items():
        weights = {w.name: w for w in made[name].weights}
        assert set(weights) == set(arrays), f"{name} has {sorted(weights)}, the rule {sorted(arrays)}"
        for key, array in arrays.items():
            assert tuple(weights[key].shape) == array.shape, (key, weights[key].shape, array.shape)
            weights[key].assign(array)
    if not job["save"]:
        return [model]
    model.save(path)
    return [model, keras.saving.load_model(path)]


def values(model: Any, inputs: list[Any]) -> list[Any]:
    outputs = model(inputs)
    return list(outputs) if isinstance(outputs, list | tuple) else [outputs]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
