"""What the verbs share: their error, what a caller hears meanwhile, where files can be written."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["Clock", "InstepError", "Progress", "silent", "writable"]

#: What a caller may pass to hear how far a long walk has come: called with the room and what happens in it.
Progress = Callable[[str, str], None]


class InstepError(ValueError):
    """Something the user can put right; the message says what, where and what to do."""


def silent(room: str, what: str) -> None:
    """A ``Progress`` that tells nobody."""


class Clock:
    """``with clock("capture"): …`` adds to ``clock.seconds["capture"]``."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, what: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[what] = self.seconds.get(what, 0.0) + time.perf_counter() - start


def writable(out: str | os.PathLike[str]) -> Path:
    """``out`` as a path that can be written, or an InstepError before any work is done."""
    path = Path(out)
    if path.is_dir():
        raise InstepError(f"{path} is a folder; name the file to write, e.g. {path / 'network.tflite'}")
    if not path.parent.is_dir():
        raise InstepError(f"{path}: the folder {path.parent} does not exist; make it first")
    if not os.access(path.parent, os.W_OK):
        raise InstepError(f"{path}: the folder {path.parent} is not writable; choose another place with -o")
    return path
