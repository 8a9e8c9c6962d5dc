"""The chart of error over noise along the network, as inline SVG that keeps its dots round at every width."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from instep.report.model import ValueRow, human_ratio

__all__ = ["chart"]

_COLOURS = {"in step": "good", "drifting": "warn", "out of step": "bad"}
_MOST_DOTS = 1200


def chart(rows: Sequence[ValueRow], thresholds: tuple[float, float]) -> str:
    """A ``<div>`` with the chart, or "" when no value has a ratio.

    The SVG is stretched to its box (``preserveAspectRatio="none"``); dots are zero-length strokes with round caps and
    ``non-scaling-stroke``, so they stay round, and the axis texts are HTML, so they stay readable on a phone.
    """
    points = [(i, r) for i, r in enumerate(rows) if r.ratio is not None]
    if not points:
        return ""
    points = _thin(points)
    finite = [r.ratio for _, r in points if r.ratio is not None and math.isfinite(r.ratio) and r.ratio > 0]
    low = math.floor(math.log10(max(min([*finite, thresholds[0] / 10]), 1e-3)))
    high = math.ceil(math.log10(min(max([*finite, thresholds[1] * 3]), 1e12)))
    span = max(high - low, 1)

    def height(ratio: float) -> float:
        if not math.isfinite(ratio):
            return 1.5
        return 100 - 100 * (min(max(math.log10(max(ratio, 10**low)), low), high) - low) / span

    width = max(len(rows) - 1, 1)
    dots = "".join(
        f'<path class="{_COLOURS.get(r.status, "mute")}" d="M{100 * i / width:.2f} {height(r.ratio or 0.0):.2f}h.001">'
        f"<title>{escape(_title(r))}</title></path>"
        for i, r in points
    )
    steady, drift = (height(t) for t in thresholds)
    bands = (
        f'<rect class="bad" x="0" y="0" width="100" height="{drift:.2f}"/>'
        f'<rect class="warn" x="0" y="{drift:.2f}" width="100" height="{steady - drift:.2f}"/>'
        f'<rect class="good" x="0" y="{steady:.2f}" width="100" height="{100 - steady:.2f}"/>'
    )
    step = max(1, math.ceil(span / 6))
    ticks = "".join(
        f'<span style="top:{100 - 100 * (e - low) / span:.2f}%">{_power(e)}</span>' for e in range(low, high + 1, step)
    )
    lines = "".join(
        f'<path class="grid" d="M0 {100 - 100 * (e - low) / span:.2f}H100"/>' for e in range(low, high + 1, step)
    )
    return (
        f'<div class="chart"><div class="ticks">{ticks}</div>'
        f'<svg viewBox="0 0 100 100" preserveAspectRatio="none" role="img" '
        f'aria-label="error over noise of {len(points)} values">{bands}{lines}{dots}</svg>'
        f'<div class="ends"><span>input</span><span>output</span></div></div>'
    )


def _thin(points: list[tuple[int, ValueRow]]) -> list[tuple[int, ValueRow]]:
    """At most ``_MOST_DOTS``: of each group of neighbours the worst is kept."""
    group = math.ceil(len(points) / _MOST_DOTS)
    if group <= 1:
        return points
    return [
        max(points[i : i + group], key=lambda p: -1.0 if p[1].ratio is None else p[1].ratio)
        for i in range(0, len(points), group)
    ]


def _title(row: ValueRow) -> str:
    place = f" ({row.origin})" if row.origin else ""
    return f"{row.scope or row.name}: {row.operator}{place}\n{human_ratio(row.ratio)} of the noise, {row.status}"


def _power(exponent: int) -> str:
    return f"{10**exponent:g}" if -2 <= exponent <= 3 else f"10<sup>{exponent}</sup>"
