"""Whether the values that an engine gave to a question are right: their distance against the rounding noise."""

from __future__ import annotations

import math

import numpy as np

from instep.runtime import RunResult
from instep.targets.probe.answers import Answer
from instep.targets.probe.question import Question
from instep.verify.noise import LIMITS, SINGLE, Arithmetic, Noise, arithmetic_of, distance, growth, ratio

__all__ = ["judge"]

#: How a result's outcome is told when there are no values.
_NO_VALUES = {"refused": "refused", "crashed": "crashed", "timed out": "timed out", "out of memory": "crashed"}


def judge(question: Question, result: RunResult, own: RunResult) -> Answer:
    """The answer in ``result``; ``own`` is what TFLite's own kernels made of the same file and inputs.

    The truth is the operators' meaning in float64, or where a step is only spelled, what the own kernels give. Raises
    RuntimeError when the engine could not be asked at all.
    """
    if result.failed:
        kind = _NO_VALUES.get(result.outcome)
        if kind is None and result.stage in ("inputs", "run"):
            kind = "refused"  # it compiled, and failed when run
        if kind is None:
            raise RuntimeError(f"{question.name}: {result.message}")
        return Answer(kind, result.signal or result.message)
    if result.engine == "xnnpack" and result.placed is not None and result.placed[1]:
        return Answer("refused", "left to TFLite's own kernels")
    said = "; ".join(result.log[:2])
    found = _ratio(question, result, own)
    if found is None:
        return Answer("not compared", "TFLite's own kernels do not run it")
    return Answer("right", ratio=found) if found <= LIMITS.drifting else Answer("wrong", said, found)


def _ratio(question: Question, result: RunResult, own: RunResult) -> float | None:
    """The largest error among the outputs in units of noise; None where nothing is known of the truth."""
    graph, truths = question.graph(), question.truth()
    if truths is None:
        if own.failed:
            return None
        truths = [_wide(a) for a in own.outputs]
    arithmetic = arithmetic_of(result.engine)
    grown = growth(graph, arithmetic=arithmetic)
    worst = 0.0
    for i, (value, truth) in enumerate(zip(graph.outputs, truths, strict=True)):
        given = result.outputs[i]
        if given.shape != truth.shape:
            return math.inf
        if truth.dtype.kind != "f":
            worst = max(worst, math.inf if not np.array_equal(given, truth) else 0.0)
            continue
        noise = Noise(unit=arithmetic.unit or SINGLE, growth=_growth(question, arithmetic, grown.get(value.name, 1.0)))
        noise.begin("", truth)
        if not own.failed:
            noise.draw("", truth, _wide(own.outputs[i]))
        worst = max(worst, ratio(distance(_wide(given), truth), noise.level("")))
    return worst


def _growth(question: Question, arithmetic: Arithmetic, grown: float) -> float:
    return max(grown, arithmetic.functions.get(question.operator, 0.0))


def _wide(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float64) if array.dtype.kind == "f" else array
