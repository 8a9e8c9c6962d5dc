"""Builds the Graph of a text: walks the steps of its structs and enters their layers."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np

from instep.graph.core import Graph, Value
from instep.graph.expression import ExpressionError
from instep.graph.text.errors import TextError, fail
from instep.graph.text.fields import COUNT, FLOAT, INT, PAIR, SIZE
from instep.graph.text.frame import Frame, Lazy
from instep.graph.text.given import FieldReader
from instep.graph.text.hints import LAYERS_ELSEWHERE, meant, plain_word
from instep.graph.text.place import LayerPlace, Weight, joined
from instep.graph.text.steps import (
    CALL,
    CHAIN,
    FOR,
    LET,
    REQUIRE,
    Call,
    Step,
    expression,
    read_body,
    read_call,
    read_chain,
)
from instep.graph.text.structs import Struct, Unit
from instep.graph.text.table import LAYERS, Layer
from instep.graph.text.tree import Pairs, Scalar, Tree

__all__ = ["Builder"]

_DIGITS = re.compile(r"[0-9]+(\.[0-9]*)?(e-?[0-9]+)?")
#: Kinds of fields that one number can be.
_NUMBERS = (COUNT, FLOAT, INT, PAIR, SIZE)

#: Most steps and operators of one network, most steps of all its expressions, deepest structs.
MAX_STEPS, MAX_WORK, MAX_CALLS = 12_000, 100_000, 24
#: Most structs around a step that a message names.
MOST_CALLERS = 3


class Builder:
    """Makes the graph of one text."""

    def __init__(self, unit: Unit, kept: int = 0) -> None:
        """``kept``: how many values the file beside the text knows; so much more may the text make of them."""
        self.unit = unit
        self.reader = FieldReader(self.spend_work)
        self.most_steps, self.most_work = MAX_STEPS + 3 * kept, MAX_WORK + 5 * kept
        self.graph = Graph()
        self.weights: dict[str, tuple[Value, Weight]] = {}
        self.constants: dict[str, np.ndarray] = {}
        #: constants in the order of the text
        self.inline: list[Value] = []
        #: numbers that layers multiply by or add, by what they are and their dtype
        self.numbers: dict[tuple[str, str], Value] = {}
        #: the factor of L2 by weight
        self.decay: dict[str, float] = {}
        #: the weights that are kept and not trained
        self.buffers: set[Value] = set()
        #: the struct that each scope is one of
        self.blocks: dict[str, str] = {}
        self.steps = self.work = self.parameters = 0
        self.taken: dict[str, int] = {}
        #: the structs that are being built, the outermost first: their names, and where they are used
        self.callers: list[tuple[str, str, int]] = []
        self.line, self.file = 0, unit.file

    # -- bounds --------------------------------------------------------------------------------------------------
    def spend(self, steps: int) -> None:
        self.steps += steps
        if self.steps > self.most_steps:
            fail(self.file, self.line, f"the network has more than {self.most_steps} steps")

    def spend_work(self, steps: int) -> None:
        self.work += steps
        if self.work > self.most_work:
            fail(self.file, self.line, f"the expressions of this text take more than {self.most_work} steps")

    # -- steps ---------------------------------------------------------------------------------------------------
    def run(self, body: Sequence[Step], frame: Frame) -> None:
        """Walk ``body``; ``frame`` holds what it made."""
        done = False
        lines: dict[str, int] = {}  # of the names so far
        for step in body:
            self.line, self.file = step.line, frame.unit.file
            self.spend(1)
            if step.what == CALL:
                self.call(step, frame, lines)
            elif step.what == CHAIN:
                for link in read_chain(step, frame.unit.file):
                    self.spend(1)
                    self.call(link, frame, lines)
            elif step.what == FOR:
                self.loop(step, frame)
            elif step.what == LET:
                self.let(step.value, frame)
            elif step.what == REQUIRE:
                self.require(step, frame)
            else:
                if step.what == "if":
                    done = False
                if not done and (not step.test or bool(self.expression(step.test, frame, step.line))):
                    done = True
                    self.run(self.body(step, frame), frame)

    def body(self, step: Step, frame: Frame) -> list[Step]:
        return read_body(step.value, frame.unit.file, step.line, f"'{step.key}'")

    def loop(self, step: Step, frame: Frame) -> None:
        rows = self.expression(step.test, frame, step.line)
        if not isinstance(rows, tuple | list):
            fail(frame.unit.file, step.line, f"'{step.key}': what it runs over must be a list, got {rows!r}")
        steps = self.body(step, frame)
        kept = {n: frame.numbers[n] for n in step.names if n in frame.numbers}
        for row in rows:
            if len(step.names) == 1:
                frame.numbers[step.names[0]] = row
            elif isinstance(row, tuple | list) and len(row) == len(step.names):
                frame.numbers.update(zip(step.names, row, strict=True))
            else:
                fail(frame.unit.file, step.line, f"'{step.key}': {row!r} does not fit {', '.join(step.names)}")
            self.spend(1)
            self.run(steps, frame)
        for name in step.names:
            frame.numbers.pop(name, None)
        frame.numbers.update(kept)

    def let(self, tree: Tree | None, frame: Frame) -> None:
        if tree is None:
            return
        if not isinstance(tree, Pairs):
            fail(frame.unit.file, tree.line, "'let' is a mapping of names to values")
        for name, value in tree.pairs:
            try:
                frame.numbers[name.value] = self.reader.value(value, frame, free=False)
            except ExpressionError as error:
                fail(frame.unit.file, value.line, f"let {name.value}: {error}")

    def require(self, step: Step, frame: Frame) -> None:
        """Refuse arguments that the text has no network for."""
        if self.expression(step.test, frame, step.line):
            return
        read = frame.names(expression(step.test).names)
        values = [f"{n} is {str(v)[:60]}" for n, v in sorted(read.items()) if not isinstance(v, Mapping)]
        fail(frame.unit.file, step.line, f"'{step.test}' is required here, and {', '.join(values) or 'it is not so'}")

    def expression(self, text: str, frame: Frame, line: int) -> Any:
        try:
            return frame.evaluate(expression(text), self.spend_work)
        except ExpressionError as error:
            fail(frame.unit.file, line, str(error))

    # -- calls ---------------------------------------------------------------------------------------------------
    def call(self, step: Step, frame: Frame, lines: dict[str, int]) -> None:
        """A layer or a struct: read its inputs and fields, build it, and name what it gives."""
        file = frame.unit.file
        call = read_call(step, Lazy(frame), file, self.spend_work)
        if call.kind in ("if", "elif", "for") and not call.names:
            fail(file, step.line, f"'{call.kind}' needs {'a list' if call.kind == 'for' else 'a condition'}: "
                 f"'{'for i in range(3)' if call.kind == 'for' else f'{call.kind} deep'}:'")  # fmt: skip
        struct = frame.unit.structs.get(call.kind)
        layer = None if struct else LAYERS.get(call.kind)
        if struct is None and layer is None:
            near = meant(call.kind, [*frame.unit.structs, *LAYERS], LAYERS_ELSEWHERE)
            fail(file, step.line, f"there is no layer or struct '{call.kind}'{near}")
        named = call.names[0] if call.names else ""
        if not named and (struct or (layer and layer.weighted)):
            number = frame.counts[call.kind] = frame.counts.get(call.kind, 0) + 1
            named = f"{call.kind}_{number}"
        given = step.value
        explicit = given.get("at") if isinstance(given, Pairs) else None
        scope = self._scope(explicit, frame, "" if call.here else named, file)
        who = f"{call.kind} '{scope or call.kind}'"
        inputs = self._inputs(call, struct, frame, who, step.line)
        inner = Frame(scope, struct.unit if struct else frame.unit, {}, {}, depth=frame.depth + 1)
        inner.shared = frame.shared or call.here or explicit is not None
        defaults = frame.unit.defaults.get(call.kind)
        if struct:
            if inner.depth > MAX_CALLS:
                fail(file, step.line, f"{call.kind} '{scope[:60]}': {self._too_deep(call.kind)}")
            self.reader.fields(given, struct.args, frame, who, defaults, inner, step.line)
            self.blocks.setdefault(scope, call.kind)
            self.callers.append((call.kind, file, step.line))
            results = self.enter(struct, inputs, inner, who)
            self.callers.pop()
            self.line, self.file = step.line, file
        else:
            assert layer is not None
            found = self._fields(given, layer, frame, who, defaults, step.line)
            trained = found.get("trained", True)
            place = LayerPlace(self, frame, scope, call, who, step.line, shared=inner.shared, trained=trained)
            made = layer.build(place, inputs, SimpleNamespace(**found))
            results = made if isinstance(made, list) else [made]
        if len(call.names) > 1 and len(call.names) != len(results):
            fail(file, step.line, f"{who} gives {len(results)} values, {len(call.names)} names stand before it")
        for name in () if call.here else call.names:
            if name in lines:
                fail(file, step.line, f"a second step is called '{name}', the first is on line {lines[name]}; give it "
                     f"another name, or write '{name} := …' where it takes the first one's place")  # fmt: skip
            lines[name] = step.line
        names = call.names if len(call.names) > 1 else (named,) if named else ()
        if len(results) == 1 or len(call.names) > 1:
            frame.values.update(zip(names, results, strict=False))
        elif named:
            frame.values.update({f"{named}.{i}": v for i, v in enumerate(results)} | {named: results[0]})
        if call.kind != "param":
            frame.last = results

    def _fields(
        self, given: Tree | None, layer: Layer, frame: Frame, who: str, defaults: Pairs | None, line: int
    ) -> dict[str, Any]:
        """The fields of a layer; where an operator is not given its own, the layer with weights may have been meant."""
        try:
            return self.reader.fields(given, layer.fields, frame, who, defaults, Frame("", frame.unit, {}, {}), line)
        except TextError as error:
            other = LAYERS.get(LAYERS_ELSEWHERE.get(plain_word(layer.name), ""))
            if layer.weighted or other is None or not other.weighted:
                raise
            raise TextError(f"{error}. '{other.name}' is the layer that has weights of its own") from None

    def _scope(self, explicit: Tree | None, frame: Frame, named: str, file: str) -> str:
        if explicit is None:
            return joined(frame.scope, named)
        if not isinstance(explicit, Scalar) or explicit.value is None or isinstance(explicit.value, bool):
            fail(file, explicit.line, "'at' is a scope such as body.0, or . for the struct's own")
        text = str(explicit.value)
        try:
            from instep.graph.expression import fill

            text = fill(text, Lazy(frame), self.spend_work) if "{" in text else text
        except ExpressionError as error:
            fail(file, explicit.line, str(error))
        if text.startswith("/"):
            return text[1:]
        return frame.scope if text == "." else joined(frame.scope, text)

    def _inputs(self, call: Call, struct: Struct | None, frame: Frame, who: str, line: int) -> list[Value]:
        file = frame.unit.file
        low, high = (len(struct.inputs),) * 2 if struct else LAYERS[call.kind].inputs
        if call.inputs is None:
            found = frame.last[: 1 if high == math.inf else int(high)] if high else []
            if high and not found:
                fail(file, line, f"{who}: there is no value before it; say what it reads: {call.kind}(x)")
        else:
            found = []
            for name in call.inputs:
                if name.endswith(".*"):
                    found += self._counted(name, frame, who, line)
                    continue
                value = frame.last[0] if name == "_" and frame.last else frame.values.get(name)
                if value is None:
                    why = _number(name, call.kind, struct) or meant(name, frame.values)
                    fail(file, line, f"{who} reads '{name}', which does not exist here{why}")
                found.append(value)
        if not low <= len(found) <= high:
            many = f"{low}" if low == high else f"{low} or more" if high == math.inf else f"{low} to {high}"
            which = f" ({', '.join(struct.inputs)})" if struct else ""
            fail(file, line, f"{who} reads {many} value{'s' * (many != '1')}{which}, got {len(found)}")
        return found

    def _counted(self, name: str, frame: Frame, who: str, line: int) -> list[Value]:
        """The values y.0, y.1, … that ``y.*`` stands for."""
        stem, found = name[:-1], []
        while (value := frame.values.get(f"{stem}{len(found)}")) is not None:
            found.append(value)
        self.spend_work(len(found))
        if not found:
            fail(frame.unit.file, line, f"{who} reads '{name}', and there is no '{stem}0' here")
        return found

    def enter(self, struct: Struct, inputs: list[Value], frame: Frame, who: str) -> list[Value]:
        """Build a struct's body on ``inputs``; its results."""
        frame.values = dict(zip(struct.inputs, inputs, strict=True))
        frame.last = inputs[:1]
        outer = dict(frame.numbers)
        self.let(struct.unit.let, frame)
        frame.numbers.update(outer)
        self.run(struct.body, frame)
        if struct.outputs is None:
            return frame.last
        if frame.last:
            frame.values["_"] = frame.last[0]
        for name in struct.outputs:
            if name.value not in frame.values:
                near = meant(name.value, frame.values)
                fail(struct.unit.file, name.line, f"{who} gives back '{name.value}', which does not exist in it{near}")
        return [frame.values[n.value] for n in struct.outputs]

    def _too_deep(self, kind: str) -> str:
        """Why a struct stands too deep: most often because it is made of itself."""
        names = [n for n, _, _ in self.callers]
        if kind not in names:
            return f"structs within structs deeper than {MAX_CALLS}"
        last = len(names) - names[::-1].index(kind) - 1
        return f"{kind} is made of itself: {' → '.join([*names[last:], kind])}"

    def used(self) -> str:
        """Which structs the step that went wrong stands in, the innermost first; "" for the network's own body."""
        found = [f"in {n}, used on line {at}" + f" of {f}" * (f != self.file) for n, f, at in reversed(self.callers)]
        return f" ({', '.join(found[:MOST_CALLERS])})" if found else ""

    def unique(self, stem: str) -> str:
        """A value's name that nothing else has."""
        count = self.taken.get(stem, 0)
        self.taken[stem] = count + 1
        if not count:
            return stem
        name = f"{stem}_{count}"
        return name if name not in self.taken else self.unique(stem)


def _number(word: str, kind: str, struct: Struct | None) -> str:
    """What to write where a number stands among what a step reads; "" for words."""
    if _DIGITS.fullmatch(word) is None:
        return ""
    first = next(iter(struct.args if struct else LAYERS[kind].fields), None)
    field = f"; fields are written '{kind}: {{{first.name}: {word}}}'" if first and first.kind in _NUMBERS else ""
    return f": in parentheses stand values by name{field}"
