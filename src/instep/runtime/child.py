"""Child processes with bounds: time for each job, memory, and an end that is always a fact and never an exception."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

__all__ = ["Death", "command", "death", "environment", "machine_memory", "watch"]

#: Seconds between two looks at a child.
_TICK = 0.05


@dataclass(frozen=True)
class Death:
    """How a child ended before its work was done: ``kind`` is "crashed", "timed out" or "out of memory"."""

    kind: str
    message: str
    signal: str = ""


def command(*arguments: str) -> list[str]:
    """The command line of the worker."""
    # -P: what lies in the current folder never stands in for a module of the child
    return [sys.executable, "-P", "-m", "instep.runtime.worker", *arguments]


def environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of a child that finds the same ``instep`` as this process, with ``more`` variables."""
    root = str(Path(__file__).resolve().parents[2])
    paths = [root, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths)), **(more or {})}


def machine_memory() -> int:
    """Bytes of memory that this machine has."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def death(code: int) -> tuple[str, str]:
    """(sentence part, signal name or "") for an exit status."""
    if code >= 0:
        return f"exit status {code}", ""
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = str(-code)
    return f"signal {name}", name


def watch(
    arguments: list[str], log: IO[bytes], variables: Mapping[str, str], current: Path, timeout: float, memory: int
) -> Death | None:
    """Run a command to its end; None when it ended well.

    The child writes the job it is at into ``current``; each job may take ``timeout`` seconds. ``memory`` bounds the
    resident bytes: drivers map address space by the gigabyte that they never touch, so that a bound on it says nothing.
    """
    process = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=dict(variables))
    try:
        job, since = "", time.monotonic()
        while True:
            left = since + timeout - time.monotonic()
            try:
                code = process.wait(max(0.0, min(_TICK, left)))
            except subprocess.TimeoutExpired:
                pass
            else:
                how, name = death(code)
                return Death("crashed", f"the runtime died of {how}", name) if code else None
            now = _number(current)
            if now != job:
                job, since = now, time.monotonic()
            elif left <= 0:
                return Death("timed out", f"the runtime did not finish within {timeout:g} s")
            if _resident(process.pid) > memory:
                return Death("out of memory", f"the runtime took more than {memory / 2**20:.0f} MiB of memory")
    finally:
        process.kill()
        process.wait()


def _number(current: Path) -> str:
    try:
        return current.read_text().partition(" ")[0]
    except OSError:
        return ""


def _resident(pid: int) -> int:
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError, ValueError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")
