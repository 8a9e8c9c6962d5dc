"""What an import of PyTorch's size, and a command, ask of their process: the garbage collector and Ctrl-C."""

from __future__ import annotations

import gc
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["importing", "one_command", "stop_if_asked"]

_one_command = False
_asked = False
_waiting = False


@contextmanager
def importing() -> Iterator[None]:
    """For the import of a framework, or of a file that imports one: the collector sleeps and Ctrl-C waits.

    Walking the growing heap again and again takes a fifth of the time that importing PyTorch takes. Where the process
    runs one command, what was imported is then set aside from all collections; a process that is somebody else's keeps
    its garbage where it can be found.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        with _interrupt_waits():
            yield
    finally:
        if _one_command:
            gc.freeze()
        if enabled:
            gc.enable()


@contextmanager
def one_command() -> Iterator[None]:
    """This process runs one command and ends.

    A Ctrl-C is remembered beside being raised: ``stop_if_asked`` raises it again where somebody swallowed it. SIGTERM,
    which ``kill`` and a job's time limit send, is taken as a Ctrl-C: it leaves as little behind. At the end the whole
    heap is set aside: the interpreter would collect it again and again as it shuts down, a sixth of the processor time
    of a small conversion, and free nothing that the system does not take back anyway. Functions of ``atexit`` and open
    files end as ever.
    """
    global _one_command, _asked
    _one_command, _asked = True, False

    def stop(number: int, frame: Any) -> None:
        global _asked
        _asked = True
        raise KeyboardInterrupt

    try:
        with _handling(stop), _handling(stop, signal.SIGTERM):
            yield
    finally:
        _one_command = False
        gc.freeze()


def stop_if_asked() -> None:
    """Raises the KeyboardInterrupt of this command that was swallowed on its way, if one was."""
    if _one_command and _asked:
        raise KeyboardInterrupt


@contextmanager
def _interrupt_waits() -> Iterator[None]:
    """A Ctrl-C inside is a KeyboardInterrupt at the end; the second one is one at once.

    Packages try what the machine has by importing it under ``except BaseException`` or a bare ``except:``. A
    KeyboardInterrupt that is raised there is lost, and the command goes on as if nobody had asked it to stop.
    """
    global _waiting
    if _waiting:
        yield  # an import inside of an import: the outer one may be what swallows
        return
    pressed = 0

    def remember(number: int, frame: Any) -> None:
        global _asked
        nonlocal pressed
        _asked = True
        pressed += 1
        if pressed > 1:
            raise KeyboardInterrupt
        if _one_command:
            os.write(2, b"stopping after this import; Ctrl-C again stops at once\n")

    with _handling(remember):
        _waiting = True
        try:
            yield
        finally:
            _waiting = False
            if pressed:
                raise KeyboardInterrupt


@contextmanager
def _handling(handler: Callable[[int, Any], None], number: signal.Signals = signal.SIGINT) -> Iterator[None]:
    """``handler`` takes Ctrl-C (the signal ``number``) inside, unless somebody else's does or nobody is to (a signal
    ignored stays ignored). Outside the main thread nothing changes: signals are handled there alone."""
    before = signal.getsignal(number)
    usual = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
    ours = before is usual or getattr(before, "__module__", "") == __name__
    if not ours or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, before)
