"""A network's text on trial: parsed, with the weights beside it, and run by the meanings of its operators."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from instep.graph import Graph, SourceView
from instep.graph.text import parse
from instep.verify.inputs import Picture
from instep.verify.lossy import Figures
from instep.verify.mapping import Mapping
from instep.verify.noise import LIMITS, Limits
from instep.verify.plan import inputs_of
from instep.verify.reference import Reference
from instep.verify.subject import GraphSubject
from instep.verify.verdict import Verdict
from instep.verify.verify import judge

__all__ = ["verify_text"]


def verify_text(
    reference: Reference,
    file: str | Path,
    *,
    graph: Graph,
    images: str | Path | Sequence[str | Path] | None = None,
    inputs: Sequence[Sequence[np.ndarray]] | None = None,
    seed: int = 0,
    picture: Picture | None = None,
    figures: Figures | None = None,
    limits: Limits = LIMITS,
) -> Verdict:
    """Prove a text against its source: inputs and outputs at the same places, values inside by their names.

    Raises TextError for a text with a mistake, ValueError where its inputs or outputs have other shapes.
    """
    made = parse(os.fspath(file), inputs=[list(v.shape) for v in graph.inputs], seed=seed)
    for what, theirs, ours in (("inputs", made.inputs, graph.inputs), ("outputs", made.outputs, graph.outputs)):
        shapes = [[list(v.shape) for v in side] for side in (theirs, ours)]
        if shapes[0] != shapes[1]:
            raise ValueError(f"{file} has {what} {shapes[0]}, the source {shapes[1]}: these cannot be compared")
    sets, draws = inputs_of(reference, graph, images=images, given=inputs or (), seed=seed, picture=picture)
    subject = GraphSubject(made, [v.name for v in graph.inputs])
    shapes = {v.name: v.shape for v in graph.values() if v not in graph.weights}
    subject.mapping = Mapping(
        {v.name: SourceView.whole(v.name, v.shape) for v in made.values() if shapes.get(v.name) == v.shape},
        [SourceView.whole(v.name, v.shape) for v in graph.inputs],
        [SourceView.whole(v.name, v.shape) for v in graph.outputs],
    )
    return judge(
        reference, subject, sets, graph=graph, draws=draws, seed=seed, limits=limits, figures=figures
    )  # fmt: skip
