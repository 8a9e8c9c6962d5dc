"""One way to write a text: sections in order, two spaces, a step a line; comments stay where they are."""

from __future__ import annotations

import re

from instep.graph.text.structs import SECTIONS
from instep.graph.text.tree import Items, Pairs, Scalar, Tree, read_tree
from instep.graph.text.writing import WIDTH, block, flow

__all__ = ["format_text"]

#: Sections with a line of their own for every entry, an empty line before them.
_TALL = ("structs", "body")
#: What may end a word within brackets.
_ENDS = re.compile(r"[,:?\[\]{}]")


def format_text(text: str, file: str = "<text>") -> str:
    """``text`` as the formatter has it; formatting it again changes nothing. Raises TextError."""
    root = read_tree(text, file)
    if not isinstance(root, Pairs):
        return text
    writer = _Writer(_comments(text))
    order = {name: i for i, name in enumerate(SECTIONS)}
    pairs = sorted(root.pairs, key=lambda p: order.get(p[0].value, len(order)))
    moved = [k.line for k, _ in pairs] != sorted(k.line for k, _ in pairs)
    if moved and writer.comments:
        pairs = root.pairs  # comments lie between lines: moving sections would tear them from what they are about
    for key, value in pairs:
        if key.value in _TALL and writer.lines:
            writer.gap()
        writer.pair(key, value, "")
    return writer.done()


def _comments(text: str) -> list[tuple[int, str, bool]]:
    """Line, comment, and whether it has its line for itself."""
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        at = _comment_at(line)
        if at is not None:
            found.append((number, line[at:].rstrip(), not line[:at].strip()))
    return found


def _comment_at(line: str) -> int | None:
    quote = ""
    for i, letter in enumerate(line):
        if quote:
            quote = "" if letter == quote and (quote == "'" or line[i - 1] != "\\") else quote
        elif letter in "'\"" and (i == 0 or line[i - 1] in " [{,:-"):
            quote = letter
        elif letter == "#" and (i == 0 or line[i - 1] in " \t"):
            return i
    return None


class _Writer:
    def __init__(self, comments: list[tuple[int, str, bool]]) -> None:
        self.comments = comments
        self.lines: list[str] = []
        self.waiting = False

    def gap(self) -> None:
        """An empty line before what comes next, its comments included."""
        self.waiting = True

    def line(self, text: str, source: int, indent: str) -> None:
        """One line, behind the comments that stood before line ``source``, with the comment that stood on it."""
        if self.waiting and self.lines and self.lines[-1]:
            self.lines.append("")
        self.waiting = False
        behind = ""
        while self.comments and self.comments[0][0] <= source:
            at, comment, alone = self.comments.pop(0)
            if alone or at < source:
                self.lines.append(indent + comment)
            else:
                behind = f"  {comment}"
        self.lines.append(text.rstrip() + behind)

    def done(self) -> str:
        self.lines += [c for _, c, _ in self.comments]
        return "\n".join(self.lines) + "\n"

    def pair(self, key: Scalar, value: Tree, indent: str, dash: str = "") -> None:
        """``key: value``, on one line where it fits and is no list of steps."""
        before = f"{indent}{dash}{_key(key)}"
        inner = indent + " " * len(dash) + "  "
        if isinstance(value, Scalar) and value.value is None:
            self.line(f"{before}:", key.line, indent)
            return
        short = f"{before}: {_flow(value, inside=False)}"
        spans = self._commented(value)
        steps = _is_steps(key, value)
        tall = steps or key.value == "structs" or _stands(value)
        if not tall and not spans and (len(short) <= WIDTH or _row(value)):
            self.line(short, key.line, indent)
            return
        self.line(f"{before}:", key.line, indent)
        below = f"{inner}{_flow(value)}"
        if dash and not tall and not spans and len(below) <= WIDTH:
            self.lines.append(below)
            return
        self.inside(value, inner if not (steps and not dash) else indent + "  ", key.value == "structs")

    def inside(self, value: Tree, indent: str, gaps: bool = False) -> None:
        if isinstance(value, Pairs):
            for number, (key, inner) in enumerate(value.pairs):
                if gaps and number:
                    self.gap()
                self.pair(key, inner, indent)
        elif isinstance(value, Items):
            for item in value.items:
                if isinstance(item, Pairs) and len(item.pairs) == 1:
                    (key, inner) = item.pairs[0]
                    self.pair(key, inner, indent, "- ")
                else:
                    flat = _flow(item, inside=False)
                    text = block(item.value) if isinstance(item, Scalar) and item.quoted else flat
                    self.line(f"{indent}- {text}", item.line, indent)

    def _commented(self, value: Tree) -> bool:
        """Whether a comment lies within ``value``, which then keeps its lines."""
        if isinstance(value, Scalar):
            return False
        last = _last(value)
        return last > value.line and any(value.line <= c[0] <= last for c in self.comments)


def _last(tree: Tree) -> int:
    if isinstance(tree, Items):
        return max([tree.line, *(_last(t) for t in tree.items)])
    if isinstance(tree, Pairs):
        return max([tree.line, *(_last(v) for _, v in tree.pairs)])
    return tree.line


def _is_steps(key: Scalar, value: Tree) -> bool:
    """A body, or what stands under ``for`` and ``if``."""
    word = str(key.value)
    return isinstance(value, Items) and (word in ("body", "else") or bool(re.match(r"(for|if|elif)\s", word)))


def _stands(value: Tree) -> bool:
    """Whether a list is written down the page within ``value``: steps, or the rows of a table."""
    if isinstance(value, Pairs):
        return any(_stands(v) for _, v in value.pairs)
    return isinstance(value, Items) and not value.flow


def _row(value: Tree) -> bool:
    """Whether ``value`` is words and numbers alone, in brackets or not: that is one line, however long."""
    return isinstance(value, Scalar) or (isinstance(value, Items) and all(_row(v) for v in value.items))


def _key(key: Scalar) -> str:
    text = str(key.value)
    plain = text.replace(" := ", " = ")
    simple = re.fullmatch(r"[A-Za-z0-9_.][^:#\"'\[\]{}]*", plain) and not text.endswith(" ")
    braces = re.fullmatch(r"[A-Za-z0-9_.][^:#\"'\[\]]*", plain)
    table = re.fullmatch(r"(for|if|elif) [^:#\"'{}]*", text)
    return text if not key.quoted or simple or braces or table else flow(text)


def _flow(tree: Tree, *, inside: bool = True) -> str:
    """``tree`` in flow style; ``inside``: between brackets, where commas and brackets end a word that has no quotes."""
    if isinstance(tree, Items):
        return "[" + ", ".join(_flow(t) for t in tree.items) + "]"
    if isinstance(tree, Pairs):
        return "{" + ", ".join(f"{_flow(k)}: {_flow(v)}" for k, v in tree.pairs) + "}"
    bare = isinstance(tree.value, str) and not tree.quoted and "\n" not in tree.value
    return str(tree.value) if bare and not (inside and _ENDS.search(str(tree.value))) else flow(tree.value)
