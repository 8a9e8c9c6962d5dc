"""A folder that appears whole or not at all, and the arrays in it."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

__all__ = ["arrays", "slug", "whole_folder"]

#: Every folder of ours holds this file: what it may replace when it is written again.
MARK = "instep.json"


@contextmanager
def whole_folder(out: str | os.PathLike[str]) -> Iterator[Path]:
    """A folder to fill, which becomes ``out`` when all went well. An earlier one of ours is replaced.

    Raises ValueError where ``out`` is something else that is not empty.
    """
    path = Path(out)
    if path.exists() and not path.is_dir():
        raise ValueError(f"{path} is a file; name a folder")
    if path.is_dir() and any(path.iterdir()) and not (path / MARK).is_file():
        raise ValueError(f"{path} is not empty and nothing that Instep wrote; name another folder")
    if not path.absolute().parent.is_dir():
        raise ValueError(f"{path}: the folder {path.parent} does not exist; make it first")
    draft = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.absolute().parent))
    try:
        yield draft
        draft.chmod(0o755)
        if path.is_dir():
            shutil.rmtree(path)
        os.replace(draft, path)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise


def slug(name: str) -> str:
    """A tensor's name as part of a file's."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", name).strip("-.")[:60] or "value"


def arrays(folder: Path, names: Sequence[str], values: Sequence[np.ndarray]) -> list[str]:
    """Write each array as ``NUMBER-name.npy`` into ``folder``; the files' names."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for number, (name, array) in enumerate(zip(names, values, strict=True)):
        written.append(f"{number}-{slug(name)}.npy")
        np.save(folder / written[-1], np.ascontiguousarray(array))
    return written
