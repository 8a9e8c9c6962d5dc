"""JAX as two dialects: Flax NNX modules, and pure functions of a dictionary of parameters."""

from __future__ import annotations

import ast
import math
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from instep.emit.code.call import NoCode, Rule
from instep.emit.jax import elementwise, linear, reduce, shape, spatial  # noqa: F401  (they fill the table)
from instep.emit.jax.functions import function_table
from instep.emit.jax.table import TABLE, Name
from instep.graph.operator import Operator

__all__ = ["FUNCTION", "NNX", "Jax"]


@dataclass(frozen=True)
class Jax:
    """One of the two; see instep.emit.code.call.Dialect."""

    style: str
    table: dict[type[Operator], Rule]
    name: str = "jax"
    layout: str = "NHWC"

    @property
    def prelude(self) -> dict[str, str]:
        return _prelude(("arrays", "modules" if self.style == "nnx" else "functions"))

    def literal(self, value: Any) -> str:
        """Plain data as Python: anything else is refused, so that no name or text of a file becomes code."""
        if isinstance(value, Name):
            return str(value)
        if isinstance(value, list | tuple):
            items = [self.literal(v) for v in value]
            if isinstance(value, list):
                return f"[{', '.join(items)}]"
            return f"({items[0]},)" if len(items) == 1 else f"({', '.join(items)})"
        if isinstance(value, float) and not math.isfinite(value):
            return "jnp.nan" if math.isnan(value) else "jnp.inf" if value > 0 else "-jnp.inf"
        if value is None or type(value) in (bool, int, float, str):
            return repr(value)
        raise NoCode(f"{value!r} is no plain data")


@cache
def _prelude(files: tuple[str, ...]) -> dict[str, str]:
    """Functions and classes of the files, by name, in order."""
    found: dict[str, str] = {}
    for file in files:
        text = resources.files("instep.emit.jax.prelude").joinpath(f"{file}.py").read_text("utf-8")
        for item in ast.parse(text).body:
            if isinstance(item, ast.FunctionDef | ast.ClassDef):
                found[item.name] = ast.get_source_segment(text, item) or ""
    return found


NNX = Jax("nnx", TABLE)
FUNCTION = Jax("function", function_table())
