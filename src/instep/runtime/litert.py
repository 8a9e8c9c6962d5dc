"""Runs TFLite files on LiteRT in a child process: their values, or their speed."""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np

__all__ = ["ENGINES", "BenchResult", "Job", "RunResult", "bench", "run", "run_jobs", "run_many"]

#: "xnnpack": the default interpreter, as applications use it. "builtin": TFLite's own kernels without any delegate,
#: where every intermediate value can be read.
ENGINES = ("xnnpack", "builtin")


@dataclass
class RunResult:
    """What one run gave: ``outputs`` in the file's order, and with ``keep_all`` every computed tensor by name.

    Arrays are read-only windows onto the child's results. When the runtime refused the file, crashed or ran out of
    time, ``outputs`` is empty, ``failed`` is True and ``message`` says why; ``crashed`` tells a dead process.
    ``quantization`` gives (scale, zero point) of each quantised tensor by name.
    """

    outputs: list[np.ndarray] = field(default_factory=list)
    tensors: dict[str, np.ndarray] = field(default_factory=dict)
    output_names: list[str] = field(default_factory=list)
    quantization: dict[str, tuple[float, int]] = field(default_factory=dict)
    seconds: float = 0.0
    crashed: bool = False
    failed: bool = False
    message: str = ""


@dataclass(frozen=True)
class Job:
    """One file with the input sets to run it on."""

    path: str | Path
    sets: Sequence[Sequence[np.ndarray]]
    engine: str = "xnnpack"
    keep_all: bool = False
    threads: int = 1


def run(
    path: str | Path,
    inputs: Sequence[np.ndarray],
    *,
    engine: str = "xnnpack",
    keep_all: bool = False,
    threads: int = 1,
    timeout: float = 300.0,
    memory: int | None = None,
) -> RunResult:
    """Run a file once on ``inputs`` (in the file's order and layout). See ``run_jobs``."""
    job = Job(path, [inputs], engine, keep_all, threads)
    return run_jobs([job], timeout=timeout, memory=memory)[0][0]


def run_many(
    path: str | Path,
    sets: Sequence[Sequence[np.ndarray]],
    *,
    engine: str = "xnnpack",
    keep_all: bool = False,
    threads: int = 1,
    timeout: float = 300.0,
    memory: int | None = None,
) -> list[RunResult]:
    """Run a file on each of several input sets, in one child process and one interpreter. See ``run_jobs``."""
    return run_jobs([Job(path, sets, engine, keep_all, threads)], timeout=timeout, memory=memory)[0]


def run_jobs(jobs: Sequence[Job], *, timeout: float = 300.0, memory: int | None = None) -> list[list[RunResult]]:
    """Run several files in one child process; for each job one result per input set.

    ``timeout`` (seconds) bounds the whole child, ``memory`` (bytes of address space; default three quarters of the
    machine's memory beyond what the process maps) its size. A crash is a result, not an exception: the job that
    crashed says so, and the jobs after it run in a new child.
    """
    for job in jobs:
        if job.engine not in ENGINES:
            raise ValueError(f"engine must be one of {', '.join(ENGINES)}, got {job.engine!r}")
        if job.keep_all and job.engine != "builtin":
            raise ValueError("keep_all needs engine='builtin': a delegate keeps its intermediate values to itself")
    results: list[list[RunResult]] = []
    while len(results) < len(jobs):
        results += _child(jobs[len(results) :], timeout, memory)
    return results


def _child(jobs: Sequence[Job], timeout: float, memory: int | None) -> list[list[RunResult]]:
    """Results of the first jobs, up to and including the first that killed the child."""
    with tempfile.TemporaryDirectory(prefix="instep-run-") as name:
        directory = Path(name)
        saved: dict[int, str] = {}
        plan = [
            {
                "path": str(Path(job.path).resolve()),
                "engine": job.engine,
                "threads": job.threads,
                "keep_all": job.keep_all,
                "sets": [[_save(array, directory, saved) for array in arrays] for arrays in job.sets],
            }
            for job in jobs
        ]
        limit = memory if memory is not None else _default_memory()
        (directory / "jobs.json").write_text(json.dumps({"jobs": plan, "memory": limit}))
        crash = ""
        with open(directory / "stderr", "w+b") as log:
            try:
                code = subprocess.run(
                    _command("run", str(directory)),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    timeout=timeout,
                    check=False,
                    env=_environment(),
                ).returncode
                if code:
                    crash = f"the runtime died of {_death(code)}{_last_words(log)}"
            except subprocess.TimeoutExpired:
                crash = f"the runtime did not finish within {timeout:g} s"
        results = []
        for number, job in enumerate(jobs):
            if (directory / f"error{number}").exists():
                message = (directory / f"error{number}").read_text().strip()
                results.append([RunResult(failed=True, message=message) for _ in job.sets])
            elif (directory / f"result{number}.json").exists():
                results.append(_read(directory, number))
            else:
                message = crash or "the runtime left no result"
                results.append([RunResult(crashed=True, failed=True, message=message) for _ in job.sets])
                break
        return results


