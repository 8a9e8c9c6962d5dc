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
    """Median latency of TFLite files on one engine, measured in turn so that what slows the machine slows all."""
    from instep.runtime import bench as measure
    from instep.runtime import tflite_info

    names = [os.fspath(f) for f in files]
    sizes = {name: tflite_info(name).bytes for name in names}
    measured = measure(names, repeats=repeats, threads=threads, engine=on)
    return Bench(names, measured.median, measured.failed, sizes, threads)
