"""The calls of a graph as blocks within blocks, by their scopes: those blocks that can be classes."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

from instep.emit.code.call import Call, Dialect, Weight
from instep.emit.code.paths import Path, Paths, home
from instep.emit.code.statements import Statement, statements
from instep.graph.core import Graph, Value
from instep.graph.text.outline import Block, Leaf, Loop, begin, grouped
from instep.graph.text.repeat import repeated

__all__ = ["CodeLeaf", "Outline", "outlined"]


@dataclass
class CodeLeaf(Leaf):
    """A call at its place; ``path`` is where its layer lies, or the scope that it came from."""

    call: Call = field(default_factory=lambda: Call([], []))
    path: Path = ()
    origin: str = ""

    @property
    def layered(self) -> bool:
        return bool(self.call.layer)


@dataclass
class Outline:
    """Blocks that can be classes, and the constants that each of them has of its own."""

    root: Block
    paths: Paths
    #: constants that no layer has, by the block that owns them (by its id), with their paths
    owned: dict[int, list[tuple[Value, Path]]] = field(default_factory=dict)
    #: constants that a layer has and that others read: the layer's path and its name of them, by the block
    shown: dict[int, list[tuple[Value, Path, str]]] = field(default_factory=dict)
    #: what the stand-ins of loops' first rounds are
    starts: dict[Value, Value] = field(default_factory=dict)

    def begin(self, value: Value) -> Value:
        """What a stand-in of loops is at first; any other value is itself."""
        return begin(value, self.starts)


def outlined(graph: Graph, dialect: Dialect, reserved: Collection[str]) -> Outline:
    """``graph`` as blocks of the calls that ``dialect`` makes of it. NoCode where it has none."""
    placer = _Placer(live(graph, statements(graph, dialect)), {v.name for v in graph.weights}, reserved)
    leaves = placer.leaves()
    root = Block("", _settled(grouped(leaves, ""), leaves))
    made = Outline(root, placer.paths)
    made.starts = repeated(root, graph.outputs)
    apart = {leaf.path for leaf in leaves if leaf.layered} if getattr(dialect, "apart", False) else set()
    _own(made, graph, apart)
    return made


def live(graph: Graph, found: list[Statement]) -> list[Statement]:
    """Those of ``found`` that something is read of."""
    needed = set(graph.outputs)
    kept = []
    for statement in reversed(found):
        if needed.intersection(statement.call.outputs):
            needed.update(statement.call.inputs)
            kept.append(statement)
    return kept[::-1]


class _Placer:
    """Gives every layer a path of its own, the one that its weights are named by where there is one."""

    def __init__(self, found: list[Statement], arrays: Collection[str], reserved: Collection[str]) -> None:
        self.statements = found
        self.paths = Paths(reserved)
        self.taken: set[str] = set()
        self.made: dict[tuple[str, ...], Path] = {}
        layers = {s.node.scope for s in found if s.call.layer}
        self.homes = [home(s.call, s.node, layers, arrays) if s.call.layer else s.node.scope for s in found]
        #: scopes that hold others
        self.outer = {".".join(parts[:n]) for parts in (h.split(".") for h in self.homes) for n in range(len(parts))}
        for scope in self.homes:
            self.paths.of(scope)
        for statement in found:
            for value in statement.call.inputs:
                if "/" not in value.name:
                    self.paths.of(value.name.rpartition(".")[0])

    def leaves(self) -> list[CodeLeaf]:
        made = []
        for statement, scope in zip(self.statements, self.homes, strict=True):
            call, node = statement.call, statement.node
            path = self.layer(statement, scope) if call.layer else self.paths.of(scope)
            weights = [w.value for w in call.weights.values()]
            place = ".".join(path)
            # loops put stand-ins into the lists, which rules may have from the node
            inputs, outputs = list(call.inputs), list(call.outputs)
            leaf = CodeLeaf(_kind(call), inputs, outputs, call.fields, place, weights, call, path, node.origin)
            made.append(leaf)
        return made

    def layer(self, statement: Statement, scope: str) -> Path:
        call = statement.call
        same = (call.layer, call.code, json.dumps(call.fields), *(f"{k}{id(w.value)}" for k, w in call.weights.items()))
        if call.weights and same in self.made:
            return self.made[same]
        named = any(w.value.name.rpartition(".")[0] == scope for w in call.weights.values())
        if not scope or (scope in self.outer and (call.closed or not named)):
            path = self.paths.fresh(self.paths.of(scope), _word(call))
        elif scope in self.taken:
            path = self.paths.of(scope)
            path = self.paths.fresh(path[:-1], path[-1])
        else:
            path = self.paths.of(scope)
        self.taken.add(scope)
        self.made[same] = path
        return path


def _word(call: Call) -> str:
    """What a layer without a name is called: nn.Conv2d → conv."""
    return call.layer.rpartition(".")[2].rstrip("123d").lower() or "layer"


def _kind(call: Call) -> str:
    """All of a call but its values and the values of its fields."""
    weights = {k: [w.perm, w.shape, w.order] for k, w in call.weights.items()}
    return json.dumps([
        call.layer, call.code, call.module, call.positional, weights, call.helpers, call.around, call.untrained,
        call.gives,
    ])  # fmt: skip


# -- which blocks can be classes ---------------------------------------------------------------------------------------
def _settled(items: list[Leaf | Block], everything: list[CodeLeaf]) -> list[Leaf | Block]:
    """``items`` with the blocks that cannot be classes resolved into what they hold."""
    count: dict[str, int] = {}
    for leaf in everything:
        if leaf.layered:
            parts = leaf.path
            for n in range(1, len(parts) + 1):
                scope = ".".join(parts[:n])
                count[scope] = count.get(scope, 0) + 1
    seen: set[str] = set()

    def settle(found: list[Leaf | Block], outer: str) -> Iterator[Leaf | Block]:
        for item in found:
            if not isinstance(item, Block):
                yield item
                continue
            good = _classy(item, count) and item.scope not in seen and item.scope != outer
            if good:
                seen.add(item.scope)
                yield Block(item.scope, list(settle(item.items, item.scope)))
            else:
                yield from settle(item.items, outer)

    return list(settle(items, ""))


def _classy(block: Block, count: dict[str, int]) -> bool:
    """Whether a block is a class: it has all layers of its scope, some, and under names that attributes can have."""
    layers = [leaf for leaf in block.leaves() if isinstance(leaf, CodeLeaf) and leaf.layered]
    depth = len(block.scope.split("."))
    if not layers or count.get(block.scope) != len(layers) or any(len(leaf.path) == depth for leaf in layers):
        return False
    return not all(leaf.path[depth].isdecimal() for leaf in layers)


# -- constants -------------------------------------------------------------------------------------------------------
def _own(made: Outline, graph: Graph, apart: set[Path]) -> None:
    """Give each constant that is read to the innermost block that holds its readers and its name.

    Those that would lie within a layer of ``apart``, or within another array, lie beside it: conv.scale is conv_scale.
    """
    readers: dict[Value, list[list[Block]]] = {}
    holders: dict[Value, tuple[list[Block], CodeLeaf, str]] = {}

    def walk(block: Block, above: list[Block], around: Block | None = None) -> None:
        """``around``: the block that has what a loop's round needs."""
        chain = above if around is not None else [*above, block]
        for item in block.items:
            if isinstance(item, Loop):
                for each in item.rounds:
                    walk(each, chain, chain[-1])
                continue
            if isinstance(item, Block):
                walk(item, chain)
                continue
            assert isinstance(item, CodeLeaf)
            for value in map(made.begin, item.inputs):
                if value in graph.weights:
                    readers.setdefault(value, []).append(chain)
            for key, weight in item.call.weights.items():
                if weight == Weight(weight.value):
                    holders.setdefault(weight.value, (chain, item, key))

    walk(made.root, [])
    for value in graph.outputs:
        if value in graph.weights:
            readers.setdefault(value, []).append([made.root])
    layers = [leaf for leaf in made.root.leaves() if isinstance(leaf, CodeLeaf) and leaf.layered]
    modules = {leaf.path[:n] for leaf in layers for n in range(1, len(leaf.path) + 1)}
    arrays = {(*leaf.path, key) for leaf in layers for key in leaf.call.weights}
    arrays |= {made.paths.of(v.name) for v in readers if v not in holders and "/" not in v.name}
    closed = apart | (arrays - modules)
    for value, chains in readers.items():
        if value in holders:
            chain, leaf, key = holders[value]
            block = _shared([*chains, chain])[-1]
            made.shown.setdefault(id(block), []).append((value, leaf.path, key))
            continue
        around = _shared(chains)
        named = "/" not in value.name
        path = made.paths.of(value.name) if named else ()
        within = next((n for n in range(1, len(path)) if path[:n] in closed), 0)
        if within:
            path = made.paths.fresh(path[: within - 1], "_".join(path[within - 1 :]))
        elif path and path in modules:
            path = made.paths.fresh(path[:-1], path[-1])
        while named and around[-1].scope and path[: around[-1].scope.count(".") + 1] != _path(around[-1]):
            around = around[:-1]
        if not named:
            # numbers at the end tell values of a whole network apart, and equal blocks with them
            last = re.sub(r"(_\d+)+$", "", value.name.rpartition("/")[2].rpartition(".")[2])
            path = made.paths.fresh(_path(around[-1]), last or "constant")
        made.owned.setdefault(id(around[-1]), []).append((value, path))


def _path(block: Block) -> Path:
    return tuple(block.scope.split(".")) if block.scope else ()


def _shared(chains: list[list[Block]]) -> list[Block]:
    """The blocks around all of the places that ``chains`` lead to."""
    found = []
    for column in zip(*chains, strict=False):
        if any(b is not column[0] for b in column):
            break
        found.append(column[0])
    return found
