"""Where in the network each operator of a file stands, from the names of its tensors.

TensorFlow's names are paths of scopes with the operator at their end (``net/conv1/Conv2D``); what the converter fused
names all it came from (``net/relu/Relu;net/conv1/Conv2D``). Of these a person would say ``conv1``.
"""

from __future__ import annotations

import re
from collections import Counter

from instep.capture.tflite.file import Operation, Subgraph, TfliteFile
from instep.graph import Graph, Value, ops

__all__ = ["MADE_UP", "Scopes", "name_weights", "scopes_of"]

#: (number of the subgraph, of the operator in it) → its scope, dotted.
Scopes = dict[tuple[int, int], str]
#: What TensorFlow calls functions and loops, which are no layers.
_CONTROL = re.compile(r"(while|cond|StatefulPartitionedCall|PartitionedCall|body|branch)(_\d+)?")
#: What the converter calls constants that nobody named, by its own operators.
MADE_UP = re.compile(r"(arith|std|tfl|tf)\.\w+")
#: What TensorFlow calls the operators that weights are for.
_PRODUCT = re.compile(r"(convolution|depthwise|conv\w*|matmul|tensordot|einsum|dot)[_\d]*", re.IGNORECASE)
_LAYERS = (ops.Conv2d, ops.Conv3d, ops.ConvTranspose2d, ops.Linear)
_Path = tuple[str, ...]


def scopes_of(file: TfliteFile) -> Scopes:
    """A layer's operators have its scope; where several of them have weights, each its own within it."""
    paths: dict[tuple[int, int], _Path] = {}
    weighted: set[tuple[int, int]] = set()
    for number, subgraph in enumerate(file.subgraphs):
        for operation in subgraph.operations:
            name, of_weight = _telling(subgraph, operation)
            if name:
                paths[number, operation.index] = _path(name)
                weighted |= {(number, operation.index)} if of_weight else set()
    paths = _plain(_without_prefix(paths), weighted)
    paths = _rounds(paths)
    layers = Counter(path[:-1] for place, path in paths.items() if place in weighted)
    return {place: _scope(path, place[0] > 0 or layers[path[:-1]] > 1) for place, path in paths.items()}


def _rounds(paths: dict[tuple[int, int], _Path]) -> dict[tuple[int, int], _Path]:
    """With the operators of a loop's round side by side in the layer that loops."""
    homes: dict[int, _Path] = {}
    for (number, _), path in paths.items():
        if number and len(path) > 1:
            known = homes.get(number, path[:-1])
            same = next((i for i, pair in enumerate(zip(known, path[:-1], strict=False)) if len({*pair}) > 1), None)
            homes[number] = known[: min(len(known), len(path) - 1) if same is None else same]
    return {
        (number, place): (*homes[number], path[-1]) if number in homes and len(path) > 1 else path
        for (number, place), path in paths.items()
    }


def _scope(path: _Path, own: bool) -> str:
    if len(path) == 1:
        return path[0]
    return ".".join((*path[:-1], path[-1].lower()) if own else path[:-1])


def _telling(subgraph: Subgraph, operation: Operation) -> tuple[str, bool]:
    """The name that says where the operator stands, of those that were fused into it, and whether it has weights."""
    inputs = [subgraph.tensors[i] for i in operation.inputs if i >= 0]
    weights = [t for t in inputs if t.span[1] and len(t.shape) > 1 and t.dtype not in ("int32", "int64", "bool")]
    made = next((subgraph.tensors[i].name for i in operation.outputs if i >= 0), "")
    if not weights:
        return made.split(";")[0], False
    names = [n for name in (max(weights, key=lambda t: t.size).name, made) for n in name.split(";") if n]
    paths = [n for n in names if "/" in n]
    own = (n for n in paths if _PRODUCT.fullmatch(n.rpartition("/")[2]))
    return next(own, (paths or [made])[0]), True


def _path(name: str) -> _Path:
    parts = [p for p in name.split("/") if p]
    kept = [p for p in parts[:-1] if not _CONTROL.fullmatch(p)] + parts[-1:]
    return tuple(_word(p) for p in kept) or (name,)


def _word(part: str) -> str:
    """``part`` without what stands before a dot: a class's modules; a dot in a number stays a line."""
    last = part.rpartition(".")[2]
    return last if last[:1].isalpha() else part.replace(".", "_")


def _without_prefix(paths: dict[tuple[int, int], _Path]) -> dict[tuple[int, int], _Path]:
    """Less what all paths start with: the network's own name. A name that is no path says nothing of it."""
    while True:
        deep = [p for p in paths.values() if len(p) > 2]
        if not deep or len({p[0] for p in paths.values() if len(p) > 1}) > 1:
            return paths
        paths = {place: p[1:] if len(p) > 1 else p for place, p in paths.items()}


def _plain(paths: dict[tuple[int, int], _Path], weighted: set[tuple[int, int]]) -> dict[tuple[int, int], _Path]:
    """Without the "_1" that Keras gives every layer of a network that is called."""
    telling = [p[:-1] for place, p in paths.items() if place in weighted]
    depth = max(map(len, telling), default=0)
    called = [all(_called(p[d]) for p in telling if len(p) > d) for d in range(depth)]

    def plain(path: _Path) -> _Path:
        return (*(p[:-2] if d < depth and called[d] and _called(p) else p for d, p in enumerate(path[:-1])), path[-1])

    return {place: plain(path) for place, path in paths.items()}


def _called(part: str) -> bool:
    return part.endswith("_1") and len(part) > 2


def name_weights(graph: Graph, names: set[str]) -> None:
    """Call a layer's arrays as frameworks do, ``conv1.weight`` and ``conv1.bias``, where its scope has one of each."""
    found: dict[str, list[Value]] = {}
    places: dict[Value, set[str]] = {}
    for node in graph.nodes:
        roles = ("weight", "bias") if isinstance(node.op, _LAYERS) else ()
        for slot, value in enumerate(node.inputs):
            if value not in graph.weights:
                continue
            name = f"{node.scope}.{roles[slot - 1]}" if 0 < slot <= len(roles) else ""
            places.setdefault(value, set()).add(name)
            if name and value not in found.setdefault(name, []):
                found[name].append(value)
    for name, values in found.items():
        if len(values) == 1 and places[values[0]] == {name} and name not in names and "/" not in name:
            names.add(name)
            values[0].name = name
