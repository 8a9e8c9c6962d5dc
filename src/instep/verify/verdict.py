"""What a proof says: a verdict, and one row per compared value in the order in which data flows."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Culprit", "Diagnosis", "Row", "Verdict"]


@dataclass
class Diagnosis:
    """The likely cause: its name, the node it fits, how well, and the evidence as one sentence."""

    cause: str
    node: str
    scope: str
    origin: str
    evidence: str
    #: share of the error that is left when the cause is assumed (0 = explains everything)
    left: float = 0.0
    #: the value made by the node (identifies it in the captured graph)
    value: str = ""
    #: other causes that fit as well
    also: tuple[str, ...] = ()

    def __str__(self) -> str:
        place = f" at {self.node}" if self.node else ""
        return f"{self.cause}{place}: {self.evidence}"


@dataclass
class Culprit:
    """The step of a conversion after which the result's values leave the source's.

    ``stage`` is "capture", "rewrite", "emit" or "runtime"; ``name`` the rewrite, the operator as it was captured or
    written, or the engine.
    """

    stage: str
    name: str
    #: the operator that the step touched, where it is in the source, and the value that left
    operator: str
    scope: str
    origin: str
    value: str
    ratio: float
    evidence: str
    #: why the rewrite should be exact, and which of the ``steps`` that changed the graph it was
    exact: str = ""
    step: int = 0
    steps: int = 0
    #: how many graphs and files were run to find it
    evaluations: int = 0

    @property
    def place(self) -> str:
        """``Conv2d 'backbone.stem' (model.py:41)``."""
        return f"{self.operator} '{self.scope}'" + (f" ({self.origin})" if self.origin else "")

    def __str__(self) -> str:
        title = {"rewrite": f"the rewrite '{self.name}'", "emit": f"the emitter, writing {self.name}",
                 "runtime": f"the engine {self.name}", "capture": "capture"}[self.stage]  # fmt: skip
        return f"{title}, at {self.place}: {self.evidence}"

    def to_json(self) -> dict[str, Any]:
        """Plain data under the keys of the command line's JSON."""
        return {**vars(self), "ratio": number(self.ratio)}


@dataclass
class Row:
    """One value of the result beside the source's: where it comes from and how far from the truth it is."""

    source: str
    tensor: str
    scope: str
    operator: str
    origin: str
    shape: tuple[int, ...]
    ratio: float
    verdict: str
    max_abs: float
    relative: float
    noise: float
    inputs: str
    engine: str = ""
    output: bool = False
    diagnosis: str = ""

    @property
    def sqnr(self) -> float:
        """Signal to (quantisation) noise in dB on the worst input; inf where nothing is lost."""
        return -20 * math.log10(self.relative) if self.relative > 0 else math.inf

    def to_json(self) -> dict[str, Any]:
        """Plain data under the keys of the command line's JSON."""
        return {
            "value": self.source, "tensor": self.tensor, "scope": self.scope, "operator": self.operator,
            "origin": self.origin, "shape": list(self.shape), "verdict": self.verdict, "ratio": number(self.ratio),
            "max_abs": number(self.max_abs), "relative": number(self.relative), "noise": number(self.noise),
            "sqnr": number(self.sqnr), "inputs": self.inputs, "engine": self.engine, "diagnosis": self.diagnosis,
        }  # fmt: skip


def number(value: float) -> float | str | None:
    """JSON has no infinity and no NaN: they become the words."""
    if math.isfinite(value):
        return float(value)
    return "nan" if math.isnan(value) else "inf"


