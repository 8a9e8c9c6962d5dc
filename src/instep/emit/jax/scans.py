"""Loops over time as JAX has them: jax.lax.scan, which compiles one step."""

from __future__ import annotations

import re

from instep.emit.code.call import Call
from instep.emit.code.scans import Scan

__all__ = ["JaxScans"]

#: Layers that change while they are called: running statistics, random numbers.
_CHANGING = frozenset({"BatchNorm", "nnx.Dropout"})


class JaxScans:
    """See instep.emit.code.scans.Scans."""

    def allows(self, call: Call) -> bool:
        return call.layer not in _CHANGING and ", train" not in call.code

    def rows(self, text: str, axis: int) -> str:
        return _moved(text, axis, 0)

    def joined(self, text: str, name: str) -> str:
        """A stack is the array with its first axis somewhere else."""
        stack = rf"jnp\.stack\(({name}(?:\[::-1\])?), axis=(\d+)\)"
        return re.sub(stack, lambda found: _moved(found[1], 0, int(found[2])), text)

    def scan(self, step: str, start: str, rows: str, found: Scan) -> str:
        function = "scan" if found.given else "jax.lax.scan"
        return f"{function}({step}, {start}, {rows}{', reverse=True' if found.backwards else ''})"


def _moved(text: str, source: int, to: int) -> str:
    if source == to:
        return text
    return f"jnp.swapaxes({text}, 0, 1)" if {source, to} == {0, 1} else f"jnp.moveaxis({text}, {source}, {to})"
