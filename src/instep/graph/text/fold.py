"""Equal blocks become one struct: what differs between them becomes its arguments."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from instep.graph.text.columns import (
    ABSENT,
    Name,
    alike,
    argument_of,
    counted,
    derived,
    family_of,
    parts,
    related,
    reworded,
    series_of,
    type_of,
    usual_of,
)  # fmt: skip
from instep.graph.text.outline import End
from instep.graph.text.shape import PLAIN_ACTS, Shape
from instep.graph.text.table import LAYERS
from instep.graph.text.titles import condition, numbered, title_of
from instep.graph.text.variants import Family, families

__all__ = ["Folded", "Name", "fold"]

#: What arguments are about that say whether steps are there: those that always agree are one.
SWITCH = "switch"


@dataclass
class Folded:
    """A struct to print: arguments by name and type, and one shape whose differing fields are names of arguments."""

    name: str
    args: dict[str, str]
    shape: Shape
    #: the arguments that say whether the item is there, by the item's place, where it is not always
    switches: dict[int, str] = field(default_factory=dict)
    #: its name, but for a number where others have that
    stem: str = ""
    #: the keys of the blocks that it stands for, and its arguments that some of them have no use for
    keys: tuple[Any, ...] = ()
    idle: int = 0
    #: numbers that names of items are made with
    lets: dict[str, Name] = field(default_factory=dict)
    #: the item's struct, and the arguments that it is called with, by the item's place
    calls: dict[int, tuple[Folded, dict[str, Any]]] = field(default_factory=dict)
    #: the fields of leaves, by the item's place
    fields: dict[int, dict[str, Any]] = field(default_factory=dict)
    #: what a loop does in each round, by the item's place, where it is no struct
    bodies: dict[int, Folded] = field(default_factory=dict)
    #: what arguments are where a call does not say: the defaults of the layers' fields
    defaults: dict[str, Any] = field(default_factory=dict)


#: Arguments by instance: which value each argument has for one shape.
_Values = dict[int, dict[str, Any]]


def fold(
    root: Shape,
    *,
    derive: bool = False,
    sizes: bool = False,
    titles: Mapping[str, str] | None = None,
    apart: Collection[Any] = (),
) -> tuple[Folded, list[Folded]]:
    """The network as a struct, and the structs that it uses, inner ones first.

    ``titles`` are the names that blocks have in the source, by scope. With ``derive`` a size that is a multiple of
    another argument everywhere is said by it: ``4 * channels``; with ``sizes`` those fields alone that are sizes, and
    lists of integers element by element, and blocks that lack steps of others are one struct with these, but for those
    whose keys are in ``apart``.
    """
    found = families(root, titles or {}, merge=sizes, apart=apart)
    done: dict[Any, tuple[Folded, _Values]] = {}
    # a class of the source may be called as an operator that the network uses, too: Conv2d
    used = {i.kind for f in found for s in f.shapes for i in s.items if i.child is None}
    structs: list[Folded] = []
    for family in found:
        stem = "" if root in family.shapes else title_of(family.shapes, titles or {})
        made, values = _Maker(family, done, derive, sizes).struct()
        made.name, made.stem = numbered(stem, used) if stem else "", stem
        done |= {shape.key: (made, values) for shape in family.shapes}
        structs.append(made)
    main = structs.pop()
    return main, structs


#: Layers that give as many channels as they read.
_KEEPING = (*PLAIN_ACTS, "gelu", "batch_norm", "layer_norm", "group_norm", "add", "mul", "dropout", "identity", "param")


class _Maker:
    """Makes one struct of a family's blocks: what differs among them are its arguments."""

    def __init__(self, family: Family, done: dict[Any, tuple[Folded, _Values]], derive: bool, sizes: bool):
        self.family, self.done, self.derive, self.sizes = family, done, derive, sizes
        full = family.shapes[0]
        full = replace(full, items=[replace(i) for i in full.items])
        self.made = Folded("", {}, full, keys=tuple({s.key: None for s in family.shapes}))
        self.values: _Values = {id(s): {} for s in family.shapes}
        #: arguments by what they are about, with their values
        self.known: list[tuple[str, list[str], Name]] = []
        #: the values of arguments that are sizes, and of others
        self.columns: dict[str, list[Any]] = {}
        self.windows: dict[str, list[Any]] = {}
        #: what arguments are called that say how many channels a layer has, besides the last
        self.inner_sizes = "out"
        self.taken = {n.partition(".")[0] for i in full.items for n in i.names}
        self.taken |= {*full.inputs, *full.reserved, *("i" for i in full.items if i.rounds)}

    def struct(self) -> tuple[Folded, _Values]:
        """The struct, and the value of each of its arguments for each block."""
        family = self.family
        # switches stand first; what is always there names the arguments, what may be missing reads them
        ways = [(way, *self.switch(way)) for way in family.conditional()]
        if self.sizes:
            self.result()
        for place in range(len(family.rows[0])):
            if place not in self.made.switches:
                self.enter(place)
        for way, switch, places in ways:
            before = set(self.made.args)
            for place in places:
                self.enter(place)
            own = [a for a in self.made.args if a not in before]
            if len(own) != 1 or not self.unite(way, switch, own[0], places):
                self.made.idle += len(own)
        if self.sizes:  # what is there or not comes first
            self.made.args = dict(sorted(self.made.args.items(), key=lambda a: a[1] != "bool"))
        return self.made, self.values

    def result(self) -> None:
        """How many channels come out is ``out``; other layers' are ``mid``, or multiples and parts of it."""
        for place in reversed(range(len(self.family.rows[0]))):
            item = self.made.shape.items[place]
            inner = None if item.child is None else self.done[item.child.key]
            sized = "out" in (item.fields if inner is None else inner[0].args)
            if sized and not item.rounds and place not in self.made.switches:
                twins = [t for row in self.family.rows if (t := row[place]) is not None]
                self.settle("out", [t.fields["out"] if inner is None else inner[1][id(t.child)]["out"] for t in twins])
                self.inner_sizes = "mid"
            if sized or (inner is None and item.kind not in _KEEPING):
                return

    def switch(self, way: list[bool]) -> tuple[str, list[int]]:
        """An argument that says whether the steps are there that are missing in this ``way``, and their places."""
        places = [p for p in range(len(self.family.rows[0])) if self.family.presence(p) == way]
        usual = sum(way) * 2 > len(way) if self.sizes else None
        items = self.made.shape.items
        callees = [None if i.child is None else self.done[i.child.key][0].stem for i in items]
        name = condition(self.made.shape, callees, places)
        self.taken.discard(name)
        switch = str(self.settle(name, way, usual=usual, family=SWITCH))
        self.made.switches |= dict.fromkeys(places, switch)
        if way == [shift == 0 for shift in self.family.shifts]:
            self.number(switch, max(self.family.shifts))
        return switch, places

    def unite(self, way: list[bool], switch: str, own: str, places: list[int]) -> bool:
        """What the steps at ``places`` alone need says whether they are there, too: it is 0 where they are not."""
        if any(switch in _words(v) for p in self.made.fields if p not in places for v in self.given(p)):
            return False
        values = [self.values[id(s)] for s in self.family.shapes]
        sizes = [v[own] for v, there in zip(values, way, strict=True) if there]
        items = [self.made.shape.items[p] for p in places]
        if len(items) == 1 and items[0].kind in PLAIN_ACTS:
            return self.no_activation(way, switch, own, places[0])
        if not all(type(size) is int and size > 0 for size in sizes):
            return False
        made = self.made
        made.args = {a: "int" if a == switch else kind for a, kind in made.args.items() if a != own}
        made.defaults = {a: v for a, v in made.defaults.items() if a != own} | {switch: 0}
        for mine, there in zip(values, way, strict=True):
            mine[switch] = mine.pop(own) if there else 0
        for place in places:
            made.fields[place] = {f: reworded(v, own, switch) for f, v in made.fields[place].items()}
            if place in made.calls:
                inner, given = made.calls[place]
                made.calls[place] = inner, {a: reworded(v, own, switch) for a, v in given.items()}
        column = [mine[switch] for mine in values]
        self.columns.pop(own, None)
        self.windows.pop(own, None)
        self.known = [k for k in self.known if own not in _words(k[2]) and k[2] != switch]
        self.columns[switch] = column
        return True

    def given(self, place: int) -> list[Any]:
        """What stands in the fields of a step, and in its arguments."""
        return [*self.made.fields[place].values(), *self.made.calls.get(place, (None, {}))[1].values()]

    def number(self, switch: str, shift: int) -> None:
        """Names count on from a number that depends on ``switch``."""
        number = argument_of("n", self.made.args, self.taken)
        self.made.lets[number] = Name(f"{shift} if {switch} else 0")
        lower = self.family.rows[self.family.shifts.index(shift)]
        names: dict[str, str] = {}
        for item, other in zip(self.made.shape.items, lower, strict=True):
            for full, less in zip(item.names, other.names if other else (), strict=False):
                if full != less:
                    stem, dot, last = less.rpartition(".")
                    names[full] = f"{stem}{dot}{{{number}{f' + {last}' if int(last) else ''}}}"
        shape = self.made.shape
        items = [
            replace(
                i,
                names=tuple(names.get(n, n) for n in i.names),
                inputs=None if i.inputs is None else tuple(names.get(n, n) for n in i.inputs),
            )
            for i in shape.items
        ]
        outputs = None if shape.outputs is None else tuple(names.get(n, n) for n in shape.outputs)
        self.made.shape = replace(shape, items=items, outputs=outputs)

    def enter(self, place: int) -> None:
        """The fields of a step, or the arguments of a call."""
        twins = [row[place] for row in self.family.rows]
        item = next(t for t in twins if t is not None)
        columns = {f: [ABSENT if t is None else t.fields[f] for t in twins] for f in item.fields}
        if item.child is None:
            usual = {f.name: f.default for f in LAYERS[item.kind].fields} if self.sizes else {}
            words = {"kind": "act"} if self.sizes and item.kind in PLAIN_ACTS else {}
            self.taken -= {*words.values()}
            self.made.fields[place] = {
                f: self.settle(words.get(f, f), column, item.stem, usual_of(usual.get(f)))
                for f, column in columns.items()
            }
            return
        inner, given = self.done[item.child.key]
        self.made.fields[place] = {f: self.settle(f, column) for f, column in columns.items()}
        if item.rounds:
            loops = [t for t in twins if t is not None]
            series = {a: [series_of([given[id(r)][a] for r in t.rounds], t.down) for t in loops] for a in inner.args}
            arguments = {a: counted(self.settle, a, column) for a, column in series.items()}
        else:
            arguments = {
                a: self.settle(
                    a,
                    [ABSENT if t is None else given[id(t.child)][a] for t in twins],
                    item.stem,
                    inner.defaults.get(a),
                    SWITCH if inner.args[a] == "bool" and a in inner.switches.values() else "",
                )
                for a in inner.args
            }
        self.made.calls[place] = (inner, arguments)

    def no_activation(self, way: list[bool], switch: str, own: str, place: int) -> bool:
        """An activation that may be missing is one that may be none."""
        made = self.made
        if any(switch in _words(said) for said in made.lets.values()):
            return False
        del made.switches[place]
        made.args = {switch if a == own else a: kind for a, kind in made.args.items() if a != switch}
        made.defaults.pop(switch, None)
        made.fields[place] = {f: reworded(v, own, switch) for f, v in made.fields[place].items()}
        self.known = [k for k in self.known if k[2] not in (switch, own)]
        for shape, there in zip(self.family.shapes, way, strict=True):
            mine = self.values[id(shape)]
            mine[switch] = mine.pop(own) if there else "none"
        return True

    # -- columns -------------------------------------------------------------------------------------------------
    def settle(self, field_name: str, column: list[Any], stem: str = "", usual: Any = None, family: str = "") -> Any:
        """What stands in a field that has these values: one of them, or an argument, or what is made of arguments."""
        shown = [v for v in column if v is not ABSENT]
        if all(isinstance(v, End) for v in shown):
            return None
        if len({json.dumps(v) for v in shown}) == 1:
            return shown[0]
        if self.derive and all(isinstance(v, tuple) for v in shown) and len({len(v) for v in shown}) == 1:
            return tuple(self.settle(field_name, part, stem) for part in parts(column))
        if self.sizes and alike(shown):
            one = "size" if field_name == "shape" else field_name.removesuffix("s")
            return [self.settle(one, part, stem) for part in parts(column)]
        family = family or (family_of(field_name) if self.sizes else "")
        found = self.said(family, field_name, column)
        return self.argument(family, field_name, column, stem, usual) if found is None else found

    def said(self, family: str, field_name: str, column: list[Any]) -> Name | None:
        """``column`` by arguments that there are."""
        there = [n for n, v in enumerate(column) if v is not ABSENT]
        texts = [json.dumps(column[n]) for n in there]
        for about, known, name in self.known:
            if about == family and [known[n] for n in there] == texts:
                return name
        if self.sizes and all(isinstance(column[n], bool) for n in there):
            turned = [json.dumps(not column[n]) for n in there]
            bare = [(known, name) for _, known, name in self.known if name in self.made.args]
            switches = (name for known, name in bare if [known[n] for n in there] == turned)
            if (switch := next(switches, None)) is not None:
                return Name(f"not {switch}")
        shown = [column[n] for n in there]
        columns = {a: [c[n] for n in there] for a, c in self.columns.items()}
        found = None
        if self.derive and family in ("", "size"):
            found = derived(shown, columns)
        if found is None and self.sizes:
            windows = {a: [c[n] for n in there] for a, c in self.windows.items()}
            found = related(family, field_name, shown, columns | windows)
        if found is not None and len(there) == len(column):
            self.known.append((family, texts, found))
        return found

    def argument(self, family: str, field_name: str, column: list[Any], stem: str, usual: Any) -> Name:
        """An argument of its own for ``column``."""
        made = self.made
        word = self.inner_sizes if field_name == "out" else field_name
        argument = argument_of(word, made.args, self.taken, stem)
        shown = [v for v in column if v is not ABSENT]
        made.args[argument] = type_of(shown)
        if usual is not None and usual in shown and all(type(v) is type(usual) for v in shown):
            made.defaults[argument] = usual
        if len(shown) < len(column):
            # a block without the step gives what most others do, and so need not say it
            rest = made.defaults.get(argument, max(shown, key=shown.count))
            if isinstance(rest, bool | int | float):
                made.defaults[argument] = rest
            column = [rest if v is ABSENT else v for v in column]
        (self.columns if family in ("", "size") else self.windows)[argument] = column
        self.known.append((family, [json.dumps(v) for v in column], Name(argument)))
        for shape, value in zip(self.family.shapes, column, strict=True):
            self.values[id(shape)][argument] = value
        return Name(argument)


def _words(value: Any) -> set[str]:
    """The arguments that a field reads."""
    if isinstance(value, list | tuple):
        return {word for v in value for word in _words(v)}
    return set(re.findall(r"\w+", value)) if isinstance(value, Name) else set()
