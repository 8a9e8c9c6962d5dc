"""From an outline to what will be printed: local names for values, what each block reads and gives."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from instep.graph.core import Graph, Value
from instep.graph.text.outline import CARRIED, KEPT, Block, Leaf, Loop, begin
from instep.graph.text.repeat import repeated
from instep.graph.text.roles import roles
from instep.graph.text.shape import PLAIN_ACTS, Item, Shape, key_of
from instep.graph.text.table import snake

__all__ = ["shape_of"]

#: What results are called that are no scopes; else as the layer is.
_STEMS = {"split": "part", "unbind": "part"} | dict.fromkeys(PLAIN_ACTS, "act")
#: What torch.export calls constants that are no module's, counted over the network.
_LIFTED = re.compile(r"(.*\.)?lifted_tensor_\d+")
_GOOD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]*")


@dataclass
class _Step:
    source: Leaf | Block | Loop
    reads: list[Value]
    gives: list[Value]
    weighted: bool
    suffix: str
    kind: str


def shape_of(block: Block, graph: Graph) -> Shape:
    """The printed form of the whole outline of ``graph``."""
    readers: dict[Value, int] = {}
    for leaf in block.leaves():
        for value in leaf.inputs:
            readers[value] = readers.get(value, 0) + 1
    for value in graph.outputs:
        readers[value] = readers.get(value, 0) + 1
    names = tuple(_word(n, set()) for n in graph.input_names)
    starts = repeated(block, graph.outputs)
    namer = _Namer(readers, starts)
    namer.declared.update(graph.weights)
    namer.taken = {v.name for v in graph.weights}
    _declare(block, namer.bodies)
    for leaf in block.leaves():
        for value in leaf.inputs:
            namer.orders.setdefault(value, leaf.inputs)
    return namer.shape(block, list(graph.inputs), list(graph.outputs), names)


def _declare(block: Block, found: dict[Value, int]) -> None:
    for value in {i.outputs[0] for i in block.items if isinstance(i, Leaf) and i.kind == "param"}:
        found[value] = found.get(value, 0) + 1
    for item in block.items:
        for inner in item.rounds if isinstance(item, Loop) else [item] if isinstance(item, Block) else []:
            _declare(inner, found)


def _word(name: str, used: set[str]) -> str:
    """``name`` as something a step can read, unlike any of ``used``."""
    word = name if _GOOD.fullmatch(name) else re.sub(r"[^A-Za-z0-9_.\-]", "_", name).lstrip(".-") or "v"
    stem, count = word, 1
    while word in used or word == "_":
        count += 1
        word = f"{stem}_{count}"
    used.add(word)
    return word


@dataclass
class _Body:
    """What is known of a body while its steps are named."""

    shape: Shape
    local: dict[Value, str]
    used: set[str]
    shared: bool
    wanted: set[Value] = field(default_factory=set)
    previous: list[Value] = field(default_factory=list)
    #: names that values should have
    prefer: dict[Value, str] = field(default_factory=dict)
    #: what values are to an attention
    roles: dict[Value, str] = field(default_factory=dict)
    #: the first words of scopes, which have numbers behind them too
    prefixes: set[str] = field(default_factory=set)
    #: what the rounds of loops give, by its stem: how many there are
    stars: dict[str, int] = field(default_factory=dict)

    def stem(self, word: str) -> str:
        """A word that nothing else begins with, for names that count."""
        chosen = _word(word, self.used | self.prefixes)
        self.used.add(chosen)
        return chosen


class _Namer:
    def __init__(self, readers: dict[Value, int], starts: dict[Value, Value]) -> None:
        self.readers = readers
        #: what the stand-ins of loops' first rounds are
        self.starts = starts
        #: weights that have been printed: the next layer that has one of them shares it
        self.printed: set[str] = set()
        #: constants of the network, and what is read beside each value where it is first read
        self.declared: set[Value] = set()
        self.orders: dict[Value, list[Value]] = {}
        self.taken: set[str] = set()
        #: in how many bodies each constant is declared
        self.bodies: dict[Value, int] = {}

    def shape(
        self, block: Block, inputs: list[Value], outputs: list[Value], names: tuple[str, ...], shared: bool = False
    ) -> Shape:
        """The printed form of ``block``; ``shared``: within a call that shares weights, so that no step need say so."""
        steps = [self.step(i, block.scope) for i in block.items]
        body = _Body(Shape(block.scope, names, [], None), dict(zip(inputs, names, strict=True)), set(names), shared)
        body.prefixes = {s.suffix.partition(".")[0] for s in steps}
        body.wanted = self.wanted(steps, inputs, outputs)
        body.roles = roles(steps)
        body.previous = inputs[:1]
        for step in steps:
            if isinstance(step.source, Loop):
                self.prefer(step.source, steps, body)
        for step in steps:
            if isinstance(step.source, Loop):
                self.loop(step.source, step, body)
            elif step.kind != "param" or step.gives[0] not in body.local:  # declared once, whoever reads it
                self.enter(step, body)
        shape = body.shape
        if len(outputs) != 1 or body.previous[:1] != outputs:
            shape.outputs = tuple(body.local[v] for v in outputs) or None
        shape.key = key_of(shape)
        return shape

    def enter(self, step: _Step, body: _Body) -> None:
        """A layer, or a block with all that is in it."""
        shape = body.shape
        at, chosen = self.names(step, body)
        reads = self.reads(step, body.previous, body)
        fields = dict(step.source.fields) if isinstance(step.source, Leaf) else {}
        if step.kind in PLAIN_ACTS and not fields:
            fields["kind"] = step.kind
        again = self.shares(step) and not body.shared
        if at is None and again:
            at = _braced(chosen[0]) if step.kind == "param" else step.suffix or "."
        fields["at"] = at
        child = None
        if isinstance(step.source, Block):
            inner = tuple(f"x{i}" for i in range(1, len(step.reads) + 1)) if len(step.reads) > 1 else ("x",)
            inner = inner[: len(step.reads)]
            child = self.shape(step.source, step.reads, step.gives, inner, body.shared or again)
            self.take(child, shape)
        elif step.kind == "param" and fields["value"] is not None:
            shape.constants += step.gives
        elif isinstance(step.source, Leaf):
            shape.constants += step.source.constants
        shape.items.append(Item(chosen, step.kind, reads, fields, child))
        if chosen:
            body.local.update(zip(step.gives, chosen, strict=False))
        if step.kind != "param":
            body.previous = step.gives

    def take(self, child: Shape, shape: Shape) -> None:
        shape.constants += child.constants
        shape.renamed |= child.renamed
        shape.height = max(shape.height, child.height + 1)

    # -- loops ---------------------------------------------------------------------------------------------------
    def loop(self, loop: Loop, step: _Step, body: _Body) -> None:
        """A loop as one step where its rounds are equal, else its rounds one after the other."""
        shape, local = body.shape, body.local
        last = loop.rounds[-1]
        assert last.gives is not None
        self.printed |= {w.name for leaf in loop.leaves() for w in leaf.weights if leaf.fields.get("value") is None}
        states, inner = self.states(loop, body)
        down = self.counts_down(loop)
        numbers = range(len(loop.rounds))[:: -1 if down else 1]
        stems = [body.stem("y") if kind == KEPT else "" for kind in loop.outputs]
        fixed = [s or states.get(n) or _word("y", body.used) for n, s in enumerate(stems)]
        reads = self.loop_reads(loop, states, numbers, local)
        rounds = [self.shape(r, list(r.reads or ()), list(r.gives or ()), inner, True) for r in loop.rounds]
        for child in rounds:
            child.round = True
            self.take(child, shape)
        counted = [tuple(f"{s}.{i}" if s else f for s, f in zip(stems, fixed, strict=True)) for i in numbers]
        patterns = [_pattern([r[n] for r in reads], numbers) for n in range(len(loop.inputs))]
        if None not in patterns and len({str(r.key) for r in rounds}) == 1:
            chosen = tuple(f"{s}.{{i}}" if s else f for s, f in zip(stems, fixed, strict=True))
            fields = {"at": ".", "count": len(rounds)}
            read = tuple(p or "" for p in patterns)
            shape.items.append(Item(chosen, "for", read, fields, rounds[0], rounds=rounds, down=down))
        else:
            for child, chosen, read in zip(rounds, counted, reads, strict=True):
                shape.items.append(Item(chosen, "", tuple(read), {"at": "."}, child))
        local.update(zip(last.gives, fixed, strict=True))
        for n, stem in enumerate(stems):
            if stem:
                local.update({r.gives[n]: names[n] for r, names in zip(loop.rounds, counted, strict=True) if r.gives})
                body.stars[stem] = len(rounds)
        body.previous = [Value("", ())]  # nobody's: what follows says what it reads

    def prefer(self, loop: Loop, steps: Sequence[_Step], body: _Body) -> None:
        """What a loop begins with has the name that the loop carries it by, where nothing else reads it."""
        leaves = loop.rounds[0].leaves()
        here = {v for s in steps if not s.suffix or s.kind == "param" for v in s.gives[:1]}
        for (kind, _), value in zip(loop.inputs, loop.rounds[0].reads or (), strict=True):
            if kind == CARRIED and (begin := self.starts[value]) in here and begin not in body.prefer:
                count = sum(v is value for leaf in leaves for v in leaf.inputs)
                if self.readers.get(begin, 0) == count:
                    body.prefer[begin] = _word("state", body.used)

    def states(self, loop: Loop, body: _Body) -> tuple[dict[int, str], tuple[str, ...]]:
        """The names of what is carried, by place among what a round gives, and of all that a round reads in itself."""
        first = loop.rounds[0]
        assert first.reads is not None
        states: dict[int, str] = {}
        used: set[str] = set()
        inner: list[str] = []
        for (kind, place), value in zip(loop.inputs, first.reads, strict=True):
            weight = value.name.rpartition("/")[0] == "" and value in self.declared
            inner.append(_word("state" if kind == CARRIED else "w" if weight else "x", used))
            if kind == CARRIED and place is not None:
                begin = body.local[self.starts[value]]
                name = states.get(place)
                if name is None:
                    name = states[place] = body.prefer.get(self.starts[value]) or _word("state", body.used)
                if name == begin:
                    continue
                body.shape.items.append(Item((name,), "identity", (begin,), {"at": "."}))
        return states, tuple(inner)

    def loop_reads(
        self, loop: Loop, states: dict[int, str], numbers: range, local: dict[Value, str]
    ) -> list[list[str]]:
        """What each round's call reads."""
        found = []
        for block in loop.rounds:
            pairs = zip(loop.inputs, block.reads or (), strict=True)
            found.append([states[p] if p is not None else local[v] for (_, p), v in pairs])
        return found

    def counts_down(self, loop: Loop) -> bool:
        """Whether what is kept of the rounds is read the last first."""
        for n, kind in enumerate(loop.outputs):
            if kind == KEPT:
                values = [r.gives[n] for r in loop.rounds if r.gives]
                order = [v for v in self.orders.get(values[0], []) if v in set(values)]
                return order == values[::-1]
        return False

    def step(self, item: Leaf | Block | Loop, scope: str) -> _Step:
        suffix = _suffix(item.scope, scope)
        if isinstance(item, Loop):
            reads = [self.starts.get(v, v) for r in item.rounds for v in r.reads or ()]
            return _Step(item, list(dict.fromkeys(reads)), [], False, suffix, "for")
        if isinstance(item, Leaf):
            weighted = item.kind == "param" or bool(item.weights)
            return _Step(item, item.inputs, item.outputs, weighted, suffix, item.kind)
        leaves = item.leaves()
        made = {v for leaf in leaves for v in leaf.outputs}
        begins = {v: self.starts[v] for v in item.stand_ins()}
        read = [begin(v, begins) for leaf in leaves for v in leaf.inputs]
        reads = list(dict.fromkeys(v for v in read if v not in made))
        inside: dict[Value, int] = {}
        for value in read:
            inside[value] = inside.get(value, 0) + 1
        # constants are said wherever they are read: no block hands them to another
        computed = [v for leaf in leaves if leaf.kind != "param" for v in leaf.outputs]
        gives = item.gives or [v for v in computed if self.readers.get(v, 0) > inside.get(v, 0)]
        return _Step(item, reads, list(dict.fromkeys(gives)), True, suffix, "")

    def wanted(self, steps: Sequence[_Step], inputs: list[Value], outputs: list[Value]) -> set[Value]:
        """Values that need a name: read by another step than the next, or given back from further up."""
        found: set[Value] = set()
        previous: list[Value] = inputs[:1]
        for step in steps:
            loop = isinstance(step.source, Loop)
            found.update(v for v in step.reads if loop or v not in previous[:1])
            if loop:
                previous = []
            elif step.kind != "param":
                previous = step.gives
        if len(outputs) != 1 or previous[:1] != outputs:
            found.update(outputs)
        return found

    def names(self, step: _Step, body: _Body) -> tuple[str | None, tuple[str, ...]]:
        """What ``at`` says and the names of a step's results."""
        wanted, used = body.wanted, body.used
        if step.kind == "param":
            return self.param_name(step, body)
        count = len(step.gives)
        needed = step.weighted or count > 1 or bool(step.suffix) or any(v in wanted for v in step.gives)
        if not needed:
            return None, ()
        usual = step.suffix or _STEMS.get(step.kind) or snake(step.kind) or "part"
        stem, *others = (step.suffix or body.roles.get(v) or usual for v in step.gives or [Value("", ())])
        first = (body.prefer.get(step.gives[0]) if step.gives else None) or _word(stem, used)
        at = None if step.suffix and first == step.suffix and count <= 1 else _at(step.suffix)
        return at, (first, *(_word(other, used) for other in others))

    def param_name(self, step: _Step, body: _Body) -> tuple[str | None, tuple[str, ...]]:
        assert isinstance(step.source, Leaf)
        scope, used = body.shape.scope, body.used
        full = step.gives[0].name
        if step.source.fields["value"] is not None:
            several = self.bodies.get(step.gives[0], 0) > 1
            return (_braced("/" + full) if several else None), (_word("c", used),)
        if ("/" in full or _LIFTED.fullmatch(full)) and self.bodies.get(step.gives[0], 0) == 1:
            # no parameter: what it is called is of no account, and would keep blocks apart that are equal otherwise
            name = body.prefer.get(step.gives[0]) or _word("c", used)
            said = f"{scope}.{name}" if scope else name
            if said not in self.taken:
                body.shape.renamed[said] = step.gives[0]
                return None, (name,)
        inner = _suffix(full, scope) if not scope or full.startswith(scope + ".") else ""
        # a name of its own would keep blocks apart that are equal otherwise
        name = body.prefer.get(step.gives[0]) or _word(inner or "w", used)
        return None if name == inner else _braced(inner or "/" + full), (name,)

    def reads(self, step: _Step, previous: list[Value], body: _Body) -> tuple[str, ...] | None:
        if not step.reads:
            return () if step.kind != "param" and step.weighted else None
        if step.reads == previous[:1]:
            return None
        return _starred([body.local.get(v) or "_" for v in step.reads], body.stars)

    def shares(self, step: _Step) -> bool:
        """Whether the step has weights that an earlier one has; remembers those of this step."""
        source = step.source
        leaves = [source] if isinstance(source, Leaf) else source.leaves()
        mine = {w.name for leaf in leaves for w in leaf.weights if leaf.fields.get("value") is None}
        if isinstance(source, Block):
            return bool(mine & self.printed)
        again = bool(mine & self.printed)
        self.printed |= mine
        return again


