"""Operators that may give their results in any order: they are asked for the one order that a file has."""

from __future__ import annotations

from typing import Any

import torch

__all__ = ["in_order"]


def in_order(target: Any, args: Any) -> Any:
    """``args`` of an operator, where ``topk(..., sorted=False)`` leaves open which order its results have."""
    if target is torch.ops.aten.topk.default and len(args) == 5:
        return (*args[:4], True)
    return args
