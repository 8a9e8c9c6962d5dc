"""Rewrites that make a lowered graph acceptable to a target, chosen by its violations; one purpose a file."""

from __future__ import annotations

from instep.targets.rewrites import (  # noqa: F401  (they fill the table)
    batch,
    convolutions,
    elementwise,
    linear,
    masks,
    moves,
    norms,
    plain,
    pools,
    rankings,
    reductions,
    transposes,
)
from instep.targets.rewrites.table import CLEARINGS, Clearing, Target, clearing, clearings_for

__all__ = ["CLEARINGS", "Clearing", "Target", "clearing", "clearings_for"]
