"""A text as a tree of scalars, lists and mappings that know their lines; read event by event, bounded, never built.

YAML 1.2's plain values (so ``no`` is a word, not false), without anchors, aliases and tags: what a network repeats, it
repeats by structs. JSON is the same tree.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from instep.graph.text.errors import fail
from instep.graph.text.hints import syntax

__all__ = ["MAX_BYTES", "Items", "Pairs", "Scalar", "Tree", "plain", "read_tree"]

#: Longest text (bytes), most parts of its tree, deepest nesting, longest number (letters).
MAX_BYTES, MAX_PARTS, MAX_DEPTH, MAX_NUMBER = 4_000_000, 100_000, 48, 64

_INT = re.compile(r"[-+]?[0-9]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_WORDS = {
    "": None, "null": None, "~": None, "true": True, "false": False,
    ".inf": float("inf"), "-.inf": float("-inf"), ".nan": float("nan"),
}  # fmt: skip


@dataclass(slots=True)
class Scalar:
    """A number, a word, true, false or nothing."""

    value: Any
    line: int
    quoted: bool = False


@dataclass(slots=True)
class Items:
    """A list."""

    items: list[Tree]
    line: int
    flow: bool = False


@dataclass(slots=True)
class Pairs:
    """A mapping, in the order of the text. Keys are words."""

    pairs: list[tuple[Scalar, Tree]]
    line: int
    flow: bool = False
    #: the keys seen so far, to refuse the second of a name
    keys: dict[str, int] = field(default_factory=dict, repr=False)

    def get(self, key: str) -> Tree | None:
        return next((v for k, v in self.pairs if k.value == key), None)


Tree = Scalar | Items | Pairs


def plain(tree: Tree) -> Any:
    """The tree as Python's own lists, dicts and values."""
    if isinstance(tree, Scalar):
        return tree.value
    if isinstance(tree, Items):
        return [plain(t) for t in tree.items]
    return {k.value: plain(v) for k, v in tree.pairs}


def read_tree(text: str, file: str) -> Tree:
    """Parse ``text``. Raises TextError with file and line."""
    import yaml

    if len(text) > MAX_BYTES:
        fail(file, 0, f"{len(text)} letters; at most {MAX_BYTES} are read")
    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        return _build(yaml.parse(text, Loader=loader), file)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 0
        hint = syntax(text, line, error.context_mark.line + 1 if error.context_mark else None)
        fail(file, line, f"not YAML: {error.problem or error.context}{f'; {hint}' if hint else ''}")
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        if type(error).__module__.startswith("instep"):
            raise
        fail(file, 0, f"not YAML: {str(error).splitlines()[0]}")


def _build(events: Iterator[Any], file: str) -> Tree:
    import yaml

    stack: list[Items | Pairs] = []
    keys: list[Scalar | None] = []
    root: Tree | None = None
    documents = 0
    begins = (yaml.ScalarEvent, yaml.CollectionStartEvent)
    for count, event in enumerate(events):
        line = event.start_mark.line + 1 if event.start_mark else 0
        if count > MAX_PARTS:
            fail(file, line, f"the text has more than {MAX_PARTS} parts")
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            fail(
                file, line, "anchors (&) and aliases (*) are not part of the language; write a struct and use it twice"
            )
        if isinstance(event, yaml.DocumentStartEvent):
            documents += 1
            if documents > 1:
                fail(file, line, "a second document begins here; one file holds one network")
        if isinstance(event, yaml.CollectionEndEvent):
            root = _place(stack.pop(), stack, keys, file)
            keys.pop()
            continue
        if not isinstance(event, begins):
            continue
        if getattr(event, "tag", None):
            fail(file, line, f"tags ({event.tag}) are not part of the language")
        if isinstance(event, yaml.ScalarEvent):
            root = _place(_scalar(event, line, file), stack, keys, file)
            continue
        if len(stack) >= MAX_DEPTH:
            fail(file, line, f"nested deeper than {MAX_DEPTH}")
        flow = bool(getattr(event, "flow_style", False))
        stack.append(Items([], line, flow) if isinstance(event, yaml.SequenceStartEvent) else Pairs([], line, flow))
        keys.append(None)
    if root is None:
        fail(file, 1, "the text is empty; a network has at least 'input' and 'body'")
    return root


def _place(made: Tree, stack: list[Items | Pairs], keys: list[Scalar | None], file: str) -> Tree:
    """Hand ``made`` to the list or mapping that is open; a mapping takes keys and values in turn."""
    depth = len(stack) - 1
    if depth < 0:
        return made
    parent = stack[depth]
    if isinstance(parent, Items):
        parent.items.append(made)
        return made
    # the slot of ``made`` itself is still on ``keys`` when a collection has just been closed
    key = keys[depth]
    if key is not None:
        parent.pairs.append((key, made))
        keys[depth] = None
        return made
    if not isinstance(made, Scalar) or isinstance(made.value, bool) or made.value is None:
        fail(file, made.line, "a key is a word here")
    word = Scalar(str(made.value), made.line, made.quoted)
    if word.value in parent.keys:
        fail(file, made.line, f"'{word.value}' is here a second time; first on line {parent.keys[word.value]}")
    parent.keys[word.value] = made.line
    keys[depth] = word
    return made


def _scalar(event: Any, line: int, file: str) -> Scalar:
    text = event.value
    if event.style in ("'", '"', "|", ">"):
        return Scalar(text, line, True)
    low = text.lower()
    if low in _WORDS and text in (low, text.capitalize(), text.upper()):
        return Scalar(_WORDS[low], line)
    whole = _INT.fullmatch(text)
    if whole or _FLOAT.fullmatch(text):
        if len(text) > MAX_NUMBER:
            fail(file, line, f"a number of {len(text)} letters")
        return Scalar(int(text) if whole else float(text), line)
    return Scalar(text, line)
