"""Keras 3 as a dialect: its table, helper functions and literals."""

from __future__ import annotations

import ast
import math
from functools import cache
from importlib import resources
from typing import Any

from instep.emit.code.call import NoCode, Rule
from instep.emit.keras import elementwise, linear, pools, reduce, shape, spatial  # noqa: F401  (they fill the table)
from instep.emit.keras.table import TABLE
from instep.graph.operator import Operator

__all__ = ["IMPORTS", "KERAS", "Keras"]

#: What the code of the table and of the prelude stands on.
IMPORTS = "import keras\nimport numpy as np\nfrom keras import layers, ops\n"


class Keras:
    """How Keras code is written; see instep.emit.code.call.Dialect."""

    name = "keras"
    layout = "NHWC"
    table: dict[type[Operator], Rule] = TABLE

    @property
    def prelude(self) -> dict[str, str]:
        return _prelude()

    def literal(self, value: Any) -> str:
        """Plain data as Python: anything else is refused, so that no name or text of a file becomes code."""
        if isinstance(value, list | tuple):
            items = [self.literal(v) for v in value]
            if isinstance(value, list):
                return f"[{', '.join(items)}]"
            return f"({items[0]},)" if len(items) == 1 else f"({', '.join(items)})"
        if isinstance(value, float) and not math.isfinite(value):
            return f'float("{value}")'
        if value is None or type(value) in (bool, int, float):
            return repr(value)
        if type(value) is str and value.isprintable():
            return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
        raise NoCode(f"{value!r} is no plain data")


@cache
def _prelude() -> dict[str, str]:
    """Functions and classes of the prelude's files, by name, in order."""
    found: dict[str, str] = {}
    for file in ("functions", "layers"):
        text = resources.files("instep.emit.keras.prelude").joinpath(f"{file}.py").read_text("utf-8")
        lines = text.splitlines()
        for item in ast.parse(text).body:
            if isinstance(item, ast.FunctionDef | ast.ClassDef):
                first = min([item.lineno, *(d.lineno for d in item.decorator_list)])
                found[item.name] = "\n".join(lines[first - 1 : item.end_lineno])
    return found


KERAS = Keras()
