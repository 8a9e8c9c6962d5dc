"""Handlers of TFLite's builtin operators, one file per family as in graph/ops; ``load`` fills the registry."""

from __future__ import annotations

import importlib

__all__ = ["FAMILIES", "load"]

FAMILIES = ("elementwise", "fourier", "linear", "recurrent", "reduce", "segments", "shape", "spatial")


def load() -> None:
    """Import every family once."""
    for family in FAMILIES:
        importlib.import_module(f"{__name__}.{family}")
