"""The child process that holds a runtime: a crash, a hang or a leak of native code stays in here.

Two modes: ``run DIRECTORY FIRST`` does the jobs listed in ``DIRECTORY/jobs.json`` from number FIRST on and writes
``result<i>.json`` and ``result<i>.bin`` beside it; ``bench`` loads one file and times invocations on request.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

from instep.runtime.sessions import Readable, open_session, timed

__all__ = ["main"]


def _limit_memory(limit: int) -> None:
    if limit > 0:
        import resource

        # a bound that this process was born with may be lower, and cannot be raised
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        bound = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        resource.setrlimit(resource.RLIMIT_AS, (bound, bound))


class _Place:
    """Where the child is: the parent reads it to bound the time of each job, and to say at what a crash happened."""

    def __init__(self, directory: Path) -> None:
        self.file = directory / "current"
        self.number = 0

    def at(self, stage: str) -> None:
        self.file.write_text(f"{self.number} {stage}")


def _job(job: dict[str, Any], directory: Path, place: _Place) -> None:
    place.at("compile")
    session = open_session(job["path"], job["engine"], job["threads"], job["keep_all"])
    handed = None if job["handed"] is None else set(job["handed"])
    index: dict[str, Any] = {"resident": session.resident, "placed": session.placed, "sets": []}
    with open(directory / f"result{place.number}.bin", "wb") as blob:

        def put(tensor: Readable) -> list[Any]:
            array = np.asarray(session.read(tensor), order="C")
            blob.write(bytes(-blob.tell() % 64))
            at = blob.tell()
            blob.write(array.reshape(-1).view(np.uint8).data)
            return [tensor.name, str(array.dtype), list(array.shape), at, tensor.scale, tensor.zero_point]

        for names in job["sets"]:
            arrays = [np.load(directory / name, mmap_mode="r") for name in names]
            place.at("inputs")
            session.give(arrays)
            place.at("run")
            seconds = timed(session)
            entry = {"outputs": [put(t) for t in session.outputs], "tensors": [], "seconds": seconds}
            for tensor in (t for t in session.kept if handed is None or t.name in handed):
                try:
                    entry["tensors"].append(put(tensor))
                except ValueError:
                    continue  # a tensor that the runtime left without memory (unused outputs)
            index["sets"].append(entry)
    (directory / f"result{place.number}.json").write_text(json.dumps(index))
    place.at("close")


def run(directory: Path, first: int) -> None:
    """Do the jobs of ``directory/jobs.json`` from ``first`` on; a job that fails leaves its reason in ``error<i>``.

    What a job makes native code print goes into ``log<i>``.
    """
    plan = json.loads((directory / "jobs.json").read_text())
    _limit_memory(plan["address_space"])
    place = _Place(directory)
    for number, job in list(enumerate(plan["jobs"]))[first:]:
        log = os.open(directory / f"log{number}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.close(log)
        place.number = number
        try:
            _job(job, directory, place)
        except MemoryError:
            (directory / f"error{number}").write_text("out of memory")
        except (RuntimeError, ValueError, OSError) as error:
            (directory / f"error{number}").write_text(str(error))
            (directory / f"stage{number}").write_text(place.file.read_text().partition(" ")[2])
    place.number = len(plan["jobs"])
    place.at("end")


def bench(path: str, engine: str, threads: int) -> None:
    """Load ``path``; for each line ``n`` on stdin invoke n times, print the mean milliseconds: elapsed, processor."""
    from instep.runtime.info import tflite_info

    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # native code may print; only our answers go to the parent
    session = open_session(path, engine, threads)
    rng = np.random.default_rng(0)
    info = tflite_info(path)
    arrays = []
    for tensor in (info.tensors[i] for i in info.inputs):
        real = np.dtype(tensor.dtype).kind == "f"
        arrays.append((rng.standard_normal(tensor.shape) if real else np.zeros(tensor.shape)).astype(tensor.dtype))
    session.give(arrays)
    session.invoke()
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        count = int(line)
        start, spent = time.perf_counter(), time.process_time()
        for _ in range(count):
            session.invoke()
        spent, elapsed = time.process_time() - spent, time.perf_counter() - start
        print(elapsed / count * 1e3, spent / count * 1e3, file=answers, flush=True)


def _end_with_parent(folder: Path | None) -> None:
    """A parent that is killed asks nobody to stop or to tidy up: within a second of it this process ends, whatever it
    computes, and takes ``folder``, which the two of them shared, along.
    """
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def main(arguments: list[str]) -> None:
    _end_with_parent(Path(arguments[1]) if arguments[0] == "run" else None)
    if arguments[0] == "run":
        run(Path(arguments[1]), int(arguments[2]))
    else:
        bench(arguments[1], arguments[2], int(arguments[3]))


if __name__ == "__main__":
    main(sys.argv[1:])
