"""What goes wrong in a text: a message that begins with the file and the line."""

from __future__ import annotations

from typing import NoReturn

from instep.graph.core import GraphError

__all__ = ["TextError", "fail"]


class TextError(GraphError):
    """A text that is no network; the message says where (``rlfn.yaml:31``), what, and what would be right."""


def fail(file: str, line: int, why: str) -> NoReturn:
    """Raise a TextError about one line of a file."""
    raise TextError(f"{file}:{line}: {why}" if line else f"{file}: {why}") from None
