"""The verbs ``show`` and ``bench``: what a network or a file is made of, and how long files take."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from instep.report.results import Bench
from instep.verbs.capture import capture
from instep.verbs.sources import is_tflite

if TYPE_CHECKING:
    from instep.report.table import Table

__all__ = ["bench", "show"]


def show(
    source: Any,
    *,
    weights: str | os.PathLike[str] | None = None,
    inputs: Any = None,
    args: Mapping[str, Any] | None = None,
    seed: int = 0,
) -> Table:
    """The table of a network or of a TFLite file: scopes, operators, shapes, parameters, multiply-accumulates."""
    from instep.report.table import table_of_file, table_of_graph

    if is_tflite(source):
        from instep.runtime import tflite_info

        return table_of_file(tflite_info(os.fspath(source)))
    captured = capture(source, weights=weights, inputs=inputs, args=args, seed=seed)
    return table_of_graph(captured.graph, captured.source, captured.notes)


def bench(
    files: Sequence[str | os.PathLike[str]], *, repeats: int = 15, threads: int = 1, on: str = "xnnpack"
) -> Bench:
    """Median latency of TFLite files on one engine, measured in turn so that what slows the machine slows all.

    On an engine that only compiles ("ethos-u55-128" …) its compiler's estimate of each file, which nothing runs.
    """
    from instep.runtime import bench as measure
    from instep.runtime import engine_of, place, tflite_info

    engine = engine_of(on)
    names = [os.fspath(f) for f in files]
    sizes = {name: tflite_info(name).bytes for name in names}
    if not engine.runs:
        placed = {name: place(name, engine.name) for name in names}
        refused = {name: p.message for name, p in placed.items() if p.outcome != "compiled"}
        compiled = {name: p for name, p in placed.items() if name not in refused}
        return Bench(names, {}, refused, sizes, threads, engine.name, compiled)
    measured = measure(names, repeats=repeats, threads=threads, engine=engine.name)
    return Bench(names, measured.median, measured.failed, sizes, threads, engine.name)
