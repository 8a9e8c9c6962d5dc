"""A graph as one straight function: every call in order, layers and constants in dictionaries. For tables on trial.

program = flat(graph, dialect)
made = program.execute("from torch import nn")
layers = made["layers"]()                       # {"stem_conv": nn.Conv2d(...), ...}
...                                             # put program.weights["stem_conv"]["weight"] into each
results = made["forward"](layers, constants, *inputs)   # a tuple; constants: program.constants as tensors
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from instep.emit.code.call import Dialect
from instep.emit.code.statements import constructor, expression, identifier, statements, unique
from instep.graph.core import Graph, Value

__all__ = ["Flat", "flat"]


@dataclass
class Flat:
    """The functions ``layers()`` and ``forward(layers, constants, *inputs)`` as source code, and what they need."""

    source: str
    #: for each layer its arrays as the framework has them, by the layer's own names
    weights: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)
    #: constants that no layer claims, as the graph has them
    constants: dict[str, np.ndarray] = field(default_factory=dict)
    #: the functions of the prelude that the code uses
    helpers: str = ""

    def execute(self, imports: str) -> dict[str, Any]:
        """The namespace after ``imports``, the helpers and the two functions have run."""
        space: dict[str, Any] = {}
        exec(compile(f"{imports}\n{self.helpers}\n{self.source}", "<flat program>", "exec"), space)
        return space


def helper_source(names: set[str], dialect: Dialect) -> str:
    """The functions ``names`` of the prelude and those that they use themselves, in the prelude's order."""
    wanted = set(names)
    todo = list(names)
    while todo:
        text = dialect.prelude[todo.pop()]
        more = [n for n in dialect.prelude if n not in wanted and re.search(rf"(?<![\w.]){n}\(", text)]
        wanted.update(more)
        todo += more
    return "\n\n\n".join(text.strip() for name, text in dialect.prelude.items() if name in wanted)


def flat(graph: Graph, dialect: Dialect) -> Flat:
    """``graph`` as a straight program. NoCode where the dialect's table lacks an operator."""
    program = Flat("")
    used = {"layers", "constants", *dialect.prelude}
    names = {v: unique(identifier(n), used) for v, n in zip(graph.inputs, graph.input_names, strict=True)}
    arguments = ", ".join(["layers", "constants", *names.values()])
    makers: list[str] = []
    lines: list[str] = []
    helpers: set[str] = set()
    made: set[str] = set()

    def read(value: Value) -> str:
        if value not in names and value in graph.weights:
            key = unique(value.name, made)
            program.constants[key] = graph.weights[value]
            names[value] = f"constants[{key!r}]"
        return names[value]

    for statement in statements(graph, dialect):
        call = statement.call
        helpers.update(call.helpers)
        literals = {k: dialect.literal(v) for k, v in call.fields.items()}
        layer = ""
        if call.layer:
            name = unique(identifier(statement.node.scope or statement.node.output.name), made)
            makers.append(f"        {name!r}: {constructor(call, literals)},")
            program.weights[name] = {k: w.of(graph.weights) for k, w in call.weights.items()}
            layer = f"layers[{name!r}]"
        text = expression(call, [read(v) for v in call.inputs], layer, literals)
        for value in call.outputs:
            names[value] = unique(identifier(value.name), used)
        lines.append(f"    {', '.join(names[v] for v in call.outputs)} = {text}")
    results = "".join(f"{read(v)}, " for v in graph.outputs)
    lines.append(f"    return ({results})")
    head = ["def layers():", "    return {", *makers, "    }", "", "", f"def forward({arguments}):"]
    program.source = "\n".join([*head, *lines]) + "\n"
    program.helpers = helper_source(helpers, dialect)
    return program
