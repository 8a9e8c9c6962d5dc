"""The table operator class → rule of Keras code; each file of this folder fills it for one family of operators."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from instep.emit.code.call import Call, NoCode, Rule
from instep.emit.code.statements import number
from instep.graph.core import Graph, Node, Value
from instep.graph.operator import Operator

__all__ = [
    "DEFAULTS", "TABLE", "activated", "constant", "expression", "layer", "needs_last", "numbered", "short", "writes",
]  # fmt: skip

#: Operator class → the rule that writes it.
TABLE: dict[type[Operator], Rule] = {}

_FUSED = {"": "{}", "relu": "ops.relu({})", "relu6": "ops.relu6({})", "relu1": "ops.clip({}, -1, 1)"}
#: What Keras' layers assume where nothing is said.
DEFAULTS: dict[str, Any] = {
    "strides": 1, "padding": "valid", "dilation_rate": 1, "groups": 1, "depth_multiplier": 1, "use_bias": True,
    "activation": None, "axis": -1, "noise_shape": None,
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


def constant(graph: Graph, *values: Value) -> bool:
    """Are all of them arrays of numbers that a layer can own?"""
    return all(v in graph.weights and v.dtype.startswith("float") for v in values)


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
