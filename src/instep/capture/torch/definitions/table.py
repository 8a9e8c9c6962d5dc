"""The table of definitions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["DEFINITIONS", "Definition", "defines"]

Definition = Callable[..., Any]

#: ATen (or other) operator with its overload, as PyTorch prints it, to the function that defines it.
DEFINITIONS: dict[str, Definition] = {}


def defines(*names: str) -> Callable[[Definition], Definition]:
    """Decorator: the function says what these operators compute, ``@defines("aten.isclose.default")``.

    It raises Unsupported for arguments that it does not cover, and calls no function of PyTorch that is the operator.
    """

    def wrap(function: Definition) -> Definition:
        for name in names:
            DEFINITIONS[name] = function
        return function

    return wrap
