"""How far a step is from the truth, weight by weight, in units of the step's own rounding noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from instep.verify.noise import LIMITS, Noise, classify, distance, ratio

__all__ = ["KEPT", "judged"]

Arrays = Mapping[str, np.ndarray]

#: Behind a weight's name: the array that the framework keeps, where that is the weight and a constant.
KEPT = "/kept"


def judged(start: Arrays, truth: Arrays, draws: Sequence[Arrays], result: Arrays) -> dict[str, Any]:
    """The worst weight of a step: "ratio", its name and "class"; how many weights there are, and how many moved.

    ``draws`` are steps that are as right as ``result`` may be. "error" where weights are missing.
    """
    missing = sorted(set(truth) - set(result))
    if missing:
        return {"error": f"{len(missing)} weights are missing: {', '.join(missing[:3])}"}
    found: dict[str, float] = {}
    for key in truth:
        before = start[key].astype(np.float64)
        change = truth[key] - before
        noise = Noise()
        noise.begin("batch", change)
        for draw in draws:
            noise.draw("batch", change, draw[key] - before)
        # what is stored is rounded: half a unit in the last place of the weight itself, or of the sum that it is in
        kept = [before, *([result[f"{key}{KEPT}"]] if f"{key}{KEPT}" in result else [])]
        stored = float(np.spacing(np.float32(max(np.abs(a).max(initial=0) for a in kept)))) / 2
        rms, peak = noise.level("batch", LIMITS)
        found[key] = ratio(distance(result[key] - before, change), (max(rms, stored), max(peak, stored)))
    worst = max(found, key=found.__getitem__)
    return {
        "ratio": found[worst],
        "worst": worst,
        "class": classify(found[worst]),
        "weights": len(found),
        "moved": sum(bool(np.any(truth[k] != start[k])) for k in truth),
    }
