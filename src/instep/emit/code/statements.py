"""A graph as the calls that a dialect's table makes of it, each with the node it came from, and what they write."""

from __future__ import annotations

import keyword
import re
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from instep.emit.code.call import Call, Dialect, NoCode
from instep.emit.code.idioms import idiomatic
from instep.graph import ops
from instep.graph.core import Graph, Node, Value
from instep.graph.text.roles import roles

__all__ = ["Statement", "constructor", "expression", "identifier", "number", "plain", "statements", "unique"]

#: Constants of no more numbers are said in the code where their names are not a parameter's.
PLAIN_SIZE = 8


@dataclass
class Statement:
    """One call and the node that it is for."""

    call: Call
    node: Node


def statements(graph: Graph, dialect: Dialect) -> list[Statement]:
    """The calls of all nodes of ``graph``, in order. NoCode where the dialect has none for an operator."""
    found: list[Statement] = []
    buffers = frozenset(graph.meta.get("buffers", ()))
    for node in idiomatic(graph, dialect.table, getattr(dialect, "recurrent", None)):
        _check(node)
        rule = dialect.table.get(type(node.op))
        if rule is None:
            raise NoCode(f"{node.describe()} has no form in {dialect.name}")
        try:
            calls = rule(node, graph)
        except NoCode as why:
            raise NoCode(f"{node.describe()} has no form in {dialect.name}: {why}") from why
        for call in [calls] if isinstance(calls, Call) else calls:
            call.untrained = (*call.untrained, *_untrained(call, node, buffers))
            found.append(Statement(call, node))
    words = roles([_Step(graph, s.node) for s in found])
    for call in (s.call for s in found):
        call.roles = call.roles or tuple(words.get(v, "") for v in call.inputs)
    return found


class _Step:
    """A node as a step of a body, for the roles of its values in an attention."""

    suffix = ""

    def __init__(self, graph: Graph, node: Node) -> None:
        self.reads, self.gives, self.kind = node.inputs, node.outputs, node.op.name
        factor = graph.array(node.inputs[1]) if isinstance(node.op, ops.Mul) else None
        if factor is not None and factor.size == 1:
            self.kind = "scale"


def _untrained(call: Call, node: Node, buffers: Container[str]) -> tuple[str, ...]:
    """The arrays of a layer that the source does not train, but for what a batch norm learns without a gradient."""
    statistics = node.inputs[3:] if isinstance(node.op, ops.BatchNorm) else []
    found = (k for k, w in call.weights.items() if w.value.name in buffers and w.value not in statistics)
    return tuple(k for k in found if k not in call.untrained)


#: The element types that values have.
_DTYPES = frozenset({
    "float16", "float32", "float64", "bfloat16", "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32",
    "uint64", "complex64", "complex128",
})  # fmt: skip


def _check(node: Node) -> None:
    """Refuse fields and types that are no plain data: what rules write of them has to be what they are."""
    for name, value in node.op.fields().items():
        if not _is_plain(value):
            raise NoCode(f"{node.describe()} has no form in code: its {name} is {str(value)[:60]!r}")
    for value in (*node.inputs, *node.outputs):
        if value.dtype not in _DTYPES:
            raise NoCode(f"{node.describe()} has no form in code: a value's type is {str(value.dtype)[:60]!r}")


def _is_plain(value: object) -> bool:
    if isinstance(value, tuple | list):
        return all(map(_is_plain, value))
    if isinstance(value, str):
        return bool(re.fullmatch(r"[A-Za-z0-9_.-]*", value))
    return value is None or isinstance(value, bool | int | float | np.bool_ | np.integer | np.floating)


def number(graph: Graph, value: Value, beside: Value) -> float | int | bool | None:
    """``value`` as a plain number: a single one that is no parameter, and that leaves ``beside`` its shape; or None.

    Rules make a field of it, so that the code says ``x * 0.5``.
    """
    array = graph.array(value)
    if array is None or array.size != 1 or array.ndim > beside.rank or "/" not in value.name:
        return None
    if value.dtype == "float32":
        return float(str(array.ravel()[0]))  # the shortest number that is this one in float32
    return array.ravel()[0].item() if value.dtype in ("int32", "int64", "bool") else None


class _Written(str):
    """A literal; ``{name:args}`` writes it as arguments, ``{name:start}`` and ``{name:stop}`` as those of a slice."""

    __slots__ = ()

    def __format__(self, spec: str) -> str:
        if spec in ("start", "stop"):
            return "" if self == {"start": "0", "stop": "None"}[spec] else str(self)
        if spec != "args":
            return str(self)
        if self.isidentifier():
            return f"*{self}"
        return self[1:-1].removesuffix(",") if self[:1] in "([" else str(self)


def expression(call: Call, inputs: Sequence[str], layer: str, literals: Mapping[str, str]) -> str:
    """``call`` as an expression, with its inputs, its layer and its fields as they are written."""
    written = {k: _Written(v) for k, v in literals.items()}

    def spaced(found: re.Match[str]) -> str:
        """Formatters put blanks around the colons of a slice that has more than names and numbers."""
        parts = [f"{{{part}}}".format(**written) for part in re.findall(r"{(.*?)}", found[0])]
        plain = all(re.fullmatch(r"-?\w*", p) for p in parts)
        return ":".join(parts) if plain else " : ".join(parts).strip().replace(":  :", "::")

    code = re.sub(r"{start\w*(:start)?}:{stop\w*(:stop)?}(:{step\w*})?", spaced, call.code)
    return code.format(*inputs, layer=layer, **written)


def constructor(call: Call, literals: Mapping[str, str]) -> str:
    """``nn.Conv2d(3, 8, kernel_size=3)``: the layer of ``call``, or its module, with its fields as they are written."""
    given = []
    for place, (name, text) in enumerate(literals.items()):
        if place < call.positional:
            given.append(text)
        elif name not in call.defaults or call.fields[name] != call.defaults[name]:
            given.append(f"{name}={text}")
    return call.around.replace("{}", f"{call.layer or call.module}({', '.join(given)})")


def identifier(text: str, reserved: Container[str] = ()) -> str:
    """``text`` as a Python identifier that is no keyword and none of ``reserved``."""
    word = re.sub(r"[^A-Za-z0-9_]", "_", text) or "_"
    if word[0].isdigit():
        word = f"_{word}"
    if word.startswith("__"):
        word = f"v{word.strip('_')}"
    return f"{word}_" if keyword.iskeyword(word) or keyword.issoftkeyword(word) or word in reserved else word


def unique(word: str, used: set[str]) -> str:
    """``word``, with a number behind it where ``used`` has it already; entered there."""
    name, count = word, 1
    while name in used:
        count += 1
        name = f"{word}_{count}"
    used.add(name)
    return name


def plain(value: Value, array: np.ndarray) -> bool:
    """Whether a constant is said in numbers: it is small and has no parameter's name."""
    return array.size <= PLAIN_SIZE and "/" in value.name and value.dtype not in ("float16", "float64")
