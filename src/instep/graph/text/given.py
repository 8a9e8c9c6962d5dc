"""What a text gives the fields of layers and the arguments of structs: words, numbers and expressions, checked."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from instep.graph.expression import ExpressionError
from instep.graph.text.errors import fail
from instep.graph.text.fields import BOOL, REQUIRED, WORD, Field, Kind
from instep.graph.text.frame import Frame
from instep.graph.text.hints import FIELDS, WORDS, meant
from instep.graph.text.steps import expression
from instep.graph.text.tree import Items, Pairs, Scalar, Tree

__all__ = ["FieldReader", "named", "unknown_field"]

_BARE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
#: Longest piece of a text that a message quotes.
QUOTED = 100


class FieldReader:
    """Reads fields; ``spend`` counts the steps of their expressions."""

    def __init__(self, spend: Callable[[int], None]) -> None:
        self.spend = spend

    def value(self, tree: Tree, frame: Frame, words: frozenset[str] = frozenset(), *, free: bool = True) -> Any:
        """What a field's text means. A text that reads unknown names alone is a word where ``free`` allows it."""
        if isinstance(tree, Items):
            return tuple(self.value(t, frame, words, free=free) for t in tree.items)
        if isinstance(tree, Pairs):
            return {k.value: self.value(v, frame, words, free=free) for k, v in tree.pairs}
        if not isinstance(tree.value, str) or tree.value in words:
            return tree.value
        self.spend(1)
        try:
            parsed = expression(tree.value)
        except ExpressionError:
            if free:
                return tree.value
            raise
        found = frame.names(parsed.names)
        found |= {w: w for w in parsed.names if w in words and w not in found}
        if tree.value not in found and _BARE.fullmatch(tree.value):
            return tree.value  # a name that nothing has is a word; a field that takes none will say so
        if free and any(n not in found for n in parsed.names):
            return tree.value
        return frame.evaluate(parsed, self.spend, found)

    def read(self, tree: Tree, kind: Kind, frame: Frame, what: str, file: str) -> Any:
        """The value of a field, checked. ``what`` names layer and field for the message."""
        reason = ""
        try:
            got = self.value(tree, frame, kind.words, free=kind.free)
        except ExpressionError as error:
            reason, got = f" ({str(error)[:400]})", None
        else:
            try:
                return kind.read(got)
            except (ValueError, TypeError, OverflowError):
                if (
                    kind is WORD
                    and isinstance(tree, Scalar)
                    and isinstance(tree.value, str)
                    and _BARE.fullmatch(tree.value)
                ):
                    return tree.value  # a value has the name of the word
        near = meant(got, kind.words, WORDS) if isinstance(got, str) else ""
        reason = reason or near or self._nothing(tree, kind, frame)
        fail(file, tree.line, f"{what} must be {kind.what}, got {_shown(tree, got)}{reason}")

    def _nothing(self, tree: Tree, kind: Kind, frame: Frame) -> str:
        """What to say of a name that stands for nothing where the field takes no words."""
        if kind.free or kind.words or not isinstance(tree, Scalar) or not isinstance(tree.value, str):
            return ""
        if kind is BOOL and (near := meant(tree.value, ("true", "false"), WORDS)):
            return near
        return f" ({frame.missing(tree.value)})" if _BARE.fullmatch(tree.value) else ""

    def fields(
        self,
        given: Tree | None,
        declared: Sequence[Field],
        frame: Frame,
        who: str,
        defaults: Pairs | None,
        inner: Frame,
        line: int,
    ) -> dict[str, Any]:
        """The fields of a call by name: given, else the text's defaults, else the declared ones (read in ``inner``)."""
        file = frame.unit.file
        pairs = named(given, declared, who, file)
        found: dict[str, Any] = {}
        for f in declared:
            tree = pairs.get(f.name) or (defaults.get(f.name) if defaults else None)
            if tree is not None:
                found[f.name] = self._field(tree, f, frame, who, file)
            elif f.default is REQUIRED:
                how = "" if line else f"; give it: --arg {f.name}=…"
                fail(file, line, f"{who} needs '{f.name}', {f.kind.what}{how}")
            elif isinstance(f.default, Scalar | Items | Pairs):
                found[f.name] = self._field(f.default, f, inner, who, inner.unit.file)
            else:
                found[f.name] = None if f.default is None else f.kind.read(f.default)
            inner.numbers[f.name] = found[f.name]
        return found

    def _field(self, tree: Tree, f: Field, frame: Frame, who: str, file: str) -> Any:
        if f.default is None and isinstance(tree, Scalar) and tree.value is None:
            return None
        return self.read(tree, f.kind, frame, f"{who}: {f.name}", file)


def named(given: Tree | None, declared: Sequence[Field], who: str, file: str) -> dict[str, Tree]:
    """What stands behind a call by the names of its fields; a value alone is that of the one field it needs."""
    if isinstance(given, Pairs):
        pairs = {k.value: v for k, v in given.pairs}
        names = {f.name for f in declared}
        for name, tree in pairs.items():
            if name not in names and name != "at":
                fail(file, tree.line, f"{who} has no field {unknown_field(name, declared)}")
        return pairs
    if given is None or (isinstance(given, Scalar) and given.value is None):
        return {}
    required = [f for f in declared if f.default is REQUIRED]
    if len(required) != 1:
        shown = f"{declared[0].name}: {_written(given)}" if declared else "name: value"
        fail(file, given.line, f"{who}: fields are written {{{shown}}}")
    return {required[0].name: given}


def unknown_field(name: str, declared: Sequence[Field]) -> str:
    """A field that a layer has not, what it may have meant, and what there is."""
    names = {f.name for f in declared}
    for sign in "=:":
        if sign in name and name.split(sign)[0].strip() in names:
            field, value = (part.strip() for part in name.split(sign, 1))
            return f"'{name}'; write '{field}: {value}', with a space behind the colon"
    has = f"it has {', '.join(sorted(names))}" if names else "it has none"
    near = meant(name, sorted(names), FIELDS)
    return f"'{name}'{near} {has[0].upper()}{has[1:]}" if near else f"'{name}'; {has}"


def _written(given: Tree) -> str:
    return str(given.value)[:40] if isinstance(given, Scalar) else "…"


def _shown(tree: Tree, got: Any) -> str:
    if isinstance(tree, Scalar):
        same = got is None or got == tree.value or not isinstance(tree.value, str)
        text = repr(tree.value)[:QUOTED]
        return text if same else f"{text} = {str(got)[:60]}"
    return str(got)[:80] if got is not None else "a list" if isinstance(tree, Items) else "a mapping"
