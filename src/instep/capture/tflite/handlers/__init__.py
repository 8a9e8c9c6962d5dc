"""Handlers of TFLite's operators, one file per family as in graph/ops; ``load`` fills the registry."""

from __future__ import annotations

import importlib

__all__ = ["FAMILIES", "load"]

FAMILIES = (
    "boxes", "elementwise", "fourier", "linear", "mediapipe", "recurrent", "reduce", "segments", "shape", "spatial",
    "stablehlo",
)  # fmt: skip


def load() -> None:
    """Import every family once."""
    for family in FAMILIES:
        importlib.import_module(f"{__name__}.{family}")
