"""Which inputs a proof runs on, and how often: as many as the network's cost allows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from instep.graph import Graph
from instep.verify.indices import index_bounds
from instep.verify.inputs import InputSet, Picture, make_inputs
from instep.verify.reference import Reference

__all__ = ["inputs_of", "plan"]


def plan(specs: Sequence[Any], macs: int) -> tuple[tuple[str, ...], int]:
    """(kinds of input sets, float32 draws with nudged inputs) for a network of ``macs`` multiply-accumulates.

    Small networks get every kind; large ones the two that see most. The choice depends on the network alone, so that
    a proof does not depend on how busy the machine is.
    """
    work = macs + 20 * sum(s.size for s in specs)
    if work <= 1e8:
        return ("noise", "natural", "mosaic", "zeros", "constant", "large"), 2
    if work <= 2e9:
        return ("noise", "mosaic", "zeros"), 1
    if work <= 2e10:
        return ("noise", "natural"), 1
    return ("natural",), 1


def _macs(graph: Graph | None) -> int:
    if graph is None:
        return 0
    return sum(n.op.macs([v.spec for v in n.inputs], [v.spec for v in n.outputs]) for n in graph.nodes)


def inputs_of(
    reference: Reference,
    graph: Graph | None,
    *,
    images: str | Path | Sequence[str | Path] | None = None,
    given: Sequence[Sequence[np.ndarray]] = (),
    seed: int = 0,
    picture: Picture | None = None,
) -> tuple[list[InputSet], int]:
    """(input sets, float32 draws with nudged inputs) of a proof of ``reference``; the same for the same arguments."""
    specs = list(reference.input_specs)
    kinds, draws = plan(specs, _macs(graph))
    bounds = index_bounds(graph) if graph is not None else {}
    sets = make_inputs(specs, seed=seed, images=images, picture=picture, bounds=bounds, given=given, kinds=kinds)
    return sets, draws