@dataclass
class Verdict:
    """Whether a result is the same function as its source.

    ``verdict`` is the class of the worst output: "in step", "drifting" or "out of step" ("not comparable" when no
    output can be compared). ``noise_ratio`` is that output's distance from the truth in units of the source's own
    rounding noise. ``rows`` follow the data; ``first`` is the first value that left step. On an ``engine`` of the
    user's choice, "refused", "crashed", "timed out" and "out of memory" are verdicts too: ``refusals`` lists the
    operators with the engine's reasons, ``said`` all that it said.
    """

    verdict: str
    noise_ratio: float
    max_abs: float
    correlation: float
    rows: list[Row] = field(default_factory=list)
    outputs: list[Row] = field(default_factory=list)
    first: Row | None = None
    diagnosis: Diagnosis | None = None
    #: the nodes that may be at fault: those between the last values in step and the first that is not
    suspects: list[str] = field(default_factory=list)
    #: the names of the values that those nodes make
    suspect_values: list[str] = field(default_factory=list)
    #: of a conversion out of step: the step that is to blame
    culprit: Culprit | None = None
    not_comparable: list[str] = field(default_factory=list)
    inputs: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    #: why it is not in step where the outputs that were compared are
    why: str = ""
    engine: str = ""
    refusals: list[dict[str, str]] = field(default_factory=list)
    said: str = ""
    #: figures against thresholds of the user's own, for results that are lossy by intention
    lossy: dict[str, Any] | None = None
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """True when the result is in step (or, where the user stated thresholds, meets them)."""
        if self.thresholds_stated:
            return bool(self.lossy and self.lossy["ok"])
        return self.verdict == "in step"

    @property
    def thresholds_stated(self) -> bool:
        """True when the verdict is about thresholds of the user's own; figures alone do not decide."""
        return self.lossy is not None and bool(self.lossy["stated"])

    def worst(self, count: int = 10) -> list[Row]:
        """The values furthest from the truth: first the outputs, then what comes first in each class."""
        bad = [r for r in self.rows if r.verdict in ("out of step", "drifting")]
        bad.sort(key=lambda r: (r is not self.first, r.verdict == "drifting"))
        chosen: list[Row] = []
        for row in [*([self.first] if self.first else []), *self.outputs, *bad]:
            if not any(row is c for c in chosen):
                chosen.append(row)
        if len(chosen) < count:
            rest = sorted(self.rows, key=lambda r: -r.ratio if math.isfinite(r.ratio) else -math.inf)
            chosen += [r for r in rest if not any(r is c for c in chosen)]
        return chosen[:count]

    def to_json(self, count: int = 10) -> dict[str, Any]:
        """Plain data: ``verdict``, ``noise_ratio``, ``max_abs``, ``correlation``, ``worst`` and the diagnosis."""
        first = self.first.to_json() if self.first else None
        return {
            "verdict": self.verdict,
            "noise_ratio": number(self.noise_ratio),
            "max_abs": number(self.max_abs),
            "correlation": number(self.correlation),
            "values": len(self.rows),
            "in_step": sum(r.verdict == "in step" for r in self.rows),
            "first_out_of_step": first,
            "diagnosis": None if self.diagnosis is None else {
                "cause": self.diagnosis.cause, "node": self.diagnosis.node, "scope": self.diagnosis.scope,
                "origin": self.diagnosis.origin, "evidence": self.diagnosis.evidence,
                "also": list(self.diagnosis.also),
            },
            "suspects": self.suspects,
            "culprit": None if self.culprit is None else self.culprit.to_json(),
            "inputs": self.inputs,
            "notes": self.notes,
            **({"why": self.why} if self.why else {}),
            **({"engine": self.engine, "refusals": self.refusals, "said": self.said} if self.engine else {}),
            "worst": [r.to_json() for r in self.worst(count)],
            **({"lossy": self.lossy} if self.lossy is not None else {}),
            "seconds": round(self.seconds, 4),
        }  # fmt: skip

    def summary(self) -> str:
        """One paragraph for a person."""
        if self.said:
            return f"{self.verdict} by {self.engine}: {self.said}"
        why = f"{self.why}; " if self.why else ""
        lines = [
            f"{self.verdict}: {why}worst output at {self.noise_ratio:.3g} × the network's own rounding noise "
            f"(max |error| {self.max_abs:.3g}, correlation {self.correlation:.9g})"
        ]
        if self.first is not None:
            r = self.first
            place = f" ({r.origin})" if r.origin else ""
            lines.append(f"first value out of step: {r.operator} '{r.scope or r.source}'{place}, ratio {r.ratio:.3g}")
        if self.diagnosis is not None:
            lines.append(f"likely cause: {self.diagnosis}")
        if self.culprit is not None:
            lines.append(f"culprit: {self.culprit}")
        return "\n".join(lines)


def correlation(a: Any, b: Any) -> float:
    """Pearson correlation of two arrays; 1 when both are constant and equal."""
    import numpy as np

    x, y = np.asarray(a, np.float64).ravel(), np.asarray(b, np.float64).ravel()
    good = np.isfinite(x) & np.isfinite(y)
    if not good.all():
        x, y = x[good], y[good]
    if x.size == 0:
        return math.nan
    x, y = x - x.mean(), y - y.mean()
    xx, yy, xy = (float(np.einsum("i,i->", a, b)) for a, b in ((x, x), (y, y), (x, y)))
    if xx == 0.0 or yy == 0.0:
        return 1.0 if xx == yy else 0.0
    return max(-1.0, min(1.0, xy / math.sqrt(xx * yy)))
