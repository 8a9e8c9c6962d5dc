"""What Instep writes about a file into the file: where it comes from and what each tensor is in the source."""

from __future__ import annotations

import json
import math
from typing import Any

from instep.graph import Graph, SourceView

__all__ = ["MIN_RUNTIME", "pack", "unpack_views"]

#: First TensorFlow release whose kernels know every operator version that the emitter writes.
MIN_RUNTIME = "2.15.0"


def pack(graph: Graph, extra: dict[str, Any] | None) -> dict[str, bytes]:
    """The file's metadata entries: "min_runtime_version" and "instep" (JSON).

    The JSON holds ``version``, the graph's ``meta``, what the caller adds, ``origins``: tensor → the source line that
    its operator comes from, and ``views``: tensor → source value, as its name alone where it is the source value
    itself, else ``[name, perm, shape]`` (see SourceView).
    """
    from instep import __version__

    views: dict[str, Any] = {}
    for value in [*graph.inputs, *(v for n in graph.nodes for v in n.outputs), *graph.outputs]:
        view = value.source
        if view is None:
            continue
        plain = view.perm == tuple(range(len(view.perm)))
        views[value.name] = view.name if plain and len(view.perm) == len(view.shape) else [
            view.name, list(view.perm), list(view.shape)
        ]  # fmt: skip
    origins = {value.name: node.origin for node in graph.nodes if node.origin for value in node.outputs}
    facts = {"version": __version__, **_plain(graph.meta), **(extra or {}), "origins": origins, "views": views}
    text = json.dumps(facts, separators=(",", ":"), default=str)
    return {"min_runtime_version": MIN_RUNTIME.encode().ljust(16, b"\0"), "instep": text.encode()}


def _plain(meta: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in meta.items() if isinstance(v, str | int | float | bool | list | dict | type(None))}


def unpack_views(facts: dict[str, Any], shapes: dict[str, tuple[int, ...]]) -> dict[str, SourceView]:
    """The source views of a file's tensors, from its "instep" metadata and the tensors' shapes.

    Nobody vouches for a file: {} where the table is not one that :func:`pack` writes for tensors of these shapes.
    """
    entries = facts.get("views", {})
    if not isinstance(entries, dict):
        return {}
    views = {tensor: _view(entry, shapes[tensor]) for tensor, entry in entries.items() if tensor in shapes}
    return {} if None in views.values() else {tensor: view for tensor, view in views.items() if view is not None}


def _view(entry: Any, tensor: tuple[int, ...]) -> SourceView | None:
    """One entry of the table for a tensor of this shape; None where it is none."""
    if isinstance(entry, str):
        return SourceView.whole(entry, tensor)
    if not isinstance(entry, list) or len(entry) != 3:
        return None
    name, perm, shape = entry
    sizes = [numbers for numbers in (perm, shape) if isinstance(numbers, list) and all(type(n) is int for n in numbers)]
    if not isinstance(name, str) or len(sizes) < 2 or sorted(perm) != list(range(len(perm))):
        return None
    fits = min(shape, default=0) >= 0 and math.prod(shape) == math.prod(tensor)
    return SourceView(name, tuple(perm), tuple(shape)) if fits else None
