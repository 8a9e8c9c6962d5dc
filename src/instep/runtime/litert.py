"""Runs files on engines in child processes: their values, or why there are none."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from instep.runtime import vulkan
from instep.runtime.child import Death, command, environment, machine_memory, watch
from instep.runtime.engines import ENGINES, FRAMEWORKS, available, engine_of, suffix_of
from instep.runtime.info import TFLiteError, tflite_info
from instep.runtime.messages import Refusal, meaningful, placement, refusals, without_driver

__all__ = ["ENGINES", "Job", "RunResult", "run", "run_jobs", "run_many"]


@dataclass
class RunResult:
    """What one run gave: ``outputs`` in the file's order, and with ``keep_all`` every computed tensor by name.

    Arrays are read-only windows onto the child's results. ``outcome`` is one of "ran"; "refused": the engine does not
    take the file (``refusals`` says which operators and why, as far as it tells); "crashed" (``signal``), "timed out",
    "out of memory": the process died at ``stage`` ("compile", "inputs", "run"); "unavailable": this machine lacks the
    engine; "failed": anything else, such as inputs that do not fit. Unless it ran, ``outputs`` is empty, ``failed`` is
    True and ``message`` says why; ``crashed`` tells a dead process.

    ``resident``: the whole file runs on the accelerator (None where the engine is none); ``placed``: how many
    operators the engine (or its delegate) takes and leaves, where that is told. ``log`` holds what the engine said on
    stderr, less its noise. ``quantization`` gives (scale, zero point) of each quantised tensor by name.
    """

    outputs: list[np.ndarray] = field(default_factory=list)
    tensors: dict[str, np.ndarray] = field(default_factory=dict)
    output_names: list[str] = field(default_factory=list)
    quantization: dict[str, tuple[float, int]] = field(default_factory=dict)
    seconds: float = 0.0
    crashed: bool = False
    failed: bool = False
    message: str = ""
    engine: str = ""
    outcome: str = "ran"
    resident: bool | None = None
    refusals: list[Refusal] = field(default_factory=list)
    placed: tuple[int, int] | None = None
    stage: str = ""
    signal: str = ""
    log: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Job:
    """One file with the input sets to run it on. Of what ``keep_all`` keeps, ``handed`` names what is handed back
    (None: all); a large network's values take minutes to write and read."""

    path: str | Path
    sets: Sequence[Sequence[np.ndarray]]
    engine: str = "xnnpack"
    keep_all: bool = False
    threads: int = 1
    handed: frozenset[str] | None = None


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
    """Run a file on each of several input sets, in one child process and one session. See ``run_jobs``."""
    return run_jobs([Job(path, sets, engine, keep_all, threads)], timeout=timeout, memory=memory)[0]


def run_jobs(jobs: Sequence[Job], *, timeout: float = 300.0, memory: int | None = None) -> list[list[RunResult]]:
    """Run several files, as many in one child process as live; for each job one result per input set.

    ``timeout`` (seconds) bounds each job, ``memory`` the child's size in bytes (default three quarters of the
    machine's memory). A crash is a result, not an exception: the job that crashed says so, and the jobs after it run in
    a new child. A machine that lacks an engine is a result too. ValueError only for a job that no engine could do: an
    unknown engine, one that does not run files, or ``keep_all`` where intermediate values cannot be read.
    """
    groups: dict[str, list[int]] = {}
    for number, job in enumerate(jobs):
        engine = engine_of(job.engine)
        if not engine.runs:
            raise ValueError(f"engine {engine.name} only compiles (instep.runtime.place); to run, use {ENGINES}")
        if suffix_of(job.path) not in engine.takes:
            raise ValueError(f"engine {engine.name} runs {' and '.join(engine.takes)} files, not {Path(job.path).name}")
        if job.keep_all and not engine.intermediates:
            raise ValueError("keep_all needs engine='builtin': a delegate keeps its intermediate values to itself")
        groups.setdefault(engine.device, []).append(number)
    results: list[list[RunResult]] = [[] for _ in jobs]
    for device, numbers in groups.items():
        some = [jobs[n] for n in numbers]
        missing = available(some[0].engine)
        if missing is not None:
            found = [_dead(job, "unavailable", missing) for job in some]
        elif device == "gpu":
            found = _on_gpu(some, timeout, memory)
        else:
            found = _Folder(some, timeout, memory, variables=dict(engine_of(some[0].engine).variables)).results()
        for number, result in zip(numbers, found, strict=True):
            results[number] = result
    return results


