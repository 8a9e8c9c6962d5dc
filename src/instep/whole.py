"""Files that appear whole or not at all: written beside their place under another name, and moved there."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

__all__ = ["write_text", "written"]


@contextmanager
def written(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """The file to write for ``path``, which it becomes when all went well; nothing is left behind where it did not."""
    target = Path(path)
    handle, partial = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
        os.chmod(partial, 0o666 & ~_umask())  # mkstemp's own is for its owner alone
        os.replace(partial, target)
    except BaseException:
        os.unlink(partial)
        raise


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write ``text`` as the file ``path``, in UTF-8."""
    with written(path) as file:
        file.write(text.encode())


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
