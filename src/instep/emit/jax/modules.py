"""The style of Flax NNX: one class for each block, Flax' layers under the network's names."""

from __future__ import annotations

import numpy as np

from instep.emit.code.call import Call, Dialect
from instep.emit.code.paths import Path
from instep.emit.code.program import Class, Constant, Member
from instep.emit.code.state import written
from instep.emit.code.writing import Style, Tree

__all__ = ["ModuleStyle", "filled", "frozen"]


class ModuleStyle(Style):
    """nnx.Module as people write it."""

    base = "nnx.Module"
    forward = "__call__"
    constructed = "*, rngs: nnx.Rngs"
    handed = "rngs=rngs"
    opening = ()
    container = "nnx.Module()"

    def __init__(self, dialect: Dialect, ties: dict[Path, Path], main: Class) -> None:
        super().__init__(dialect)
        self.ties, self.main = ties, main
        self.writing: Class | None = None
        self.said: dict[Path, str] = {}

    def layer(self, call: Call, literals: dict[str, str]) -> str:
        """In a row, what is no layer is a function."""
        if call.layer:
            text = super().layer(call, literals)
            return f"frozen({', '.join([text, *frozen(call)])})" if call.untrained else text
        given = [f"{name}={text}" for name, text in literals.items()]
        return f"partial({', '.join([call.module, *given])})" if given else call.module

    def row(self, elements: list[str]) -> str:
        return f"nnx.Sequential({', '.join(elements)})"

    def list_of(self, elements: list[str], constants: bool) -> str:
        return f"nnx.List([{', '.join(elements)}])"

    def gap(self) -> str:
        return "nnx.identity"

    def constant(self, constant: Constant, member: Member) -> str:
        kind = "nnx.Param" if constant.trained else "Buffer"
        return f"{kind}({filled(self.dialect, constant, member)})"

    def member(self, tree: Tree, path: Path) -> str:
        """Arrays are read from the variables that hold them."""
        if path in self.said:
            return self.said[path]
        place: Tree | None = tree
        for part in path:
            place = place.inner.get(part) if place is not None else None
        held = place is None or (place.member is not None and place.member.constant is not None)
        return super().member(tree, path) + ("[...]" if held else "")

    def makers(self, tree: Tree, owner: str = "self") -> list[str]:
        """Layers that share an array share the variable."""
        lines = super().makers(tree, owner)
        if owner == "self" and self.writing is self.main:
            for second, first in self.ties.items():
                lines.append(f"{self._variable(tree, second)} = {self._variable(tree, first)}")
        return lines

    def _variable(self, tree: Tree, path: Path) -> str:
        return self.member(tree, path).removesuffix("[...]")

    def class_text(self, made: Class, doc: str, inputs: list[str], used: set[str]) -> str:
        self.writing = made
        # small arrays of numbers are said where they are read
        said = [m for m in made.members if m.constant is not None and "value" in m.fields]
        self.said = {m.path: filled(self.dialect, m.constant, m) for m in said if m.constant is not None}
        made.members = [m for m in made.members if m not in said]
        return super().class_text(made, doc, inputs, used)


def frozen(call: Call) -> list[str]:
    """The names of a layer's arrays that are not trained, as code; none where that is all of them."""
    return [f'"{name}"' for name in call.untrained] if len(call.untrained) < len(call.weights) else []


def filled(dialect: Dialect, constant: Constant, member: Member) -> str:
    """The array that a constant begins with."""
    # whole numbers and truth values in the types that JAX has without being asked
    dtype = {"int64": "int", "int32": "int", "bool": "bool", "float32": "", "float64": ""}.get(constant.dtype)
    kind = "" if dtype == "" else f", {dtype}" if dtype else f", jnp.{constant.dtype}"
    if "value" in member.fields:
        return f"jnp.array({written(dialect, member.fields['value'])}{kind})"
    shape, fill = written(dialect, member.fields["shape"]), constant.fill
    if fill is not None and fill not in (0.0, 1.0) and np.isfinite(fill):
        return f"jnp.full({shape}, {dialect.literal(float(str(np.float32(fill))))}{kind})"
    return f"jnp.{'ones' if fill == 1.0 else 'zeros'}({shape}{kind})"