#: The place in ``vulkan.drivers()`` of the first driver that was not found wanting.
_driver = 0


def _on_gpu(jobs: Sequence[Job], timeout: float, memory: int | None) -> list[list[RunResult]]:
    """Run on the first Vulkan driver that the delegate takes; the others are not asked again."""
    global _driver
    drivers = vulkan.drivers()
    results: list[list[RunResult]] = []
    while _driver < len(drivers):
        results = _Folder(jobs, timeout, memory, drivers[_driver]).results()
        if not any(r.outcome == "unavailable" for job in results for r in job):
            return results
        if _driver + 1 == len(drivers):
            break
        _driver += 1
    return results


def _dead(job: Job, outcome: str, message: str, **facts: Any) -> list[RunResult]:
    crashed = outcome in ("crashed", "timed out", "out of memory")
    engine = engine_of(job.engine).name
    return [
        RunResult(engine=engine, outcome=outcome, message=message, failed=True, crashed=crashed, **facts)
        for _ in job.sets
    ]


class _Folder:
    """The jobs of one kind of device, written into a folder that child after child works through."""

    def __init__(
        self, jobs: Sequence[Job], timeout: float, memory: int | None, driver: vulkan.Driver | None = None, *,
        variables: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        self.jobs = jobs
        self.timeout = timeout
        self.memory = memory
        self.driver = driver
        self.variables = variables or {}

    def results(self) -> list[list[RunResult]]:
        """One list per job."""
        with tempfile.TemporaryDirectory(prefix="instep-run-") as name:
            self.directory = Path(name)
            self._write()
            results: list[list[RunResult]] = []
            while len(results) < len(self.jobs):
                results += self._child(len(results))
            return results

    def _write(self) -> None:
        saved: dict[int, str] = {}

        def save(array: np.ndarray) -> str:
            if id(array) not in saved:
                saved[id(array)] = f"input{len(saved)}.npy"
                np.save(self.directory / saved[id(array)], array)
            return saved[id(array)]

        plan = [
            {
                "path": str(Path(job.path).resolve()),
                "engine": engine_of(job.engine).name,
                "threads": job.threads,
                "keep_all": job.keep_all,
                "handed": None if job.handed is None else sorted(job.handed),
                "sets": [[save(array) for array in arrays] for arrays in job.sets],
            }
            for job in self.jobs
        ]
        usual = int(machine_memory() * 0.75)
        self.resident_memory = self.memory if self.memory is not None else usual
        # A bound on the address space lets an allocation fail, which is kinder than a kill; but graphics drivers and
        # frameworks map far more than they use.
        spare = self.memory if self.memory is not None else usual + (4 << 30)
        roomy = self.driver is not None or engine_of(self.jobs[0].engine).name in FRAMEWORKS
        address_space = 0 if roomy else spare
        (self.directory / "jobs.json").write_text(json.dumps({"jobs": plan, "address_space": address_space}))

    def _child(self, first: int) -> list[list[RunResult]]:
        """Results of the jobs from ``first`` up to and including the one that killed the child."""
        more = vulkan.environment(self.driver, self.directory) if self.driver is not None else self.variables
        current = self.directory / "current"
        current.write_text(f"{first} start")
        with open(self.directory / "stderr", "w+b") as log:
            arguments = command("run", str(self.directory), str(first))
            end = watch(arguments, log, environment(more), current, self.timeout, self.resident_memory)
        at, _, stage = current.read_text().partition(" ")
        results = []
        for number in range(first, len(self.jobs)):
            done = self._result(number)
            if done is None:
                if int(at or first) < number:
                    break  # the child died closing the job before, or never came to this one
                results.append(self._killed(number, end, stage))
                break
            results.append(done)
        if not results:
            results.append(self._killed(first, end, stage))
        return results

    def _result(self, number: int) -> list[RunResult] | None:
        """What job ``number`` left; None when it left nothing."""
        job = self.jobs[number]
        if (self.directory / f"error{number}").exists():
            return self._error(number)
        if (self.directory / f"result{number}.json").exists():
            results = _read(self.directory, number)
            log = meaningful(self._log(number))
            for result in results:
                result.engine, result.log = engine_of(job.engine).name, log
            return results
        return None

    def _error(self, number: int) -> list[RunResult]:
        job, log = self.jobs[number], self._log(number)
        message = (self.directory / f"error{number}").read_text().strip()
        stage = self.directory / f"stage{number}"
        stage = stage.read_text() if stage.exists() else ""
        lines = meaningful(log)
        if without_driver(log) and self.driver is not None:
            message = f"{engine_of(job.engine).name} {vulkan.HINT} (it does not take {self.driver.name})"
            return _dead(job, "unavailable", message, log=lines)
        found = refusals(log, _tensor_names(job.path))
        if stage == "compile" and engine_of(job.engine).device == "gpu":
            reasons = meaningful(message)
            found = found or [Refusal("", "; ".join(dict.fromkeys([*lines, *reasons])) or "no reason given")]
            message = "; ".join(map(str, found))
            return _dead(job, "refused", message, refusals=found, placed=placement(log), log=lines, stage=stage,
                         resident=False)  # fmt: skip
        outcome = "refused" if stage == "compile" else "failed"
        message = "; ".join(filter(None, map(str.strip, message.splitlines())))
        return _dead(job, outcome, message, refusals=found, stage=stage, log=lines)

    def _killed(self, number: int, end: Death | None, stage: str) -> list[RunResult]:
        job, lines = self.jobs[number], meaningful(self._log(number) or self._log())
        if end is None:
            return _dead(job, "failed", "the runtime left no result", log=lines)
        said = f": {lines[-1]}" if lines and end.kind == "crashed" else ""
        return _dead(job, end.kind, end.message + said, signal=end.signal, stage=stage, log=lines)

    def _log(self, number: int | str = "") -> str:
        path = self.directory / (f"log{number}" if number != "" else "stderr")
        try:
            return path.read_bytes()[-200_000:].decode(errors="replace")
        except OSError:
            return ""


def _tensor_names(path: str | Path) -> set[str]:
    try:
        return {t.name for t in tflite_info(path).tensors}
    except TFLiteError:
        return set()


def _read(directory: Path, number: int) -> list[RunResult]:
    path = directory / f"result{number}.bin"
    # The mapping outlives the folder: on POSIX an unlinked file stays until its last mapping goes.
    blob = np.memmap(path, np.uint8, "r") if path.stat().st_size else np.zeros(0, np.uint8)

    def array(entry: list[Any]) -> np.ndarray:
        _, dtype, shape, at = entry[:4]
        size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        return np.asarray(blob[at : at + size]).view(dtype).reshape(shape)

    results = []
    found = json.loads((directory / f"result{number}.json").read_text())
    for entry in found["sets"]:
        everything = [*entry["outputs"], *entry["tensors"]]
        results.append(
            RunResult(
                outputs=[array(e) for e in entry["outputs"]],
                tensors={e[0]: array(e) for e in entry["tensors"]},
                output_names=[e[0] for e in entry["outputs"]],
                quantization={e[0]: (e[4], e[5]) for e in everything if e[4]},
                seconds=entry["seconds"],
                resident=found["resident"],
                placed=tuple(found["placed"]) if found["placed"] else None,
            )
        )
    return results