def _starred(names: list[str], stars: dict[str, int]) -> tuple[str, ...]:
    """``names``; all of one loop, in order, are said by a star."""
    found: list[str] = []
    at = 0
    while at < len(names):
        stem = names[at].removesuffix(".0")
        count = stars.get(stem, 0) if names[at].endswith(".0") else 0
        if count and names[at : at + count] == [f"{stem}.{i}" for i in range(count)]:
            found.append(f"{stem}.*")
            at += count
        else:
            found.append(names[at])
            at += 1
    return tuple(found)


def _pattern(names: list[str], numbers: range) -> str | None:
    """One name for all rounds, or one that counts as they do: y.{i}."""
    if len(set(names)) == 1:
        return names[0]
    stem, _, first = names[0].rpartition(".")
    if not stem or not first.isdigit():
        return None
    if names == [f"{stem}.{int(first) + numbers[0] - i}" for i in numbers]:
        return f"{stem}.{{{int(first) + numbers[0]} - i}}"
    ahead = int(first) - numbers[0]
    if names != [f"{stem}.{i + ahead}" for i in numbers]:
        return None
    return f"{stem}.{{i{f' + {ahead}' if ahead > 0 else f' - {-ahead}' if ahead else ''}}}"


def _suffix(scope: str, outer: str) -> str:
    if not outer:
        return scope
    return scope[len(outer) + 1 :] if scope.startswith(outer + ".") else ""


def _at(suffix: str) -> str:
    return _braced(suffix) if suffix else "."


def _braced(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")
