"""The table of PyTorch's forms, and what its rules are written with."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from instep.emit.code.call import Call, NoCode, Rule
from instep.graph.core import Graph, Node, Value
from instep.graph.operator import Operator

__all__ = ["TABLE", "activated", "claimed", "code", "literal", "move", "rule", "short", "symmetric"]

TABLE: dict[type[Operator], Rule] = {}

#: Fused activations around an expression.
_ACTIVATIONS = {"": "{}", "relu": "F.relu({})", "relu6": "F.relu6({})", "relu1": "F.hardtanh({})"}


def rule(*kinds: type[Operator]) -> Callable[[Rule], Rule]:
    """Enter a function (node, graph) → calls for these operators."""

    def enter(function: Rule) -> Rule:
        TABLE.update(dict.fromkeys(kinds, function))
        return function

    return enter


def code(node: Node, template: str, /, **fields: Any) -> Call:
    """``node`` as an expression of its inputs and ``fields``."""
    return Call(list(node.inputs), list(node.outputs), template, fields)


def activated(template: str, activation: str) -> str:
    """``template`` in its fused activation."""
    return _ACTIVATIONS[activation].replace("{}", template)


#: What frameworks call the arrays of a layer, by PyTorch's name of each.
_CALLED = {
    "weight": {"weight", "kernel", "depthwise_kernel", "gamma", "scale", "alpha", "embeddings", "embedding"},
    "bias": {"bias", "beta"},
    "running_mean": {"running_mean", "moving_mean", "mean"},
    "running_var": {"running_var", "moving_variance", "var", "variance"},
}


def claimed(graph: Graph, node: Node, values: Sequence[Value], names: Sequence[str] = ("weight", "bias")) -> bool:
    """Whether all of ``values`` are constants that a layer can have as its parameters.

    Not where the module around ``node`` has them under names that are none of a layer's: the code keeps such names.
    """
    if not all(v in graph.weights and v.dtype == "float32" for v in values):
        return False
    return not any(_own(v.name, node.scope, _CALLED[n]) for v, n in zip(values, names, strict=False))


def _own(name: str, scope: str, usual: set[str]) -> bool:
    """Whether ``name`` is a module's own name of a parameter, of a module at ``scope``, around it or within it."""
    place, _, last = name.rpartition(".")
    if "/" in name or last in usual:
        return False
    return place == scope or place.startswith(f"{scope}.") or bool(place and scope.startswith(f"{place}."))


def move(template: str, axis: int, rank: int) -> str:
    """``template``, which reads {0} with its channels on axis 1, for one that has them on ``axis``."""
    if axis == 1:
        return template
    if axis == rank - 1 == 3:
        inner, back = "{0}.permute(0, 3, 1, 2)", ".permute(0, 2, 3, 1)"
    elif axis == rank - 1 == 4:
        inner, back = "{0}.permute(0, 4, 1, 2, 3)", ".permute(0, 2, 3, 4, 1)"
    else:
        inner, back = f"{{0}}.movedim({axis}, 1)", f".movedim(1, {axis})"
    return template.replace("{0}", inner) + back


def symmetric(pads: Sequence[tuple[int, int]]) -> bool:
    """Whether both sides of every axis are padded alike."""
    return all(a == b for a, b in pads)


def literal(value: Any) -> str:
    """Plain data as Python, strings in double quotes; numbers that Python has no literal for by ``math``."""
    if value is None or isinstance(value, bool | np.bool_):
        return str(value)
    if isinstance(value, int | np.integer):
        return str(int(value))
    if isinstance(value, float | np.floating):
        if math.isfinite(value):
            return re.sub(r"e([-+])0", r"e\1", repr(float(value)))
        return "math.nan" if math.isnan(value) else "math.inf" if value > 0 else "-math.inf"
    if isinstance(value, str):
        return f'"{"".join(map(_character, value))}"'
    if isinstance(value, tuple):
        return f"({', '.join(map(literal, value))}{',' * (len(value) == 1)})"
    if isinstance(value, list):
        return f"[{', '.join(map(literal, value))}]"
    raise NoCode(f"{type(value).__name__} is no plain data")


def _character(c: str) -> str:
    """A character within double quotes."""
    if c in '"\\':
        return f"\\{c}"
    if " " <= c <= "~":
        return c
    return f"\\U{ord(c):08x}"


def short(sizes: Sequence[Any]) -> Any:
    """One number where all of ``sizes`` are that number."""
    return sizes[0] if len(set(sizes)) == 1 else tuple(sizes)
