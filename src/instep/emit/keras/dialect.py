"""Keras 3 as a dialect: its table, helper functions and literals."""

from __future__ import annotations

import math
from typing import Any

from instep.emit.code.call import Expression, NoCode, Rule
from instep.emit.code.helpers import definitions
from instep.emit.code.recurrences import Recurrent
from instep.emit.keras import elementwise, linear, pools, recurrent, reduce, shape, spatial  # noqa: F401  (they fill the table)
from instep.emit.keras.table import TABLE
from instep.graph.operator import Operator

__all__ = ["IMPORTS", "KERAS", "Keras"]

#: What the code of the table and of the prelude stands on.
IMPORTS = "import keras\nimport numpy as np\nfrom keras import layers, ops\n"

_PRELUDE = (
    "instep.emit.keras.prelude/functions.py",
    "instep.emit.code.prelude/resize.py",
    "instep.emit.keras.prelude/layers.py",
)


class Keras:
    """How Keras code is written; see instep.emit.code.call.Dialect."""

    name = "keras"
    layout = "NHWC"
    eager = True
    scans = None
    recurrent = Recurrent(recurrent.takes)
    table: dict[type[Operator], Rule] = TABLE

    @property
    def prelude(self) -> dict[str, str]:
        return definitions(*_PRELUDE)

    def literal(self, value: Any) -> str:
        """Plain data as Python: anything else is refused, so that no name or text of a file becomes code."""
        if isinstance(value, Expression):
            return str(value)
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


KERAS = Keras()
