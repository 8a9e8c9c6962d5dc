"""The table operator class → rule of Flax NNX code; each file of this folder fills it for one family of operators."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from instep.emit.code.call import Call, Expression, NoCode, Rule, Weight
from instep.emit.code.claims import claim
from instep.graph.core import Graph, Node, Value
from instep.graph.operator import Operator

__all__ = ["RNGS", "TABLE", "activated", "expression", "last", "needs_last", "own", "writes"]


#: Operator class → the rule that writes it.
TABLE: dict[type[Operator], Rule] = {}


#: The field of layers that draw their first weights: written as the variable of that name.
RNGS = Expression("rngs")

_FUSED = {"": "{}", "relu": "jax.nn.relu({})", "relu6": "jax.nn.relu6({})", "relu1": "jnp.clip({}, -1, 1)"}


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


def activated(code: str, activation: str) -> str:
    """``code`` with the fused ``activation`` around it."""
    return _FUSED[activation].replace("{}", code)


def own(graph: Graph, **values: Value | None) -> dict[str, Weight]:
    """Constants as a layer's own arrays, under its names for them, without the None; empty where one is computed."""
    given = {name: value for name, value in values.items() if value is not None}
    found = {name: weight for name, value in given.items() if (weight := claim(graph, value))}
    return found if len(found) == len(given) else {}


def last(axes: tuple[int, ...], value: Value) -> bool:
    """Is it the last axis of ``value`` that ``axes`` names, and no other?"""
    return tuple(axes) == (value.rank - 1,)


def needs_last(node: Node) -> None:
    """NoCode where a spatial operator reads its channels first."""
    if node.op.layout != "NHWC":
        raise NoCode("JAX code has channels last; bring the graph there first (rewrite.pipelines.to_channels_last)")
