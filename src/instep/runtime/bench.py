"""Times TFLite files, each in a child process of its own, in interleaved rounds."""

from __future__ import annotations

import statistics
import subprocess
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from instep.runtime import vulkan
from instep.runtime.child import command, death, environment
from instep.runtime.engines import available, engine_of
from instep.runtime.messages import meaningful, refusals

__all__ = ["BenchResult", "bench"]


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

    def __init__(self, path: str, engine: str, threads: int, driver: vulkan.Driver | None) -> None:
        self.path = path
        self.log = tempfile.TemporaryFile()  # noqa: SIM115  (the child writes to it until close)
        self.folder = tempfile.TemporaryDirectory(prefix="instep-bench-")
        more = vulkan.environment(driver, Path(self.folder.name)) if driver is not None else {}
        self.process = subprocess.Popen(
            command("bench", str(Path(path).resolve()), engine, str(threads)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
            env=environment(more),
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

    def said(self) -> str:
        self.log.seek(0)
        return self.log.read()[-100_000:].decode(errors="replace")

    def reason(self) -> str:
        how, _ = death(self.process.wait())
        log = self.said()
        refused = refusals(log)
        if refused:
            return "refused: " + "; ".join(map(str, refused))
        lines = meaningful(log)
        return f"the runtime died of {how}" + (f": {lines[-1]}" if lines else "")

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()
        self.log.close()
        self.folder.cleanup()


def bench(
    paths: Iterable[str | Path],
    *,
    repeats: int = 15,
    threads: int = 1,
    target_ms: float = 20.0,
    engine: str = "xnnpack",
) -> BenchResult:
    """Latency of several files on ``engine``, in interleaved rounds: what slows the machine slows all of them.

    Each round times every file once, in turn, one after the other; a sample is the mean over as many invocations
    as fill ``target_ms``. Each file lives in a child process of its own.
    """
    wanted = engine_of(engine)
    if not wanted.runs:
        raise ValueError(f"engine {wanted.name} only compiles: its estimate is instep.runtime.place")
    names = [str(p) for p in paths]
    missing = available(engine)
    if missing is not None:
        return BenchResult(failed=dict.fromkeys(names, missing))
    driver = vulkan.drivers()[0] if wanted.device == "gpu" else None
    result = BenchResult()
    runners: list[_Runner] = []
    counts: dict[str, int] = {}
    try:
        for path in names:
            runner = _Runner(path, wanted.name, threads, driver)
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
        for runner in runners if wanted.device == "gpu" else ():
            if runner.path not in result.failed and (complaints := meaningful(runner.said())):
                # a step that fails takes no time
                result.failed[runner.path] = f"{wanted.name} runs it, but complains: {complaints[0]}"
    finally:
        for runner in runners:
            runner.close()
    result.median = {p: statistics.median(s) for p, s in result.samples.items() if p not in result.failed}
    return result
