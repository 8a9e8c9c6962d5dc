"""Turns a profile's YAML into a Profile: every field checked, every mistake told with its line."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

from instep.graph.expression import Expression, ExpressionError, expressions_in, fill
from instep.rewrite.forms import FORMS
from instep.targets.facts import OPERANDS, option_names
from instep.targets.lines import LinedDict, LinedList, ProfileError, read_yaml
from instep.targets.profile import (
    ARITHMETICS,
    FALLBACKS,
    FOLDER,
    GRADES,
    SEVERITIES,
    Evidence,
    Limits,
    OperatorSet,
    Profile,
    Rule,
    resolve,
)  # fmt: skip
from instep.targets.rewrites import CLEARINGS

__all__ = ["TENSOR_FIELDS", "read_profile"]

_TOP = {"name", "description", "extends", "evidence", "fallback", "arithmetic", "engine", "avoid", "operators",
        "tensors", "rules", "model", "limits", "drop"}  # fmt: skip
_RULE = {"code", "says", "source", "require", "when", "clears", "severity"}
_CODE = re.compile(r"[A-Z0-9]+(-[A-Z0-9]+)*")
_NAME = re.compile(r"[a-z0-9]+([-_.][a-z0-9]+)*")

#: The fields of a tensor's record (facts.Tensor.record).
TENSOR_FIELDS = frozenset(
    ("index", "name", "shape", "rank", "dtype", "constant", "open", "maker", "size", "values", "quantized", "scales",
     "scale", "zero_point", "lowest", "highest", "zero")
)  # fmt: skip
_MODEL_FIELDS = frozenset(("batch", "subgraphs", "operators", "passed", "repeated", "fixed"))
_COMMON = frozenset(("op", "version", "inputs", "outputs", "y", "options", "computed", "constants", "model"))


def read_profile(path: Path, seen: tuple[Path, ...] = ()) -> Profile:
    """The profile in ``path`` with its parents merged in. Raises ProfileError ("file:line: what") or OSError."""
    return _Reader(path, seen).profile()


class _Reader:
    """Reads one file; ``seen`` are the files that extend it."""

    def __init__(self, path: Path, seen: tuple[Path, ...]) -> None:
        self.path = path
        self.seen = (*seen, path.resolve())
        self.shown = path.name if path.parent == FOLDER else str(path)
        self.data = read_yaml(path, self.shown)

    def fail(self, line: int, what: str) -> NoReturn:
        raise ProfileError(self.shown, line, what)

    # -- fields ------------------------------------------------------------------------------------------------
    def known(self, table: LinedDict, allowed: Collection[str], what: str) -> None:
        for key in table:
            if key not in allowed:
                self.fail(table.lines[key], f"{what} has no field {key!r}; its fields: {', '.join(sorted(allowed))}")

    def text(self, table: LinedDict, key: str, default: str | None = None) -> str:
        if key not in table:
            if default is None:
                self.fail(table.line, f"{key!r} is missing here")
            return default
        value = table[key]
        if not isinstance(value, str) or not value.strip():
            self.fail(table.lines[key], f"{key!r} must be text, got {value!r}")
        return value.strip()

    def choice(self, table: LinedDict, key: str, allowed: Collection[str], default: str) -> str:
        value = self.text(table, key, default)
        if value not in allowed:
            self.fail(table.lines[key], f"{key!r} must be one of {', '.join(allowed)}, got {value!r}")
        return value

    def words(self, table: LinedDict, key: str) -> list[tuple[str, int]]:
        """(word, line) of a list of words, or of one word alone."""
        value = table.get(key)
        if value is None:
            return []
        if isinstance(value, str):
            return [(value, table.lines[key])]
        if not isinstance(value, LinedList):
            self.fail(table.lines[key], f"{key!r} must be a list of words")
        for word, line in zip(value, value.lines, strict=True):
            if not isinstance(word, str):
                self.fail(line, f"{key!r} is a list of words, got {word!r}")
        return list(zip(value, value.lines, strict=True))

    def mapping(self, table: LinedDict, key: str) -> LinedDict | None:
        value = table.get(key)
        if value is not None and not isinstance(value, LinedDict):
            self.fail(table.lines[key], f"{key!r} must be a mapping")
        return value

    def entries(self, key: str) -> list[LinedDict]:
        """The mappings of a list at the top."""
        value = self.data.get(key)
        if value is None:
            return []
        if not isinstance(value, LinedList):
            self.fail(self.data.lines[key], f"{key!r} must be a list")
        for item, line in zip(value, value.lines, strict=True):
            if not isinstance(item, LinedDict):
                self.fail(line, f"each entry of {key!r} is a mapping, got {item!r}")
        return list(value)

    # -- the profile -------------------------------------------------------------------------------------------
    def profile(self) -> Profile:
        data = self.data
        self.known(data, _TOP, "a profile")
        name = self.text(data, "name")
        if not _NAME.fullmatch(name):
            self.fail(data.lines["name"], f"a name is lower-case words with dashes, got {name!r}")
        parents = [self.parent(word, line) for word, line in self.words(data, "extends")]
        base = _together(parents) if parents else Profile("", "", (), "")
        dropped = [word for word, _ in self.words(data, "drop")]
        inherited = list(_granted(base.rules, self.added()))
        for word, line in self.words(data, "drop"):
            if word not in {r.code for r in inherited} | {base.operators.code}:
                self.fail(line, f"there is no inherited rule {word!r} to drop")
        own = [self.rule(e, scope) for key, scope in (("model", "model"), ("tensors", "tensor"), ("rules", "operator"))
               for e in self.entries(key)]  # fmt: skip
        return Profile(
            name,
            self.text(data, "description"),
            (*(self.evidence(e) for e in self.entries("evidence")), *(e for p in parents for e in p.evidence)),
            str(self.path),
            self.choice(data, "fallback", FALLBACKS, base.fallback),
            self.choice(data, "arithmetic", ARITHMETICS, base.arithmetic),
            self.text(data, "engine", base.engine),
            base.avoid | frozenset(self.forms()),
            tuple(p.name for p in parents),
            self.operators(base.operators),
            (*(r for r in inherited if r.code not in dropped), *own),
            self.limits() or base.limits,
        )

    def parent(self, name: str, line: int) -> Profile:
        try:
            path = resolve(name, self.path.parent)
        except ValueError as error:
            self.fail(line, str(error))
        if path.resolve() in self.seen:
            self.fail(line, f"{name!r} extends this profile already")
        return read_profile(path, self.seen)

    def forms(self) -> list[str]:
        for word, line in self.words(self.data, "avoid"):
            if word not in FORMS:
                self.fail(line, f"there is no form {word!r} to avoid; known: {', '.join(FORMS)}")
        return [word for word, _ in self.words(self.data, "avoid")]

    def evidence(self, entry: LinedDict) -> Evidence:
        self.known(entry, {"grade", "what", "runtime"}, "an evidence")
        grade = self.text(entry, "grade")
        if grade not in GRADES:
            self.fail(entry.lines["grade"], f"'grade' must be one of {', '.join(GRADES)}, got {grade!r}")
        if grade == "measured" and "runtime" not in entry:
            self.fail(entry.line, "what was measured says on which version: 'runtime' is missing here")
        return Evidence(grade, self.text(entry, "what"), self.text(entry, "runtime", ""))

    def code(self, table: LinedDict) -> str:
        code = self.text(table, "code")
        if not _CODE.fullmatch(code):
            self.fail(table.lines["code"], f"a code is upper-case words with dashes, got {code!r}")
        return code

    def operators(self, base: OperatorSet) -> OperatorSet:
        table = self.mapping(self.data, "operators")
        if table is None:
            return base
        self.known(table, {"code", "says", "source", "names", "add", "drop"}, "'operators'")
        chosen = base.names
        if "names" in table:
            chosen = frozenset(self.codes(table, "names"))
        added, dropped = self.codes(table, "add"), self.codes(table, "drop")
        if (added or dropped) and chosen is None:
            self.fail(table.line, "there are no inherited names to add to or drop from; list 'names'")
        if chosen is not None:
            chosen = (chosen | set(added)) - set(dropped)
        code = self.code(table) if "code" in table else base.code
        return OperatorSet(code, self.says(table, base.says), self.text(table, "source", base.source), chosen)

    def added(self) -> frozenset[str]:
        """The operators that the target has beyond those of the profiles that it extends."""
        table = self.mapping(self.data, "operators")
        return frozenset() if table is None else frozenset(self.codes(table, "add"))

    def codes(self, table: LinedDict, key: str) -> list[str]:
        for word, line in self.words(table, key):
            if not word.startswith("CUSTOM:") and word not in _operators():
                self.fail(line, f"TFLite has no operator {word!r}")
        return [word for word, _ in self.words(table, key)]

    def limits(self) -> Limits | None:
        table = self.mapping(self.data, "limits")
        if table is None:
            return None
        self.known(table, {"code", "largest", "smallest", "severity", "source"}, "'limits'")
        numbers = []
        for key in ("largest", "smallest"):
            value = table.get(key)
            if not isinstance(value, int | float) or not value > 0:
                self.fail(table.lines.get(key, table.line), f"{key!r} must be a positive number, got {value!r}")
            numbers.append(float(value))
        severity = self.choice(table, "severity", SEVERITIES, "risk")
        return Limits(self.code(table), numbers[0], numbers[1], severity, self.text(table, "source"))

    # -- rules -------------------------------------------------------------------------------------------------
    def rule(self, entry: LinedDict, scope: str) -> Rule:
        extra = {"operator": {"operators"}, "tensor": {"of"}, "model": set()}[scope]
        self.known(entry, _RULE | extra, f"a rule on {'an' if scope == 'operator' else 'a'} {scope}")
        operators = self.codes(entry, "operators")
        if scope != "operator" and "require" not in entry:
            self.fail(entry.line, "'require' is missing here")
        if scope == "operator" and not operators and "require" not in entry:
            self.fail(entry.line, "a rule on every operator needs a 'require'")
        clears = tuple(word for word, _ in self.words(entry, "clears"))
        for word, line in self.words(entry, "clears"):
            if word not in CLEARINGS:
                self.fail(line, f"there is no rewrite {word!r}; known: {', '.join(sorted(CLEARINGS))}")
        rule = Rule(
            self.code(entry),
            self.says(entry),
            self.text(entry, "source"),
            scope,
            frozenset(operators),
            self.choice(entry, "of", ("any", "computed", "constant", "input", "output"), "any"),
            self.expression(entry, "require"),
            self.expression(entry, "when"),
            clears,
            self.choice(entry, "severity", SEVERITIES, "refused"),
            f"{self.shown}:{entry.line}",
        )
        self.names(rule, entry)
        return rule

    def says(self, entry: LinedDict, default: str | None = None) -> str:
        text = self.text(entry, "says", default)
        try:
            return fill(text, None)
        except ExpressionError as error:
            self.fail(entry.lines["says"], str(error))

    def expression(self, entry: LinedDict, key: str) -> Expression | None:
        if key not in entry:
            return None
        value = entry[key]
        if not isinstance(value, str | bool | int):
            self.fail(entry.lines[key], f"{key!r} must be an expression, got {value!r}")
        try:
            return Expression(str(value))
        except ExpressionError as error:
            self.fail(entry.lines[key], str(error))

    def names(self, rule: Rule, entry: LinedDict) -> None:
        """Every name and field that the rule reads must exist for every operator that it judges."""
        parts = [(key, e) for key, e in (("require", rule.require), ("when", rule.when)) if e is not None]
        parts += [("says", e) for e in expressions_in(rule.says)]
        for key, expression in parts:
            line = entry.lines[key]
            for code in sorted(rule.operators) or [""]:
                known = _names_for(rule.scope, code)
                for name in sorted(expression.names - known):
                    where = f" of {code}" if code else ""
                    self.fail(line, f"in {expression.text!r}: nothing{where} is called {name!r}; known: "
                                    f"{', '.join(sorted(known))}")  # fmt: skip
                for name, attribute in sorted(expression.fields):
                    fields = _fields_for(name, code)
                    if fields is not None and attribute not in fields:
                        self.fail(line, f"in {expression.text!r}: {name} has no field {attribute!r}; its fields: "
                                        f"{', '.join(sorted(fields)) or 'none'}")  # fmt: skip


def _names_for(scope: str, code: str) -> frozenset[str]:
    if scope == "model":
        return _MODEL_FIELDS
    if scope == "tensor":
        return TENSOR_FIELDS | {"model", "op"}
    return _COMMON | set(OPERANDS.get(code, ("x",)))


def _fields_for(name: str, code: str) -> Collection[str] | None:
    """The fields of the record that a rule calls ``name``; None where they are not known beforehand."""
    if name == "model":
        return _MODEL_FIELDS
    if name == "options":
        return option_names(code) or () if code else None
    return TENSOR_FIELDS if name == "y" or name in OPERANDS.get(code, ("x",)) else None


def _operators() -> Collection[str]:
    from ai_edge_litert.schema_py_generated import BuiltinOperator

    return {k for k, v in vars(BuiltinOperator).items() if isinstance(v, int)}


def _together(parents: Sequence[Profile]) -> Profile:
    """What all of several profiles take: the operators that each has, the rules and the forms to avoid of all, the
    narrowest numbers; the rest as the first has it."""
    first = parents[0]
    listed = [p.operators for p in parents if p.operators.names is not None]
    names = frozenset.intersection(*(o.names for o in listed if o.names is not None)) if listed else None
    limits = min((p.limits for p in parents if p.limits is not None), key=lambda found: found.largest, default=None)
    return replace(
        first,
        avoid=frozenset().union(*(p.avoid for p in parents)),
        operators=replace(listed[0], names=names) if listed else first.operators,
        rules=tuple(dict.fromkeys(r for p in parents for r in p.rules)),
        limits=limits,
    )


def _granted(rules: Iterable[Rule], added: frozenset[str]) -> Iterator[Rule]:
    """``rules`` without those that refuse an operator of ``added`` in whatever use."""
    for rule in rules:
        if rule.require is not None or rule.when is not None or not rule.operators & added:
            yield rule
        elif rule.operators - added:
            yield replace(rule, operators=rule.operators - added)
