"""Structs that stand in one place alone are said there, where that is shorter and as clear."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from instep.graph.expression import Expression, ExpressionError
from instep.graph.text.fold import Folded, Name
from instep.graph.text.shape import Item
from instep.graph.text.table import LAYERS
from instep.graph.text.titles import numbered
from instep.graph.text.writing import struct_text

__all__ = ["inlined"]

#: Most steps of a round that is said within its loop, and of a struct that is said where it is called.
ROUND, STEPS = 24, 24
#: Most of them where they are layers, not structs in turn.
LEAVES = 6
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_Arguments = Mapping[str, Any]


class _NotHereError(Exception):
    """A struct that cannot be said in its caller."""


def inlined(main: Folded, structs: list[Folded]) -> tuple[Folded, list[Folded]]:
    """The same network with fewer structs: ``structs`` come inner ones first, and are changed in place."""
    kept = []
    for struct in structs:
        everywhere = (*structs, main, *(b for f in (*structs, main) for b in f.bodies.values()))
        uses = [(f, place) for f in everywhere for place, (inner, _) in f.calls.items() if inner is struct]
        if len(uses) > 1 and not _short(struct, len(uses)):
            kept.append(struct)
            continue
        # those behind first: what is put in moves what lies behind it
        if not all([_put(struct, *use) for use in sorted(uses, key=lambda u: -u[1])]):
            kept.append(struct)
    used = {i.kind for f in (*kept, main) for i in f.shape.items if i.child is None}
    for struct in kept:
        struct.name = numbered(struct.stem, used)
    return main, kept


def _put(struct: Folded, caller: Folded, place: int) -> bool:
    """Say ``struct`` in ``caller`` instead of the call at ``place``, if that is worth it and can be done."""
    call = caller.shape.items[place]
    if struct.switches and (call.rounds or place in caller.switches or len(struct.shape.items) - 1 in struct.switches):
        return False
    try:
        if call.rounds:
            if len(struct.shape.items) > ROUND or struct.bodies or any(i.rounds for i in struct.shape.items):
                return False
            caller.bodies[place] = _Round(struct, caller, place).body()
            del caller.calls[place]
        else:
            starred = any(n.endswith(".*") for n in call.inputs or ())
            if not _worth(struct, caller, starred) or caller.fields[place]["at"] is not None:
                return False
            _Part(struct, caller, place).splice()
    except _NotHereError:
        return False
    return True


def _short(struct: Folded, uses: int) -> bool:
    """Whether a struct of calls alone takes no more lines where it is called than of its own."""
    if any(i.child is None or i.rounds for i in struct.shape.items):
        return False
    lines = len(struct_text(struct, "      "))
    return uses * lines <= lines + bool(struct.args) + uses + 4


def _worth(struct: Folded, caller: Folded, starred: bool) -> bool:
    """Few steps, or such as need no word of the scope that they are in, or about all that the caller does. One that is
    ``starred``, called with all that a loop gives, would have to name each of these."""
    items = struct.shape.items
    if caller.switches and len(caller.shape.items) == 2:
        return len(items) <= STEPS
    if any(i.child is None for i in items) and len(items) > LEAVES:
        return False
    bare = sum(struct.fields[p]["at"] == "." or not i.names for p, i in enumerate(items))
    return len(items) <= 2 or (starred and len(items) <= LEAVES) or (bare <= 1 and len(items) <= STEPS)


def _names(folded: Folded) -> set[str]:
    found = set(folded.shape.inputs) | {n for i in folded.shape.items for n in i.names}
    return found.union(folded.lets, *(_names(b) for b in folded.bodies.values()))


class _Move:
    """The steps of a struct as steps of its caller."""

    def __init__(self, struct: Folded, caller: Folded, place: int) -> None:
        self.struct, self.caller, self.place = struct, caller, place
        self.call = caller.shape.items[place]
        self.arguments: _Arguments = caller.calls[place][1]
        self.used = _names(caller)
        #: the struct's names, and what they are in the caller
        self.known: dict[str, str] = {}
        #: what the call reads, a name for each input of the struct, and the names that a y.* there stands for
        self.stars: dict[str, tuple[str, ...]] = {}
        self.begin = self._begin()

    def _begin(self) -> tuple[str, ...] | None:
        """What the call reads, with all the names that a y.* stands for."""
        given = self.call.inputs
        star = next((n for n in given or () if n.endswith(".*")), None)
        if given is None or star is None:
            return given
        count = len(self.struct.shape.inputs) - len(given) + 1
        self.stars = {star: tuple(f"{star[:-1]}{i}" for i in range(count))}
        return tuple(m for n in given for m in self.stars.get(n, (n,)))

    def read(self, name: str) -> str:
        if name in self.known:
            return self.known[name]
        stem, dot, rest = name.partition(".{")
        if not dot:
            stem, dot, rest = name.rpartition(".")
        stems = {n.partition(".{")[0]: m.partition(".{")[0] for n, m in self.known.items() if ".{" in n}
        if stem in stems:
            return f"{stems[stem]}{dot}{rest}"
        if name == "_":
            return name
        raise _NotHereError

    def inputs(self, item: Item, first: bool) -> tuple[str, ...] | None:
        """What a step reads; the first one what the call does, where it says nothing."""
        begin = self.begin
        if first and item.kind != "param" and begin and (item.inputs is None or "_" in item.inputs):
            return self.starred(tuple(begin[0] if n == "_" else self.read(n) for n in item.inputs or ("_",)))
        return None if item.inputs is None else self.starred(tuple(map(self.read, item.inputs)))

    def starred(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """``names`` with y.* where all that a loop gives stands in a row, as in the call."""
        for star, run in self.stars.items():
            for at in range(len(names) - len(run) + 1):
                if names[at : at + len(run)] == run:
                    return (*names[:at], star, *self.starred(names[at + len(run) :]))
        return names

    def fresh(self, name: str) -> str:
        stem, count = name, 1
        while name in self.used:
            count += 1
            name = f"{stem}_{count}"
        self.used.add(name)
        return name

    def settled(self, value: Any) -> Any:
        """A field with the call's arguments in the place of the struct's."""
        if isinstance(value, list):
            return [self.settled(v) for v in value]
        if not isinstance(value, Name):
            return value
        if value in self.arguments:
            return self.arguments[value]

        def put(match: re.Match[str]) -> str:
            given = self.arguments.get(match[0], Name(match[0]))
            return f"({given})" if " " in str(given) else str(given)

        text = _simpler(_WORD.sub(put, value))
        if _WORD.search(text):
            return Name(text)
        try:
            return Expression(text).evaluate({})
        except ExpressionError:
            raise _NotHereError from None


_PRODUCT = re.compile(r"(\d+) \* \((\d+) \* (\w+)\)")
_PART = re.compile(r"\((\d+) \* (\w+)\) // (\d+)")
_WHOLE = re.compile(r"(\d+) \* \((\w+) // (\d+)\)")


def _simpler(text: str) -> str:
    """A multiple of a multiple, or of a part, as one of what it is of: parts of arguments are whole."""
    if match := _PRODUCT.fullmatch(text):
        return f"{int(match[1]) * int(match[2])} * {match[3]}"
    if match := _PART.fullmatch(text):
        return _ratio(match[2], int(match[1]), int(match[3])) or text
    if match := _WHOLE.fullmatch(text):
        return _ratio(match[2], int(match[1]), int(match[3])) or text
    return text


def _ratio(name: str, up: int, down: int) -> str:
    if up % down == 0:
        return name if up == down else f"{up // down} * {name}"
    return f"{name} // {down // up}" if down % up == 0 else ""


class _Round(_Move):
    """The steps of a round within its loop: they stand in the same scope, again and again."""

    def body(self) -> Folded:
        shape, call = self.struct.shape, self.call
        items = [replace(i) for i in shape.items]
        fields = {p: dict(f) for p, f in self.struct.fields.items()}
        last = max((p for p, i in enumerate(items) if i.kind != "param"), default=0)
        outputs = shape.outputs if call.names else ()  # rounds of weights alone, which nobody reads, give nothing
        if outputs is None:
            if not items[last].names:
                items[last].names = (self.fresh("y"),)
                fields[last]["at"] = fields[last]["at"] or "."
            outputs = items[last].names[:1]
        if "_" in (call.inputs or ()):
            raise _NotHereError
        self.known = dict(zip(shape.inputs, call.inputs or (), strict=True))
        copies: list[tuple[str, str]] = []
        for name, outer in zip(outputs, call.names, strict=True):
            if name in self.known or not self.free(items, name, outer):
                copies.append((name, outer))
            else:
                self.known[name] = outer
        made = replace(shape, items=[], inputs=(), outputs=None)
        body = Folded("", {}, made)
        for place, item in enumerate(items):
            reads = self.inputs(item, not any(i.kind != "param" for i in items[:place]))
            names = []
            for name in item.names:
                self.known[name] = self.known.get(name) or self.fresh(name)
                names.append(self.known[name])
            at = self.settled(fields[place]["at"])
            if at is None and (item.names or item.child is not None):
                at = item.names[0]  # every round has the same weights, and says so
            self.add(
                body, item, tuple(names), reads, {k: self.settled(v) for k, v in fields[place].items()} | {"at": at}
            )
            if place in self.struct.calls:
                inner, arguments = self.struct.calls[place]
                body.calls[place] = (inner, {a: self.settled(v) for a, v in arguments.items()})
        for name, outer in copies:
            self.add(body, Item((), "identity", None, {}), (outer,), (self.known[name],), {"at": "."})
        return body

    def add(self, body: Folded, item: Item, names: tuple[str, ...], reads: Any, fields: dict[str, Any]) -> None:
        body.fields[len(body.shape.items)] = fields
        body.shape.items.append(replace(item, names=names, inputs=reads))

    def free(self, items: Sequence[Item], name: str, outer: str) -> bool:
        """Whether what ``name`` is may be called ``outer`` at once: nothing reads what was called so before."""
        before = [n for n, o in self.known.items() if o == outer and n in self.struct.shape.inputs]
        made = next(p for p, i in enumerate(items) if name in i.names)
        return not any(n in (i.inputs or ()) for n in before for i in items[made + 1 :])


class _Part(_Move):
    """The steps of a struct in the place of its call: their names begin with its name, which is its scope."""

    def splice(self) -> None:
        caller, struct, call = self.caller, self.struct, self.call
        if len(call.names) != 1 or call.names[0] == "_" or "{" in call.names[0]:
            raise _NotHereError
        switches = {p: self.settled(Name(s)) for p, s in struct.switches.items()}
        if not all(isinstance(s, Name) for s in switches.values()) or struct.lets.keys() & {*caller.args, *self.used}:
            raise _NotHereError
        if call.inputs is not None and self.begins() in switches:
            raise _NotHereError  # what comes behind reads it where the first step is missing
        self.scope = call.names[0]
        self.known = {}
        self.previous()
        for place, item in enumerate(struct.shape.items):
            self.known |= {n: f"{self.scope}.{n}" for n in item.names}
            for name in (n for b in self.inner(struct, place) for n in _names(b)):
                self.known.setdefault(name, f"{self.scope}.{name}")
        if {n for o, n in self.known.items() if o not in struct.shape.inputs} & self.used:
            raise _NotHereError
        result = self.result()
        steps = self.steps(struct)
        rest = caller.shape.items[self.place + 1 :]
        follows = next((i for i in rest if i.kind != "param"), None)
        given = struct.shape.outputs
        if given is not None and follows is not None and (follows.inputs is None or "_" in follows.inputs):
            follows.inputs = tuple(result if n == "_" else n for n in follows.inputs or ("_",))
        renamed = {self.scope: result}
        if "{" in result and follows is not None and follows.inputs is not None:
            follows.inputs = tuple("_" if n == self.scope else n for n in follows.inputs)
        for item in rest:
            item.inputs = None if item.inputs is None else tuple(renamed.get(n, n) for n in item.inputs)
        shape = caller.shape
        if shape.outputs is not None:
            shape.outputs = tuple(renamed.get(n, n) for n in shape.outputs)
        elif given is not None and follows is None:
            shape.outputs = (result,)
        self.place_in(steps)
        caller.lets |= {name: self.settled(value) for name, value in struct.lets.items()}
        caller.switches |= {self.place + p: str(s) for p, s in switches.items()}

    def begins(self) -> int:
        """The place of the first step that computes."""
        return next((p for p, i in enumerate(self.struct.shape.items) if i.kind != "param"), 0)

    def inner(self, folded: Folded, place: int) -> list[Folded]:
        return [folded.bodies[place]] if place in folded.bodies else []

    def previous(self) -> None:
        """What the struct's inputs are called in the caller."""
        call, names = self.call, self.struct.shape.inputs
        given = self.begin or ("_",)
        if call.inputs is None and not any(n in (i.inputs or ()) for n in names for i in self.all_items(self.struct)):
            return
        if call.inputs is not None and len(given) != len(names):
            raise _NotHereError  # several y.*: how many each stands for is not known here
        self.known |= {
            n: self.before() if g == "_" else g for n, g in zip(names, given, strict=call.inputs is not None)
        }

    def before(self) -> str:
        """The name of what the step before the call gives; it gets one where it has none."""
        caller = self.caller
        before = [p for p in range(self.place) if caller.shape.items[p].kind != "param"]
        if not before:
            return caller.shape.inputs[0]
        item = caller.shape.items[before[-1]]
        if not item.names and item.child is None and not self.weighted(item):
            item.names = (self.fresh(item.kind),)
            caller.fields[before[-1]]["at"] = caller.fields[before[-1]]["at"] or "."
        if not item.names or item.rounds or before[-1] in caller.switches or re.search(r"\d$", item.names[0]):
            raise _NotHereError
        return item.names[0]

    def all_items(self, folded: Folded) -> list[Item]:
        inner = [i for b in folded.bodies.values() for i in self.all_items(b)]
        return [*folded.shape.items, *inner]

    def result(self) -> str:
        """What the call's result is called afterwards."""
        shape = self.struct.shape
        if shape.outputs is not None:
            if len(shape.outputs) != 1:
                raise _NotHereError
            return self.read(shape.outputs[0])
        last = next((i for i in reversed(shape.items) if i.kind != "param"), None)
        if last is None or last.rounds:
            raise _NotHereError
        return self.known[last.names[0]] if last.names else self.scope

    def steps(self, folded: Folded, top: bool = True) -> list[tuple[Item, dict[str, Any], Any, Folded | None]]:
        found = []
        items = folded.shape.items
        last = max((p for p, i in enumerate(items) if i.kind != "param"), default=-1)
        read = {n for i in items for n in i.inputs or ()} | {*(self.struct.shape.outputs or ())}
        for place, item in enumerate(items):
            first = top and not any(i.kind != "param" for i in items[:place])
            at = self.at(item, folded.fields[place]["at"])
            # a name that nothing reads is for weights to stand in the struct's own scope, which is said now
            here = folded.fields[place]["at"] == "." and top and place != last and not folded.bodies
            idle = here and len(item.names) == 1 and item.names[0] not in read
            names = () if idle else tuple(map(self.read, item.names))
            if not names and top and place == last and at == self.scope and not self.weighted(item):
                names, at = (self.scope,), None
            fields = {k: self.settled(v) for k, v in folded.fields[place].items()} | {"at": at}
            call = folded.calls.get(place)
            if call is not None:
                call = (call[0], {a: self.settled(v) for a, v in call[1].items()})
            body = None
            if place in folded.bodies:
                body = Folded("", {}, replace(folded.bodies[place].shape, items=[]))
                for number, step in enumerate(self.steps(folded.bodies[place], False)):
                    self.enter(body, number, *step)
            found.append((replace(item, names=names, inputs=self.inputs(item, first)), fields, call, body))
        return found

    def weighted(self, item: Item) -> bool:
        return item.child is not None or LAYERS[item.kind].weighted

    def at(self, item: Item, at: Any) -> str | None:
        """The place of a step, seen from the caller."""
        at = self.settled(at)
        if isinstance(at, Name):
            raise _NotHereError
        if at is None:
            return None if item.names else self.scope
        if at == ".":
            return self.scope
        return at if at.startswith("/") else f"{self.scope}.{at}"

    def place_in(self, steps: list[tuple[Item, dict[str, Any], Any, Folded | None]]) -> None:
        """Put ``steps`` where the call is; what stands behind it moves on."""
        caller, more = self.caller, len(steps) - 1
        items = caller.shape.items
        behind = {p: p + more for p in range(self.place + 1, len(items))}
        del caller.calls[self.place]
        for table in (caller.fields, caller.calls, caller.bodies, caller.switches):
            moved = {behind.get(p, p): v for p, v in table.items()}
            table.clear()
            table.update(moved)  # type: ignore[arg-type]
        if self.place in caller.switches:
            here = range(self.place, self.place + more + 1)
            caller.switches |= dict.fromkeys(here, caller.switches[self.place])
        items[self.place : self.place + 1] = [s[0] for s in steps]
        for number, step in enumerate(steps):
            self.enter(caller, self.place + number, *step)

    def enter(self, folded: Folded, place: int, item: Item, fields: dict[str, Any], call: Any, body: Any) -> None:
        if len(folded.shape.items) == place:
            folded.shape.items.append(item)
        folded.fields[place] = fields
        if call is not None:
            folded.calls[place] = call
        if body is not None:
            folded.bodies[place] = body
