"""JAX as two dialects: Flax NNX modules, and pure functions of a dictionary of parameters."""

from __future__ import annotations

import math
from typing import Any

from instep.emit.code.call import Expression, NoCode, Rule
from instep.emit.code.helpers import definitions
from instep.emit.jax import elementwise, linear, reduce, shape, spatial  # noqa: F401  (they fill the table)
from instep.emit.jax.functions import function_table
from instep.emit.jax.scans import JaxScans
from instep.emit.jax.table import TABLE
from instep.graph.operator import Operator

__all__ = ["FUNCTION", "NNX", "Jax"]


_MODULE = frozenset({"eval", "train", "sow", "perturb", "set_attributes", "iter_children", "iter_modules", "rngs"})


class Jax:
    """One of the two; see instep.emit.code.call.Dialect."""

    def __init__(self, style: str, table: dict[type[Operator], Rule]) -> None:
        self.name = "jax"
        self.layout = "NHWC"
        self.eager = False
        self.scans = JaxScans()
        self.style = style
        #: Flax' layers hold nothing but their own arrays
        self.apart = True
        self.table = table
        own = "modules" if style == "nnx" else "functions"
        self.prelude = definitions(
            "instep.emit.code.prelude/resize.py",
            "instep.emit.jax.prelude/arrays.py",
            f"instep.emit.jax.prelude/{own}.py",
        )
        #: names that members cannot have: what every nnx.Module has already
        self.reserved = _MODULE if style == "nnx" else frozenset()

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
            return "jnp.nan" if math.isnan(value) else "jnp.inf" if value > 0 else "-jnp.inf"
        if isinstance(value, str):
            return _quoted(value)
        if value is None or type(value) in (bool, int, float):
            return repr(value)
        raise NoCode(f"{value!r} is no plain data")


def _quoted(text: str) -> str:
    """``text`` in double quotes and ASCII."""
    inner = ascii(text)
    return inner if inner[0] == '"' else '"' + inner[1:-1].replace("\\'", "'").replace('"', '\\"') + '"'


NNX = Jax("nnx", TABLE)
FUNCTION = Jax("function", function_table())
