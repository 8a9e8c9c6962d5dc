"""The table operator class → rule of Flax NNX code; each file of this folder fills it for one family of operators."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from instep.emit.code.call import Call, NoCode, Rule
from instep.graph.core import Graph, Node, Value
from instep.graph.operator import Operator

__all__ = ["RNGS", "TABLE", "activated", "constant", "expression", "last", "needs_last", "writes"]

#: Operator class → the rule that writes it.
TABLE: dict[type[Operator], Rule] = {}


class _Rngs:
    """The field of layers that draw their first weights: written as the variable ``rngs``."""


RNGS = _Rngs()

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


def constant(graph: Graph, *values: Value) -> bool:
    """Are all of them arrays of numbers that a layer can own?"""
    return all(v in graph.weights and v.dtype.startswith("float") for v in values)


def last(axes: tuple[int, ...], value: Value) -> bool:
    """Is it the last axis of ``value`` that ``axes`` names, and no other?"""
    return tuple(axes) == (value.rank - 1,)


def needs_last(node: Node) -> None:
    """NoCode where a spatial operator reads its channels first."""
    if node.op.layout != "NHWC":
        raise NoCode("JAX code has channels last; bring the graph there first (rewrite.pipelines.to_channels_last)")
