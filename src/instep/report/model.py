"""What a report says, free of where it came from: plain rows that the terminal and the HTML page both print."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["Document", "Picture", "RewriteRow", "ValueRow", "human_bytes", "human_count", "human_ratio"]


@dataclass(frozen=True)
class ValueRow:
    """One compared value: ``status`` is "in step", "drifting", "out of step" or "not comparable"."""

    name: str
    scope: str
    operator: str
    origin: str
    status: str
    #: error divided by the network's own rounding noise; None where nothing could be compared
    ratio: float | None
    max_abs: float | None = None
    diagnosis: str = ""


@dataclass(frozen=True)
class RewriteRow:
    """One rewrite that changed the graph, with the sentence that says why it is exact."""

    name: str
    exact: str
    nodes_before: int
    nodes_after: int
    seconds: float
    #: largest change of an output after it, in units of that output's float32 noise; None when no proof ran
    proof: float | None = None


@dataclass(frozen=True)
class Picture:
    """One image-to-image output: PNG bytes of input, source, result and their amplified difference."""

    name: str
    input: bytes
    source: bytes
    result: bytes
    difference: bytes
    amplification: float
    max_abs: float


@dataclass
class Document:
    """Everything the HTML report shows, in order."""

    title: str
    file: str
    verdict: str
    summary: str
    #: where the result left its source and why
    fault: list[tuple[str, str]] = field(default_factory=list)
    #: (label, value) pairs of the head of the page
    facts: list[tuple[str, str]] = field(default_factory=list)
    #: every compared value in the order in which the network computes them
    values: list[ValueRow] = field(default_factory=list)
    outputs: list[ValueRow] = field(default_factory=list)
    worst: list[ValueRow] = field(default_factory=list)
    #: a ratio up to the first is in step, up to the second drifting
    thresholds: tuple[float, float] = (1.0, 1.0)
    ops_before: dict[str, int] = field(default_factory=dict)
    ops_after: dict[str, int] = field(default_factory=dict)
    rewrites: list[RewriteRow] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)


def human_bytes(count: int) -> str:
    """``1536`` → ``1.5 KiB``."""
    size = float(count)
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.2f} GiB"


def human_count(count: int, figures: int = 3) -> str:
    """``54321`` → ``54.3 k``: three figures, or as many as are asked for, and a decimal prefix."""
    size = float(count)
    for unit in ("", " k", " M", " G"):
        if size < 1000:
            return f"{count}" if not unit else f"{size:.{figures}g}{unit}"
        size /= 1000
    return f"{size:.{figures}g} T"


def human_ratio(ratio: float | None) -> str:
    """``1.234`` → ``1.2×``; no number where nothing was compared."""
    if ratio is None:
        return "–"
    if ratio != ratio:
        return "NaN"
    if ratio == float("inf"):
        return "∞"
    return f"{ratio:.2g}×" if ratio < 100 else f"{ratio:.3g}×" if ratio < 1e4 else f"{ratio:.1e}×"
