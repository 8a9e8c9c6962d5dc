"""Statements broken into lines as formatters have it (Black's rule: the last brackets first)."""

from __future__ import annotations

__all__ = ["WIDTH", "fitted"]

WIDTH = 120
_PAIRS = {"(": ")", "[": "]", "{": "}"}


def fitted(text: str, indent: str = "", width: int = WIDTH, behind: int = 0) -> list[str]:
    """``text``, one statement, as lines of no more than ``width`` characters where brackets allow it.

    Blanks that it begins with are indentation. ``behind``: how many characters follow its last line, such as a comma.
    """
    if not text:
        return [""]
    plain = text.lstrip(" ")
    indent, text = indent + " " * (len(text) - len(plain)), plain
    if len(indent) + len(text) + behind <= width:
        return [indent + text]
    if (where := _comprehension(text)) is not None:
        return [*fitted(text[:where], indent, width), *fitted(text[where + 1 :], indent, width, behind)]
    cut = _last_brackets(text, width - len(indent) - behind)
    if cut is None:
        return _parenthesised(text, indent, width)
    start, stop = cut
    head, inside, tail = text[: start + 1], text[start + 1 : stop], text[stop:]
    if not inside.strip():
        return [indent + text]
    deeper = indent + "    "
    if len(deeper) + len(inside) <= width:
        return [indent + head, deeper + inside, indent + tail]
    lines = [indent + head]
    parts = _split(inside)
    lone = len(parts) == 1 and (_comprehension(inside) is not None or inside.startswith("*"))
    for part in parts:
        made = fitted(part, deeper, width, 0 if lone else 1)
        made[-1] += "" if lone else ","
        lines += made
    return [*lines, indent + tail]


def _comprehension(text: str) -> int | None:
    """Where, in what stands between a comprehension's brackets, the element ends and its ``for`` begins."""
    depths = _scan(text)
    return next((n for n in range(len(text)) if depths[n] == 0 and text.startswith(" for ", n)), None)


def _parenthesised(text: str, indent: str, width: int) -> list[str]:
    """A statement without brackets that could be opened: parentheses around what is right of the equals sign."""
    left, sign, right = text.partition(" = ")
    deeper = indent + "    "
    if sign and len(deeper) + len(right) <= width:
        return [f"{indent}{left} = (", deeper + right, f"{indent})"]
    return [indent + text]


def _scan(text: str) -> list[int]:
    """The depth of brackets before each character; -1 within quotes."""
    depths, depth, quoted, skip = [], 0, False, False
    for c in text:
        if quoted:
            depths.append(-1)
            if skip:
                skip = False
            elif c == "\\":
                skip = True
            elif c == '"':
                quoted = False
            continue
        if c == '"':
            quoted = True
            depths.append(-1)
            continue
        if c in ")]}":
            depth -= 1
        depths.append(depth)
        if c in "([{":
            depth += 1
    return depths


def _last_brackets(text: str, room: int) -> tuple[int, int] | None:
    """The outermost brackets that close last, with something in them."""
    depths = _scan(text)
    for stop in range(len(text) - 1, -1, -1):
        if text[stop] in ")]}" and depths[stop] == 0:
            start = max(n for n in range(stop) if depths[n] == 0 and text[n] in "([{")
            made = _last_brackets(text[:start], 0) if start >= room and text[start - 1] == ")" else None
            if made and made[1] == start - 1:
                return made  # of what is called as it is made, the making is broken if it is too long: Layer(...)(x)
            if start + 1 < stop:
                return start, stop
    return None


def _split(inside: str) -> list[str]:
    """The parts between commas of the outermost level."""
    depths = _scan(inside)
    parts, first = [], 0
    for n, c in enumerate(inside):
        if c == "," and depths[n] == 0:
            parts.append(inside[first:n].strip())
            first = n + 1
    rest = inside[first:].strip()
    return [*parts, rest] if rest else parts
