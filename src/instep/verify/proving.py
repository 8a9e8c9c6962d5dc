"""The pipeline on trial: every rewrite under proof on request, and the step to blame for a file out of step."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from instep.graph import Graph, GraphError
from instep.verify.calm import calmed
from instep.verify.culprit import Stage, find_culprit
from instep.verify.indices import index_bounds
from instep.verify.inputs import make_inputs
from instep.verify.mapping import mapping_of
from instep.verify.noise import HALF, SINGLE
from instep.verify.plan import inputs_of
from instep.verify.reference import GraphReference
from instep.verify.subject import shown_inputs, to_source

if TYPE_CHECKING:
    from instep.capture import Captured
    from instep.rewrite.driver import PassReport
    from instep.verify import Verdict

__all__ = ["Pipeline", "blame", "prover"]

#: Runs the rewrites on the captured graph; called with ``prove`` as ``rewrite.driver.run`` takes it.
Pipeline = Callable[[Callable[[Graph, Graph, str], object]], tuple[Graph, "list[PassReport]"]]


def blame(
    captured: Captured, pipeline: Pipeline, file: Path, verdict: Verdict, *, half: bool = False, seed: int = 0,
    **inputs: Any,
) -> None:  # fmt: skip
    """Run ``pipeline`` again and write into ``verdict`` which of its steps made ``file`` leave the source, if any did.

    ``inputs`` are the ``images`` and ``picture`` of the proof. A search that fails is a note of the verdict: it never
    costs the conversion. Nothing is searched for where nothing was computed.
    """
    if verdict.verdict not in ("drifting", "out of step"):
        return
    graphs: list[Graph] = []
    try:
        _, passes = pipeline(lambda before, after, name: graphs.append(after.copy()))
        made = zip(passes, graphs, strict=True)
        stages = [Stage("", captured.graph), *(Stage(p.name, g, p.exact) for p, g in made)]
        sets, _ = inputs_of(captured.reference, captured.graph, seed=seed, **inputs)
        unit = HALF if half else SINGLE
        verdict.culprit = find_culprit(captured.reference, stages, file, verdict, sets, unit=unit, seed=seed)
    except (ValueError, RuntimeError, IndexError, TypeError, KeyError, ArithmeticError, MemoryError) as error:
        verdict.notes.append(f"which step is to blame could not be found: {type(error).__name__}: {error}")
        return
    if verdict.culprit is None:
        verdict.notes.append(
            f"no single step is to blame: run in float64, the graph agrees with the source after each of {len(graphs)} "
            "rewrites, and the file with the last graph"
        )


def prover(captured: Captured, seed: int) -> Callable[[Any, Any, str], float]:
    """For ``prove_each``: runs the graph after each rewrite in float64 and compares it with the captured one.

    The result is the largest change of any output in units of that output's float32 rounding noise, so that 1 is
    what single precision does to the network anyway.
    """
    first = captured.graph
    names = [v.name for v in first.inputs]
    shapes = {v.name: v.shape for v in first.values()}
    sets = make_inputs([v.spec for v in first.inputs], seed=seed, bounds=index_bounds(first), kinds=("noise",))
    calm = calmed(GraphReference(first), sets, first)
    given = (sets if calm is None else calm[0])[0]

    def outputs(graph: Any, dtype: str) -> dict[str, np.ndarray]:
        mapping = mapping_of(graph)
        arrays = [a.astype(dtype) if a.dtype.kind == "f" else a for a in shown_inputs(mapping, names, given.arrays)]
        table = graph.run(arrays, keep=())
        shown = zip(graph.outputs, first.outputs, mapping.outputs, strict=True)
        return {
            f"{i}": table[made] if view is None else to_source(table[made], view, shapes[view.name])
            for i, (made, _, view) in enumerate(shown)
        }

    truth, single = outputs(first, "float64"), outputs(first, "float32")
    floor = float(np.finfo(np.float32).eps)

    def prove(before: Any, after: Any, name: str) -> float:
        worst = 0.0
        for key, now in outputs(after, "float64").items():
            was = np.asarray(truth[key], np.float64)
            if now.size != was.size:
                raise GraphError(f"rewrite {name!r} changed the shape of output {key}: please report this network")
            size = float(np.max(np.abs(was), initial=0.0))
            noise = max(float(np.max(np.abs(single[key] - was), initial=0.0)), floor * size, 1e-30)
            worst = max(worst, float(np.max(np.abs(now.reshape(was.shape) - was), initial=0.0)) / noise)
        return worst

    return prove
