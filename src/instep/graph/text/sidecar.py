"""The weights beside a text: a safetensors file, loaded by name, that also keeps the names of values."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from instep.graph.core import Graph, Value
from instep.graph.text.errors import TextError
from instep.whole import written

__all__ = ["known_values", "load_weights", "restore", "save_weights"]

#: The metadata key of what a text does not say: the names of values, in order.
KEY = "instep.text"
#: Of no more values than these does a file allow more steps to its text.
MAX_KNOWN = 200_000


def save_weights(
    graph: Graph,
    path: str | os.PathLike[str],
    constants: Sequence[Value] = (),
    renamed: Mapping[str, Value] | None = None,
) -> None:
    """Write the weights of ``graph``, whole or not at all.

    ``constants`` are in the text, in this order; ``renamed`` are those that the text calls otherwise, by that name.
    """
    from safetensors.numpy import save as pack

    names = {
        "values": [v.name for v in graph.inputs] + [v.name for n in graph.nodes for v in n.outputs],
        "weights": [v.name for v in graph.weights],
        "constants": [v.name for v in constants],
        "inputs": graph.input_names,
        "outputs": graph.output_names,
        "renamed": {name: v.name for name, v in (renamed or {}).items()},
    }
    said = set(constants)
    called = {v: name for name, v in (renamed or {}).items()}
    data = pack(
        {called.get(v, v.name): np.array(a, order="C") for v, a in graph.weights.items() if v not in said},
        metadata={KEY: json.dumps(names, separators=(",", ":"))},
    )
    with written(path) as file:
        file.write(data)


def load_weights(
    weights: str | os.PathLike[str] | Mapping[str, np.ndarray],
    wanted: Mapping[str, Value],
    optional: set[str],
    text: str,
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The arrays of ``wanted`` by name, and what the file says besides. Raises TextError listing what does not fit."""
    names: dict[str, Any] = {}
    if isinstance(weights, Mapping):
        arrays, where = dict(weights), "the weights given"
    else:
        where = os.fspath(weights)
        arrays, names = _open(where)
    missing = [n for n in wanted if n not in arrays and n not in optional]
    strange = [n for n in arrays if n not in wanted]
    wrong = [
        f"{n} is {list(arrays[n].shape)}, needs {list(v.shape)}"
        for n, v in wanted.items()
        if n in arrays and tuple(arrays[n].shape) != v.shape
    ]
    said = [
        f"{len(found)} {what}: {', '.join(found[:5])}{' …' if len(found) > 5 else ''}"
        for what, found in (("missing", missing), ("of another shape", wrong), ("not in the network", strange))
        if found and (what != "not in the network" or not all(n.endswith("num_batches_tracked") for n in found))
    ]
    if said:
        raise TextError(f"{where} does not fit {text}: {'; '.join(said)}")
    return {n: np.asarray(arrays[n], dtype=v.dtype) for n, v in wanted.items() if n in arrays}, names


def known_values(path: str | os.PathLike[str]) -> int:
    """Of how many values a file of weights knows the names: so large a network its text may become."""
    from safetensors import SafetensorError, safe_open

    if not os.fspath(path).endswith(".safetensors"):
        return 0
    try:
        with safe_open(os.fspath(path), framework="numpy") as file:
            names = json.loads((file.metadata() or {}).get(KEY, "{}"))
    except (SafetensorError, OSError, TypeError, ValueError):
        return 0  # that it cannot be read is said where it is
    return min(len(_words(names.get("values"))), MAX_KNOWN) if isinstance(names, dict) else 0


def _open(path: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            said = (file.metadata() or {}).get(KEY)
    except (SafetensorError, OSError, TypeError) as error:
        raise TextError(f"{path} is no readable safetensors file: {error}") from None
    try:
        names = json.loads(said) if said else {}
    except ValueError:
        names = {}
    return arrays, names if isinstance(names, dict) else {}


def restore(graph: Graph, names: Mapping[str, Any], constants: Sequence[Value]) -> None:
    """Give values the names that they had, and weights their order, where the file fits the graph.

    ``constants`` are those that the text gives in numbers, in its order.
    """
    values = [*graph.inputs, *(v for n in graph.nodes for v in n.outputs), *constants]
    kept = [*_words(names.get("values")), *_words(names.get("constants"))]
    said = set(constants)
    renamed = names.get("renamed")
    renamed = {str(k): str(v) for k, v in renamed.items()} if isinstance(renamed, dict) else {}
    others = {v: renamed.get(v.name, v.name) for v in graph.weights if v not in said}
    every = [*kept, *others.values()]
    if len(kept) != len(values) or len(set(every)) != len(every):
        return
    for value, name in [*zip(values, kept, strict=True), *others.items()]:
        value.name = name
    order = _words(names.get("weights"))
    by_name = {v.name: v for v in graph.weights}
    if len(order) == len(by_name) and set(order) == set(by_name):
        graph.weights = {by_name[n]: graph.weights[by_name[n]] for n in order}
    for key, mine in (("inputs", graph.input_names), ("outputs", graph.output_names)):
        if len(said := _words(names.get(key))) == len(mine):
            mine[:] = said


def _words(entry: Any) -> list[str]:
    return [str(e) for e in entry] if isinstance(entry, list) else []
