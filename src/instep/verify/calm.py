"""Inputs that a network can take: where one makes it leave the range of float32, the same with less contrast.

A network without normalisation that squares its features (gates, attention by channel variance) can answer noise, which
it was not trained for, with 1e39: its own float32 run overflows there, and two healthy engines, which add in different
orders, overflow at different places. Nothing can be judged on such an input.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from instep.graph import Graph, Node
from instep.verify.inputs import InputSet
from instep.verify.noise import Noise, terms
from instep.verify.reference import Reference

__all__ = ["beyond", "calmed", "less"]

#: What a convolution or a product of matrices reads or gives may not be larger: sums on the way go up to 3.4e38.
ENORMOUS = 1e30
#: What is left of an input's contrast, tried in this order.
SHARES = (1 / 4, 1 / 16, 1 / 64, 0.0)


def less(array: np.ndarray, share: float) -> np.ndarray:
    """``array`` with a ``share`` of its contrast: deviations from its mean times that. Integers stay."""
    if array.dtype.kind != "f":
        return array
    middle = array.mean(dtype=np.float64)
    return (middle + (array - middle) * share).astype(array.dtype)


def beyond(graph: Graph | None, peaks: Mapping[str, float]) -> Node | None:
    """The first node whose sums of products overflow, or may, where values are as large as ``peaks`` says by name."""
    for node in graph.nodes if graph is not None else ():
        if terms(node)[1] and any(peaks.get(v.name, 0.0) > ENORMOUS for v in (node.inputs[0], node.output)):
            return node
    return None


def calmed(reference: Reference, sets: Sequence[InputSet], graph: Graph) -> tuple[list[InputSet], list[str]] | None:
    """``sets`` with those calmed that are too much for the network, and a note on each; None where none could be."""
    made: list[InputSet] = []
    notes: list[str] = []
    keep = [v.name for n in graph.nodes if terms(n)[1] for v in (n.inputs[0], n.output)]

    def wild(arrays: Sequence[np.ndarray]) -> Node | None:
        values = reference.run(list(arrays), dtype="float64", keep=keep)
        level = Noise()
        for name in (n for n in keep if n in values):
            level.begin(name, values[name])
        return beyond(graph, level.scale_peak)

    for given in sets:
        made.append(given)
        node = wild(given.arrays)
        if node is None:
            continue
        for share in SHARES:
            arrays = tuple(less(a, share) for a in given.arrays)
            if wild(arrays) is None:
                made[-1] = replace(given, name=f"{given.name}·{share:g}", arrays=arrays)
                notes.append(
                    f"on the input '{given.name}' the source itself leaves the range of float32 at {node.op.name} "
                    f"'{node.scope or node.output.name}': judged with {share:g} of its contrast"
                )
                break
    return (made, notes) if notes else None
