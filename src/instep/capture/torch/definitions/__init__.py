"""Operators in the words of PyTorch's other operators, where PyTorch has no words that a file can be made of.

A definition is a function of the operator's own arguments. ``spelled`` traces it, so the graph is made of its parts;
the proof still runs the operator itself. One file per family; ``definition`` is the way in.
"""

from __future__ import annotations

import importlib
from typing import Any

from instep.capture.torch.definitions.table import DEFINITIONS, Definition

__all__ = ["definition"]

_FAMILIES = ("arithmetic", "indexing", "matrices", "regions", "sampling")


def definition(target: Any) -> Definition | None:
    """The function that defines the operator ``target``, or None."""
    if not DEFINITIONS:
        for family in _FAMILIES:
            importlib.import_module(f"{__name__}.{family}")
    return DEFINITIONS.get(str(target))
