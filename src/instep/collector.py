"""When Python's garbage collector looks: not while PyTorch is imported and, in a command's process, never at that."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["importing", "one_command"]

_one_command = False


@contextmanager
def importing() -> Iterator[None]:
    """The collector sleeps inside: walking the growing heap again and again takes a fifth of the time that importing
    PyTorch takes. Where the process runs one command, what was imported is then set aside from all collections; a
    process that is somebody else's keeps its garbage where it can be found."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if _one_command:
            gc.freeze()
        if enabled:
            gc.enable()


@contextmanager
def one_command() -> Iterator[None]:
    """This process runs one command and ends. At the end the whole heap is set aside: the interpreter would collect it
    again and again as it shuts down, a sixth of the processor time of a small conversion, and free nothing that the
    system does not take back anyway. Functions of ``atexit`` and open files end as ever."""
    global _one_command
    _one_command = True
    try:
        yield
    finally:
        _one_command = False
        gc.freeze()