def _save(array: np.ndarray, directory: Path, saved: dict[int, str]) -> str:
    if id(array) not in saved:
        saved[id(array)] = f"input{len(saved)}.npy"
        np.save(directory / saved[id(array)], array)
    return saved[id(array)]


def _read(directory: Path, number: int) -> list[RunResult]:
    path = directory / f"result{number}.bin"
    # The mapping outlives the folder: on POSIX an unlinked file stays until its last mapping goes.
    blob = np.memmap(path, np.uint8, "r") if path.stat().st_size else np.zeros(0, np.uint8)

    def array(entry: list[Any]) -> np.ndarray:
        _, dtype, shape, at = entry[:4]
        size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        return np.asarray(blob[at : at + size]).view(dtype).reshape(shape)

    results = []
    for entry in json.loads((directory / f"result{number}.json").read_text())["sets"]:
        everything = [*entry["outputs"], *entry["tensors"]]
        results.append(
            RunResult(
                outputs=[array(e) for e in entry["outputs"]],
                tensors={e[0]: array(e) for e in entry["tensors"]},
                output_names=[e[0] for e in entry["outputs"]],
                quantization={e[0]: (e[4], e[5]) for e in everything if e[4]},
                seconds=entry["seconds"],
            )
        )
    return results


def _command(*arguments: str) -> list[str]:
    # -P: what lies in the current folder never stands in for a module of the child
    return [sys.executable, "-P", "-m", "instep.runtime.worker", *arguments]


def _environment() -> dict[str, str]:
    """The environment of a child that finds the same ``instep`` as this process."""
    root = str(Path(__file__).resolve().parents[2])
    paths = [root, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths))}


def _default_memory() -> int:
    return int(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") * 0.75) + (4 << 30)


def _death(code: int) -> str:
    if code < 0:
        try:
            return f"signal {signal.Signals(-code).name}"
        except ValueError:
            return f"signal {-code}"
    return f"exit status {code}"


def _last_words(log: IO[bytes]) -> str:
    log.seek(0)
    lines = log.read()[-4000:].decode(errors="replace").splitlines()
    lines = [line.strip() for line in lines if line.strip() and not line.startswith(("INFO", "WARNING", "W0000"))]
    return f": {lines[-1]}" if lines else ""


@dataclass
class BenchResult:
    """Latencies: ``median`` milliseconds per file and all ``samples``; ``failed`` says why a file has none.

    ``cpu`` holds the processor time of each sample: with one thread it is the latency without what other programs
    took, so it tells small differences apart on a busy machine.
    """

    median: dict[str, float] = field(default_factory=dict)
    samples: dict[str, list[float]] = field(default_factory=dict)
    cpu: dict[str, list[float]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)


class _Runner:
    """One child with one file loaded, timed on request."""

    def __init__(self, path: str, threads: int) -> None:
        self.path = path
        self.log = tempfile.TemporaryFile()  # noqa: SIM115  (the child writes to it until close)
        self.process = subprocess.Popen(
            _command("bench", str(Path(path).resolve()), str(threads)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
            env=_environment(),
        )

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def sample(self, count: int) -> tuple[float, float] | None:
        """Mean milliseconds (elapsed, processor) over ``count`` invocations, or None when the child died."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(f"{count}\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            return None
        numbers = self.line().split()
        return (float(numbers[0]), float(numbers[1])) if len(numbers) == 2 else None

    def reason(self) -> str:
        return f"the runtime died of {_death(self.process.wait())}{_last_words(self.log)}"

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()
        self.log.close()


def bench(
    paths: Iterable[str | Path], *, repeats: int = 15, threads: int = 1, target_ms: float = 20.0
) -> BenchResult:
    """Latency of several files on XNNPACK, in interleaved rounds: what slows the machine slows all of them.

    Each round times every file once, in turn, one after the other; a sample is the mean over as many invocations
    as fill ``target_ms``. Each file lives in a child process of its own.
    """
    result = BenchResult()
    runners: list[_Runner] = []
    counts: dict[str, int] = {}
    try:
        for path in map(str, paths):
            runner = _Runner(path, threads)
            runners.append(runner)
            first = runner.sample(1) if runner.line().strip() == "ready" else None
            if first is None:
                result.failed[path] = runner.reason()
                continue
            counts[path] = max(1, min(1000, round(target_ms / max(first[0], 1e-3))))
        for round_ in range(repeats):
            for runner in runners if round_ % 2 == 0 else reversed(runners):
                if runner.path in result.failed:
                    continue
                sample = runner.sample(counts[runner.path])
                if sample is None:
                    result.failed[runner.path] = runner.reason()
                else:
                    result.samples.setdefault(runner.path, []).append(sample[0])
                    result.cpu.setdefault(runner.path, []).append(sample[1])
    finally:
        for runner in runners:
            runner.close()
    result.median = {p: statistics.median(s) for p, s in result.samples.items() if p not in result.failed}
    return result
