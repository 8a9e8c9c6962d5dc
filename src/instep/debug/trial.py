"""Parts of a file on trial: many of them at once on the engine in question, each judged on real activations."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from instep.debug.cutting import Cutter
from instep.debug.flow import Part
from instep.debug.rounding import growth_of
from instep.debug.trusted import Trusted
from instep.runtime import Job, RunResult, run_jobs
from instep.verify.noise import LIMITS, SINGLE, Limits, Noise, arithmetic_of, distance, nudge, ratio
from instep.verify.tflite import floats_of

__all__ = ["Fault", "Outcome", "Row", "Trial"]


@dataclass(frozen=True)
class Row:
    """One output of a part on one input set: how far from the trusted value, in units of its own rounding noise."""

    tensor: int
    inputs: str
    ratio: float
    max_abs: float
    relative: float


@dataclass
class Outcome:
    """What became of a part: ``results`` of the engine by input set, and where it ran the rows of its outputs."""

    part: Part
    results: list[RunResult]
    rows: list[Row] = field(default_factory=list)

    @property
    def outcome(self) -> str:
        """The worst outcome of its runs."""
        return next((r.outcome for r in self.results if r.failed), "ran")

    @property
    def failed(self) -> RunResult | None:
        """The run that failed, if one did."""
        return next((r for r in self.results if r.failed), None)

    @property
    def worst(self) -> Row | None:
        """The output furthest from the truth."""
        return max(self.rows, key=lambda r: r.ratio, default=None)

    @property
    def ratio(self) -> float:
        """The distance of the worst output in units of noise; 0 where nothing can be compared."""
        return self.worst.ratio if self.worst is not None else 0.0


@dataclass(frozen=True)
class Fault:
    """What a part has to show to be at fault: the outcome "ran" with values beyond ``limit`` times the noise; or a
    refusal with these words; or a death at this stage by this signal."""

    outcome: str
    limit: float = LIMITS.drifting
    operator: str = ""
    message: str = ""
    stage: str = ""
    signal: str = ""

    @staticmethod
    def of(whole: Outcome, limits: Limits = LIMITS) -> list[Fault]:
        """What the whole file shows; several where an engine gives several reasons. [] when it is in step."""
        failed = whole.failed
        if failed is None:
            if whole.ratio <= limits.in_step:
                return []
            return [Fault("ran", limits.drifting if whole.ratio > limits.drifting else limits.in_step)]
        if failed.outcome == "refused":
            reasons = [Fault("refused", operator=r.operator, message=r.message) for r in failed.refusals]
            return reasons or [Fault("refused", message=failed.message)]
        return [Fault(failed.outcome, stage=failed.stage, signal=failed.signal, message=failed.message)]

    def shown_by(self, found: Outcome) -> bool:
        """Does the part show this fault?"""
        if self.outcome == "ran":
            return found.outcome == "ran" and found.ratio > self.limit
        failed = found.failed
        if failed is None or failed.outcome != self.outcome:
            return False
        if self.outcome == "refused":
            if not self.operator:
                return not failed.refusals
            return any((r.operator, r.message) == (self.operator, self.message) for r in failed.refusals)
        return (failed.stage, failed.signal) == (self.stage, self.signal)


class Trial:
    """Runs parts of one file on ``engine`` and judges them by ``trusted`` values."""

    def __init__(
        self,
        cutter: Cutter,
        trusted: Trusted,
        engine: str,
        *,
        unit: float = SINGLE,
        limits: Limits = LIMITS,
        seed: int = 0,
        timeout: float = 60.0,
        tell: Callable[[str], None] | None = None,
    ) -> None:
        self.cutter, self.trusted, self.engine = cutter, trusted, engine
        self.arithmetic = arithmetic_of(engine)
        self.unit = max(unit, self.arithmetic.unit)
        self.limits, self.timeout = limits, timeout
        self.rng = np.random.default_rng(seed)
        self.tell = tell or (lambda what: None)
        #: how many files were run
        self.runs = 0

    def test(self, parts: Sequence[Part]) -> list[Outcome]:
        """What becomes of each part, on every input set, in as few child processes as live."""
        self.runs += len(parts)
        with tempfile.TemporaryDirectory(prefix="instep-parts-") as folder:
            jobs = []
            for number, part in enumerate(parts):
                path = Path(folder) / f"{number}.tflite"
                self.cutter.write(part, path)
                jobs.append(Job(path, self._inputs(part), self.engine))
            found = [Outcome(p, r) for p, r in zip(parts, run_jobs(jobs, timeout=self.timeout), strict=True)]
            for outcome in found:
                if outcome.outcome == "ran":
                    outcome.rows = self._rows(outcome, None)
            # rounding noise only ever makes the judgement milder, so it is measured where it could matter
            doubtful = [n for n, o in enumerate(found) if o.ratio > self.limits.in_step]
            for number, draws in zip(doubtful, self._draws([jobs[n] for n in doubtful]), strict=True):
                found[number].rows = self._rows(found[number], draws)
        return found

    def _inputs(self, part: Part) -> list[list[np.ndarray]]:
        return [[self.trusted.given(n, i) for i in part.inputs] for n in range(len(self.trusted.names))]

    def _draws(self, jobs: Sequence[Job]) -> list[list[list[RunResult]]]:
        """For each job what the CPU makes of it by set: built-in kernels, the same on nudged inputs, XNNPACK."""
        asked = []
        for job in jobs:
            moved = [[nudge(a, self.rng) for a in arrays] for arrays in job.sets]
            asked += [Job(job.path, [*job.sets, *moved], "builtin"), Job(job.path, job.sets, "xnnpack")]
        results = run_jobs(asked, timeout=self.timeout) if asked else []
        found = []
        for number, job in enumerate(jobs):
            both, deployed = results[2 * number], results[2 * number + 1]
            count = len(job.sets)
            found.append([[both[n], both[count + n], deployed[n]] for n in range(count)])
        return found

    def _rows(self, found: Outcome, draws: list[list[RunResult]] | None) -> list[Row]:
        part, info = found.part, self.cutter.info
        grown = growth_of(info, part, self.limits, self.arithmetic)
        rows = []
        for position, index in enumerate(part.outputs):
            if index not in self.trusted.known:
                continue
            noise = Noise(growth=grown.get(index, 1.0), unit=self.unit)
            distances = {}
            for number, name in enumerate(self.trusted.names):
                truth = _wide(self.trusted.values[number][index])
                noise.begin(name, truth)
                if draws is not None:
                    _draw(noise, name, position, draws[number])
                result = found.results[number]
                array = floats_of(result.outputs[position], result.output_names[position], result)
                distances[name] = distance(array.reshape(truth.shape), truth, noise.skip.get(name))
            for name, found_distance in distances.items():
                value = ratio(found_distance, noise.level(name, self.limits), self.limits)
                scale = noise.scale_rms.get(name, 0.0)
                relative = found_distance.rms / scale if scale else math.inf if found_distance.rms else 0.0
                rows.append(Row(index, name, value, found_distance.peak, relative))
        return rows


def _wide(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float64) if array.dtype.kind == "f" else array


def _draw(noise: Noise, name: str, position: int, runs: list[RunResult]) -> None:
    """Take in how far the CPU's runs of one part are from each other."""
    values = [floats_of(r.outputs[position], r.output_names[position], r) for r in runs if not r.failed]
    if not values or runs[0].failed:
        return
    base = _wide(values[0])
    for other in values[1:]:
        noise.draw(name, base, other)
