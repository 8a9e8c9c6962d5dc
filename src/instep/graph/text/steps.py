"""One step of a body: ``names = kind(inputs)``, ``let``, ``require``, or ``for``, ``if``, ``elif``, ``else``."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from instep.graph.expression import Expression, ExpressionError, fill, outlined
from instep.graph.text.errors import fail
from instep.graph.text.tree import Items, Pairs, Scalar, Tree

__all__ = ["Call", "Step", "expression", "outlined_call", "read_body", "read_call", "read_chain"]

_CALL = re.compile(
    r"(?:(?P<names>[^=():]+?)\s*(?P<sign>:?=)\s*)?(?P<kind>[A-Za-z_][A-Za-z0-9_]*)\s*(?:\((?P<inputs>[^()]*)\))?"
)
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]*")
_FOR = re.compile(
    r"for\s+(?P<names>[A-Za-z_][A-Za-z0-9_]*(?:\s*,\s*[A-Za-z_][A-Za-z0-9_]*)*)\s+in\s+(?P<over>.+)", re.S
)
_IF = re.compile(r"(?P<word>if|elif)\s+(?P<test>.+)", re.S)

#: Stands in a key for what an expression in braces makes of it.
UNKNOWN = "__any__"
#: Longest key of a step.
MAX_KEY = 4000

#: What a step can be besides a call; the schema knows these patterns too.
FOR, IF, ELSE, LET, REQUIRE, CALL, CHAIN = "for", "if", "else", "let", "require", "call", "chain"


@dataclass(frozen=True)
class Step:
    """One step as written: what it is, its key's text, its value, its line."""

    what: str
    key: str
    value: Tree | None
    line: int
    names: tuple[str, ...] = ()
    test: str = ""


@dataclass(frozen=True)
class Call:
    """A step's key, read: names of results, layer or struct, names it reads (None: what came before)."""

    names: tuple[str, ...]
    kind: str
    inputs: tuple[str, ...] | None
    #: with ``:=`` its names are no scopes
    here: bool = False


def read_body(tree: Tree | None, file: str, line: int, what: str) -> list[Step]:
    """The steps of a body. Raises TextError."""
    if not isinstance(tree, Items):
        fail(file, tree.line if tree else line, f"{what} needs a list of steps, each '- layer: {{field: value}}'")
    found: list[Step] = []
    for item in tree.items:
        step = _step(item, file)
        if step.what == ELSE and not (found and found[-1].what in (IF, ELSE) and found[-1].key != "else"):
            fail(file, step.line, f"'{step.key}' has no 'if' right before it")
        found.append(step)
    return found


def _step(item: Tree, file: str) -> Step:
    if isinstance(item, Scalar) and isinstance(item.value, str):
        return Step(CHAIN if ";" in item.value else CALL, item.value, None, item.line)
    if not isinstance(item, Pairs) or len(item.pairs) != 1:
        fail(file, item.line, "a step is one key and its fields: '- name = layer(input): {field: value}'")
    (key, value), text = item.pairs[0], str(item.pairs[0][0].value).strip()
    if match := _FOR.fullmatch(text):
        names = tuple(n.strip() for n in match["names"].split(","))
        return Step(FOR, text, value, key.line, names, match["over"])
    if match := _IF.fullmatch(text):
        return Step(IF if match["word"] == "if" else ELSE, text, value, key.line, (), match["test"])
    if text == "else":
        return Step(ELSE, text, value, key.line)
    if text == "let":
        return Step(LET, text, value, key.line)
    if text == "require":
        if not isinstance(value, Scalar) or not isinstance(value.value, str):
            fail(file, value.line, "'require' needs a condition, such as 'require: depth in [16, 19]'")
        return Step(REQUIRE, text, value, key.line, (), value.value)
    return Step(CALL, text, value, key.line)


def read_chain(step: Step, file: str) -> Iterator[Step]:
    """The steps of ``bn = batch_norm; act = relu``, one after the other."""
    for text in step.key.split(";"):
        if not text.strip():
            fail(file, step.line, f"'{step.key[:80]}': nothing stands between two semicolons, or behind the last")
        yield Step(CALL, text.strip(), None, step.line)


def read_call(step: Step, values: Mapping[str, Any], file: str, spend: Callable[[int], None]) -> Call:
    """The key of a call with its ``{expressions}`` filled in. ``values``: what expressions read; ``spend`` is told how
    many steps they took. Raises TextError."""
    text = step.key
    try:
        filled = fill(text, values, spend) if "{" in text or "}" in text else text
    except ExpressionError as error:
        fail(file, step.line, str(error))
    return _call(filled) or _no_call(file, step.line, filled)


def outlined_call(step: Step, file: str) -> Call:
    """The key of a call as far as it is known before anything is built: UNKNOWN where it has expressions."""
    try:
        text = outlined(step.key, UNKNOWN)
    except ExpressionError as error:
        fail(file, step.line, str(error))
    return _call(text) or _no_call(file, step.line, step.key)


def _no_call(file: str, line: int, text: str) -> NoReturn:
    fail(file, line, f"'{text[:80]}' is no step; {_instead(text[:MAX_KEY])}")


def _instead(text: str) -> str:
    """What to write instead of a key that is no step."""
    word, _, rest = text.partition(" ")
    if word == "for" and " - " in rest:
        return "a loop ends in a colon, its steps stand below it"
    if word == "for":
        return "a loop is 'for i in range(n):' or 'for a, b in rows:'; what stands in parentheses is taken apart by a "\
               "loop within it, or by an index"  # fmt: skip
    if word == "else":
        return "write 'elif condition:' or 'else:'"
    if (inputs := re.search(r"\(([^()]*)\)", text)) and "=" in inputs[1]:
        return "in parentheses stand values by name; fields stand behind a colon: 'name = layer(a): {field: value}'"
    names = re.split(r":?=", text)[0].split(",") if "=" in text else []
    for name in (n.strip() for n in names):
        if _NAME.fullmatch(name) is None:
            return f"'{name}' is no name: letters, digits, _ . and -"
    return "write 'layer', 'layer(a, b)' or 'name = layer(a, b)'"


@functools.lru_cache(maxsize=4096)
def _call(text: str) -> Call | None:
    # runs of spaces are one: the pattern tries each place of them for the end of the names
    match = _CALL.fullmatch(" ".join(text.split())) if len(text) < MAX_KEY else None
    if match is None:
        return None
    names = tuple(n.strip() for n in match["names"].split(",")) if match["names"] else ()
    inputs = match["inputs"]
    reads = None if inputs is None else tuple(n.strip() for n in inputs.split(",")) if inputs.strip() else ()
    if any(_NAME.fullmatch(n) is None for n in (*names, *(n.removesuffix(".*") for n in reads or ()))):
        return None
    return Call(names, match["kind"], reads, match["sign"] == ":=")


@functools.lru_cache(maxsize=4096)
def expression(text: str) -> Expression:
    """The parsed expression; the same text is parsed once. Raises ExpressionError."""
    return Expression(text)
