"""Handlers of ATen operators, one file per family; ``load`` fills the registry."""

from __future__ import annotations

import importlib

__all__ = ["FAMILIES", "load"]

FAMILIES = (
    "elementwise", "bits", "activation", "spatial", "pool", "resize", "shape", "index", "linear", "norm",
    "attention", "reduce", "recurrent", "complex", "fourier", "stft", "scan", "transcendental", "bags",
)  # fmt: skip


def load() -> None:
    """Import every family once."""
    for family in FAMILIES:
        importlib.import_module(f"{__name__}.{family}")
