"""Slices and open shapes as JAX and Keras say them alike: an expression's text and the numbers in it as fields."""

from __future__ import annotations

import re
from typing import Any

from instep.emit.code.call import Call
from instep.emit.code.idioms import Select, Stack, Unbind
from instep.graph import Graph, Node

__all__ = ["first_part", "idiom", "listed", "open_shape", "picked", "place", "sliced"]


def idiom(node: Node, module: str) -> tuple[str, dict[str, Any]]:
    """The code of a node of ``idioms.py`` and its fields, where ``module`` has numpy's functions."""
    op = node.op
    if isinstance(op, Select):
        return picked(node)
    if isinstance(op, Unbind):
        return f"{module}.unstack({{0}}, axis={{axis}})", {"axis": op.axis}
    if isinstance(op, Stack):
        return f"{module}.stack({listed(node)}, axis={{axis}})", {"axis": op.axis}
    return f"{module}.split({{0}}, {{places}}, axis={{axis}})", {"places": _places(op.sizes), "axis": op.axis}


def picked(node: Node) -> tuple[str, dict[str, Any]]:
    """``{0}[:, {index}]`` and its field."""
    return f"{{0}}[{':, ' * node.op.axis}{{index}}]", {"index": node.op.index}


def _places(sizes: tuple[int, ...]) -> int | list[int]:
    """How a value is cut as numpy has it: into so many equal parts, or at these places."""
    return len(sizes) if len(set(sizes)) == 1 else [sum(sizes[: n + 1]) for n in range(len(sizes) - 1)]


def listed(node: Node) -> str:
    """All inputs in a list."""
    return f"[{', '.join(f'{{{n}}}' for n in range(len(node.inputs)))}]"


def open_shape(node: Node, graph: Graph) -> tuple[int, ...]:
    """The shape of a reshape with its first axis left open, so that most code takes any batch."""
    x, shape = node.inputs[0], tuple(node.op.shape)
    open_first = x.rank and shape and x.size and x not in graph.weights
    return (-1, *shape[1:]) if open_first else shape


def sliced(node: Node, *, alone: bool = True) -> tuple[str, dict[str, int]]:
    """``{0}[:, {start1}:{stop1}]`` and its fields: which axes are cut is code, where is fields.

    ``alone``: whether a slice of the first axis may stand there without an ellipsis.
    """
    op, x = node.op, node.inputs[0]
    parts, fields = [], {}
    for axis, (start, stop, step, size) in enumerate(zip(op.starts, op.stops, op.steps, x.shape, strict=True)):
        if (start, stop, step) == (0, size, 1):
            parts.append(":")
            continue
        fields |= {f"start{axis}": start, f"stop{axis}": stop}
        parts.append(f"{{start{axis}}}:{{stop{axis}}}")
        if step != 1:
            fields[f"step{axis}"] = step
            parts[-1] += f":{{step{axis}}}"
    while parts and parts[-1] == ":":
        parts.pop()
    if len(parts) == 1 and not alone:
        parts.append("...")
    elif len(parts) > 2 and set(parts[:-1]) == {":"} and len(parts) == x.rank:
        parts = ["...", parts[-1]]
    return f"{{0}}[{', '.join(parts)}]" if parts else "{0}", fields


def place(call: Call) -> tuple[int, bool] | None:
    """The axis that ``call`` takes a place of, and whether the axis stays, where it is of ``picked`` or ``sliced``."""
    if re.fullmatch(r"\{0\}\[(:, )*\{index\}\]", call.code):
        return call.code.count(":, "), False
    cut = re.fullmatch(r"\{0\}\[((:, )*|\.\.\., )\{start(\d)\}:\{stop\3\}(, \.\.\.)?\]", call.code)
    return (int(cut[3]), True) if cut else None


def first_part(node: Node) -> str:
    """The part of the first input that indices along an axis reach: frameworks take no more places than indices."""
    x, indices = node.inputs
    sizes = enumerate(zip(indices.shape, x.shape, strict=True))
    cut = [":" if a == node.op.axis or n == m else f":{n}" for a, (n, m) in sizes]
    return f"{{0}}[{', '.join(cut)}]" if set(cut) != {":"} else "{0}"
