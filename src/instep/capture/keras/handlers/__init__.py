"""Handlers of Keras' layers and functions, one file per family; ``load`` fills the registry."""

from __future__ import annotations

import importlib

__all__ = ["FAMILIES", "load"]

FAMILIES = (
    "activation", "arithmetic", "attention", "calculus", "encodings", "images", "linear", "local", "matrices", "merge",
    "norm", "normalising", "ours", "picking", "pictures", "pool", "products", "recurrent", "reductions", "refusals",
    "shape", "spatial", "spectra", "tensorflow", "views",
)  # fmt: skip


def load() -> None:
    """Import every family once."""
    for family in FAMILIES:
        importlib.import_module(f"{__name__}.{family}")
