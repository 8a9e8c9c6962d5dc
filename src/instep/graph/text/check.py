"""What is wrong with the steps of a text that were not built: of structs that nothing uses, of branches not taken."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from typing import NoReturn

from instep.graph.expression import ExpressionError
from instep.graph.text.errors import fail
from instep.graph.text.fields import Field, Kind
from instep.graph.text.given import named
from instep.graph.text.hints import LAYERS_ELSEWHERE, meant
from instep.graph.text.steps import (
    CALL,
    CHAIN,
    FOR,
    LET,
    REQUIRE,
    UNKNOWN,
    Call,
    Step,
    expression,
    outlined_call,
    read_body,
    read_chain,
)
from instep.graph.text.structs import Struct, Unit
from instep.graph.text.table import LAYERS
from instep.graph.text.tree import Items, Pairs, Scalar, Tree

__all__ = ["check"]


def check(unit: Unit, seen: set[int] | None = None) -> None:
    """Raise a TextError where a step names a layer, a field or a value that is not there, in any struct of the text and
    of the files that it names. Expressions are not evaluated: sizes and shapes may still not fit."""
    seen = set() if seen is None else seen
    seen.add(id(unit))
    for struct in (*unit.structs.values(), unit.main):
        if struct.unit is unit:
            _Body(struct).run()
        elif id(struct.unit) not in seen:
            check(struct.unit, seen)


#: What a name may have: a number, a list, or a word.
_VALUE = Kind("a value", lambda v: v, {})


class _Body:
    """One struct: what its steps so far have given names to, in any branch."""

    def __init__(self, struct: Struct) -> None:
        self.struct, self.unit, self.file = struct, struct.unit, struct.unit.file
        #: values by name; in those that an expression makes part of, UNKNOWN stands for it
        self.values: set[str] = set(struct.inputs)
        let = [n.value for n, _ in self.unit.let.pairs] if self.unit.let else []
        self.numbers: set[str] = {*let, *(a.name for a in struct.args)}

    def run(self) -> None:
        self.steps(self.struct.body)
        for name in self.struct.outputs or ():
            if not self.has(name.value):
                self.fail(name.line, f"'{name.value}' is given back, and does not exist{self.near(name.value)}")

    def fail(self, line: int, why: str) -> NoReturn:
        where = "" if self.struct is self.unit.main else f" (in {self.struct.name})"
        fail(self.file, line, f"{why}{where}")

    # -- steps -------------------------------------------------------------------------------------------------------
    def steps(self, body: Iterable[Step]) -> None:
        for step in body:
            if step.what in (CALL, CHAIN):
                for link in self.links(step):
                    self.call(outlined_call(link, self.file), link)
            elif step.what == LET:
                for name, value in step.value.pairs if isinstance(step.value, Pairs) else ():
                    self.reads(value, _VALUE, f"let {name.value}")
                    self.numbers.add(name.value)
            elif step.test:
                self.expression(step.test, step.line, f"'{step.key}'")
            if step.what not in (CALL, CHAIN, LET, REQUIRE):
                self.numbers.update(step.names)
                inner = read_body(step.value, self.file, step.line, f"'{step.key}'")
                if step.what == FOR:  # a round reads what the one before it made
                    self.values.update(self.made(inner))
                self.steps(inner)

    def links(self, step: Step) -> Iterator[Step]:
        return read_chain(step, self.file) if step.what == CHAIN else iter((step,))

    def made(self, body: Iterable[Step]) -> Iterator[str]:
        """The names that the steps of a loop give."""
        for step in body:
            if step.what in (CALL, CHAIN):
                for link in self.links(step):
                    yield from _results(outlined_call(link, self.file))
            elif step.what not in (LET, REQUIRE):
                yield from self.made(read_body(step.value, self.file, step.line, f"'{step.key}'"))

    def call(self, call: Call, step: Step) -> None:
        who = f"{call.kind} '{call.names[0] if call.names else call.kind}'".replace(UNKNOWN, "…")
        for name in call.inputs or ():
            if not self.has(name.removesuffix(".*")):
                self.fail(step.line, f"{who} reads '{name}', which does not exist here{self.near(name)}")
        if UNKNOWN not in call.kind:
            self.fields(step.value, self.declared(call, step), who, step.line)
        self.values.update(_results(call))

    def declared(self, call: Call, step: Step) -> tuple[Field, ...]:
        struct, layer = self.unit.structs.get(call.kind), LAYERS.get(call.kind)
        if struct is None and layer is None:
            near = meant(call.kind, [*self.unit.structs, *LAYERS], LAYERS_ELSEWHERE)
            self.fail(step.line, f"there is no layer or struct '{call.kind}'{near}")
        return struct.args if struct else layer.fields if layer else ()

    def fields(self, given: Tree | None, declared: tuple[Field, ...], who: str, line: int) -> None:
        kinds = {f.name: f.kind for f in declared}
        for name, tree in named(given, declared, who, self.file).items():
            if name != "at":
                self.reads(tree, kinds[name], f"{who}: {name}")

    # -- what is read ------------------------------------------------------------------------------------------------
    def reads(self, tree: Tree, kind: Kind, what: str) -> None:
        """The names that a field reads, unless it takes any word. A name alone in a list may be a word, too."""
        if isinstance(tree, Items):
            for item in tree.items:
                self.reads(item, _VALUE, what)
        elif isinstance(tree, Scalar) and isinstance(tree.value, str) and not kind.free:
            word = tree.value in kind.words or (kind is _VALUE and tree.value.isidentifier())
            if not word:
                self.expression(tree.value, tree.line, what, kind.words)

    def expression(self, text: str, line: int, what: str, words: Collection[str] = ()) -> None:
        try:
            names = expression(text).names
        except ExpressionError as error:
            self.fail(line, f"{what}: {error}")
        for name in sorted(names):
            if name not in self.numbers and name not in words and not self.has(name):
                near = meant(name, [*self.numbers, *self.values])
                self.fail(line, f"{what}: in {text!r}: there is no '{name}' here{near}")

    def has(self, name: str) -> bool:
        """Whether some step may have given ``name``, ``y.3`` by a ``y`` of several values too."""
        if name == "_" or UNKNOWN in name or name in self.values:
            return True
        stem, dot, _ = name.rpartition(".")
        if dot and stem in self.values:
            return True
        return any(_fits(known, name) for known in self.values if UNKNOWN in known or known.startswith(f"{name}."))

    def near(self, name: str) -> str:
        return meant(name, [v for v in self.values if UNKNOWN not in v])


def _fits(known: str, name: str) -> bool:
    """Whether ``known`` may be called ``name``, or be one of the values that ``name.*`` stands for."""
    pattern = re.escape(known).replace(UNKNOWN, ".*")
    return known.startswith(f"{name}.") or re.fullmatch(rf"{pattern}(\.\d+)?", name) is not None


def _results(call: Call) -> tuple[str, ...]:
    """The names of what a call gives; a layer with weights that has none gets one: ``conv_1``."""
    return call.names or (f"{call.kind}_{UNKNOWN}",)
