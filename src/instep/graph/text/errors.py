"""What goes wrong in a text: a message that begins with the file and the line."""

from __future__ import annotations

from typing import NoReturn

from instep.graph.core import GraphError

__all__ = ["TextError", "fail"]

#: A message quotes what the text says, which may be as long as anything.
LONGEST = 1500


class TextError(GraphError):
    """A text that is no network; the message says where (``rlfn.yaml:31``), what, and what would be right."""


def fail(file: str, line: int, why: str) -> NoReturn:
    """Raise a TextError about one line of a file."""
    said = why if len(why) <= LONGEST else f"{why[:LONGEST]} …"
    raise TextError(f"{file}:{line}: {said}" if line else f"{file}: {said}") from None
