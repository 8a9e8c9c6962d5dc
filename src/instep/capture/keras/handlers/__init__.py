"""Handlers of Keras' layers and functions, one file per family; ``load`` fills the registry."""

from __future__ import annotations

import importlib

__all__ = ["FAMILIES", "load"]

FAMILIES = (
    "activation", "attention", "functions", "images", "linear", "merge", "norm", "ours", "pool", "products",
    "recurrent", "shape", "spatial", "tensorflow",
)  # fmt: skip


def load() -> None:
    """Import every family once."""
    for family in FAMILIES:
        importlib.import_module(f"{__name__}.{family}")
