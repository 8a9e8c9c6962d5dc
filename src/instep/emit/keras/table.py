"""The table operator class → rule of Keras code; each file of this folder fills it for one family of operators."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from weakref import WeakKeyDictionary

from instep.emit.code.call import Call, NoCode, Rule, Weight
from instep.emit.code.claims import claim
from instep.emit.code.statements import number
from instep.graph.core import Graph, Node, Value
from instep.graph.operator import Operator

__all__ = [
    "DEFAULTS", "TABLE", "activated", "claims", "expression", "layer", "needs_last", "numbered", "short", "writes",
]  # fmt: skip

#: Operator class → the rule that writes it.
TABLE: dict[type[Operator], Rule] = {}

_FUSED = {"": "{}", "relu": "ops.relu({})", "relu6": "ops.relu6({})", "relu1": "ops.clip({}, -1, 1)"}
#: What Keras' layers assume where nothing is said.
DEFAULTS: dict[str, Any] = {
    "strides": 1, "padding": "valid", "dilation_rate": 1, "groups": 1, "depth_multiplier": 1, "use_bias": True,
    "activation": None, "axis": -1, "noise_shape": None, "scale": True, "center": True,
}  # fmt: skip


def writes(*kinds: type[Operator]) -> Callable[[Rule], Rule]:
    """Decorator: the rule writes nodes of these operator classes."""

    def register(rule: Rule) -> Rule:
        for kind in kinds:
            TABLE[kind] = rule
        return rule

    return register


def expression(node: Node, code: str, *helpers: str, **fields: Any) -> Call:
    """A call that is an expression of all inputs of ``node``."""
    return Call(list(node.inputs), list(node.outputs), code, fields, helpers=helpers)


def layer(
    node: Node, name: str, inputs: Sequence[Value], fields: dict, weights: dict, *, positional: int = 1,
    code: str = "{layer}({0})", helpers: Sequence[str] = (),
) -> Call:  # fmt: skip
    """A call of a layer."""
    return Call(
        list(inputs), list(node.outputs), code, fields, name, positional, weights, tuple(helpers), dict(DEFAULTS)
    )


def activated(code: str, activation: str) -> str:
    """``code`` with the fused ``activation`` around it."""
    return _FUSED[activation].replace("{}", code)


def claims(node: Node, graph: Graph, wanted: dict[str, tuple[Any, ...]]) -> dict[str, Weight] | None:
    """The arrays of a layer for ``node``: by their names values, each with a permutation and a shape where it has one.

    None where one of them is computed, or where something else reads it too: Keras' layers share no arrays.
    """
    found = {}
    for name, (value, *form) in wanted.items():
        weight = claim(graph, value, *form)
        if weight is None or not _owned(node, graph, value):
            return None
        found[name] = weight
    return found


#: The readers of a graph's values, for as long as nothing is added to it.
_READERS: WeakKeyDictionary[Graph, tuple[int, dict[Value, list[Node]]]] = WeakKeyDictionary()


def _owned(node: Node, graph: Graph, value: Value) -> bool:
    """Whether all that reads ``value`` is this node, or does the same with it: the layer is called once more then."""
    size, readers = _READERS.get(graph, (-1, {}))
    if size != len(graph.nodes):
        readers = graph.users()
        _READERS[graph] = len(graph.nodes), readers
    if value in graph.outputs:
        return False
    for other in readers[value]:
        same = other.op == node.op and other.inputs[1:] == node.inputs[1:]
        if not same or not _fits(other.inputs[0], node.inputs[0], getattr(node.op, "stride", ())):
            return False
    if value in graph.weights:
        return True
    made = next(n for n in graph.nodes if value in n.outputs)
    return len(readers[made.inputs[0]]) == 1 and _owned(made, graph, made.inputs[0])


def _fits(x: Value, other: Value, stride: Sequence[int]) -> bool:
    """Whether one layer takes both; what "same" adds depends on the size where there are strides."""
    if x.shape == other.shape:
        return True
    return x.rank == other.rank and x.shape[-1] == other.shape[-1] and all(s == 1 for s in stride)


def short(sizes: Sequence[int]) -> Any:
    """One number where all of ``sizes`` are that number."""
    return sizes[0] if len(set(sizes)) == 1 else tuple(sizes)


def numbered(node: Node, graph: Graph) -> tuple[list[Value], list[str], dict[str, Any]]:
    """The inputs that are no plain numbers, a word for each input, and the plain numbers as fields."""
    values: list[Value] = []
    words: list[str] = []
    fields: dict[str, Any] = {}
    for i, value in enumerate(node.inputs):
        others = [v for v in node.inputs if v is not value]
        # a number beside a number would leave the result without a shape, and numbers have no dtype of their own
        plain = number(graph, value, max(others, key=lambda v: v.rank)) if others and not fields else None
        if plain is None or node.output.dtype == "float16":
            words.append(f"{{{len(values)}}}")
            values.append(value)
            continue
        fields[f"number{i}"] = plain
        words.append(f"{{number{i}}}")
    return values, words, fields


def needs_last(node: Node) -> None:
    """NoCode where a spatial operator reads its channels first."""
    if node.op.layout != "NHWC":
        raise NoCode("Keras code has channels last; bring the graph there first (rewrite.pipelines.to_channels_last)")
