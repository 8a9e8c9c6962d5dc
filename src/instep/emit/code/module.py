"""A program's code as a module: executed, and written to files beside its weights."""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from instep.emit.code.program import Program
from instep.graph.core import Graph

__all__ = ["arrays", "executed", "name_of", "save_arrays", "written"]


def name_of(graph: Graph) -> str:
    """What the network is called."""
    source = str(graph.meta.get("source") or "network")
    file, _, factory = source.rpartition(":")
    return str(graph.meta.get("name") or (factory if file else PurePath(source).stem))


def arrays(made: Program) -> dict[str, np.ndarray]:
    """The weights by their dotted paths, as the framework has them; of those that are tied the first alone."""
    return {".".join(p): w.of(made.graph.weights) for p, w in made.weights.items() if p not in made.ties}


def executed(text: str, label: str) -> dict[str, Any]:
    """The namespace of exported code after it ran; ``label`` stands for its file in a traceback."""
    module = types.ModuleType("instep_network")
    module.__file__ = "instep_network.py"
    exec(compile(text, f"<{label}>", "exec"), module.__dict__)
    return module.__dict__


def save_arrays(found: Mapping[str, np.ndarray], path: Path) -> None:
    """Write ``path`` as safetensors."""
    from safetensors.numpy import save_file

    save_file({k: np.asarray(a, order="C") for k, a in found.items()}, path)


def written(files: Sequence[tuple[Path, Callable[[Path], object]]]) -> list[Path]:
    """Have each file written by its function to a place beside it, then move them all; when one fails none is left."""
    parts = [whole.with_name(f".part.{whole.name}") for whole, _ in files]
    try:
        for part, (_, write) in zip(parts, files, strict=True):
            write(part)
        for part, (whole, _) in zip(parts, files, strict=True):
            part.replace(whole)
    finally:
        for part in parts:
            part.unlink(missing_ok=True)
    return [whole for whole, _ in files]
