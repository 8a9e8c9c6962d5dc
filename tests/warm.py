"""Runs command lines in forks of one process that has PyTorch imported: the same as fresh ones, seconds sooner.

``python warm.py`` is that process. It imports nothing of ours, so each fork imports Instep as a fresh process does.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

__all__ = ["Warm"]


class Warm:
    """The process, started at the first call. ``close`` ends it."""

    def __init__(self) -> None:
        self._server: subprocess.Popen[str] | None = None

    def run(
        self, arguments: list[str], folder: Path, environment: dict[str, str], timeout: float
    ) -> subprocess.CompletedProcess[str]:
        """``python -m instep arguments`` in ``folder``. subprocess.TimeoutExpired after ``timeout`` seconds."""
        if self._server is None:
            command = [sys.executable, __file__]
            self._server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        server = self._server
        assert server.stdin is not None and server.stdout is not None
        with tempfile.TemporaryDirectory() as place:
            said = [Path(place, "stdout"), Path(place, "stderr")]
            call = {
                "arguments": arguments,
                "folder": str(folder),
                "environment": environment,
                "said": [*map(str, said)],
            }
            server.stdin.write(json.dumps(call) + "\n")
            server.stdin.flush()
            child = int(server.stdout.readline())
            late = not select.select([server.stdout], [], [], timeout)[0]
            if late:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child, 9)
            status = int(server.stdout.readline())
            out, err = (path.read_text() for path in said)
        if late:
            raise subprocess.TimeoutExpired(["instep", *arguments], timeout, out, err)
        return subprocess.CompletedProcess(["instep", *arguments], status, out, err)

    def close(self) -> None:
        if self._server is not None:
            assert self._server.stdin is not None
            self._server.stdin.close()
            self._server.wait(timeout=60)


def serve() -> None:
    """Reads one call a line, answers with the number of the process that runs it, then with its exit status."""
    import numpy  # noqa: F401
    import torch.export._trace  # noqa: F401

    answers = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        call = json.loads(line)
        child = os.fork()
        if child == 0:
            answers.close()
            _become(call)
        print(child, file=answers, flush=True)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), file=answers, flush=True)


def _become(call: dict[str, Any]) -> None:
    """What ``python -m instep`` does, in this process, which ends with it."""
    import atexit
    import runpy

    status = 1
    try:
        os.setpgid(0, 0)
        os.chdir(call["folder"])
        os.environ.clear()
        os.environ.update(call["environment"])
        paths = [p for p in os.environ.get("PYTHONPATH", "").split(os.pathsep) if p]
        sys.path[:1] = ["", *(p for p in paths if p not in sys.path)]
        sys.argv = ["instep", *call["arguments"]]
        with _spoken(call["said"]):
            try:
                runpy.run_module("instep", run_name="__main__", alter_sys=True)
                status = 0
            except SystemExit as end:
                status = end.code if isinstance(end.code, int) else int(end.code is not None)
            except BaseException:
                traceback.print_exc()
            atexit._run_exitfuncs()
    finally:
        os._exit(status)


@contextlib.contextmanager
def _spoken(places: list[str]) -> Iterator[None]:
    """Standard input is empty; standard output and error go to files."""
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    streams: list[IO[str]] = [sys.stdout, sys.stderr]
    for number, place in enumerate(places, 1):
        os.dup2(os.open(place, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), number)
    try:
        yield
    finally:
        for stream in streams:
            stream.flush()


if __name__ == "__main__":
    serve()
