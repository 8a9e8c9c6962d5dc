"""The table operator class → decomposition, and the small builder that decompositions are written with."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from instep.graph import Node, Operator, Value, ops
from instep.rewrite.edit import Editor
from instep.rewrite.forms import FORMS

__all__ = ["DECOMPOSITIONS", "Build", "Decomposition", "decomposes"]


class Build:
    """Writes what stands for ``node``: ``add`` for each step, ``done`` for the last, which keeps the node's output.

    ``avoid`` names the forms (``FORMS``) that may not be used.
    """

    def __init__(self, edit: Editor, node: Node, avoid: frozenset[str] = frozenset()) -> None:
        self.edit = edit
        self.node = node
        self.avoid = avoid

    def may(self, form: str) -> bool:
        """Whether the form of this name may be used. KeyError when there is none."""
        return bool(FORMS[form]) and form not in self.avoid

    @property
    def x(self) -> Value:
        """The node's first input."""
        return self.node.inputs[0]

    def array(self, index: int) -> np.ndarray | None:
        """The constant behind input ``index``, or None when it is computed or absent."""
        return self.edit.array(self.node.inputs[index]) if index < len(self.node.inputs) else None

    def add(self, op: Operator, *inputs: Value) -> Value:
        """One more step; returns its first output."""
        return self.edit.add(op, inputs, self.node)

    def done(self, op: Operator, *inputs: Value) -> bool:
        """The last step: it takes over the node's output value, name and source view. Always True."""
        self.edit.splice(self.node, op, inputs)
        return True

    def stand(self, value: Value) -> bool:
        """Let ``value``, which already exists, stand for the node's output. Always True."""
        self.edit.replace(self.node, value)
        return True

    def constant(self, array: np.ndarray | float | Sequence[float], stem: str = "constant", dtype: str = "") -> Value:
        """A constant in the dtype of the node's output (or ``dtype``)."""
        kind = dtype or self.node.output.dtype
        return self.edit.constant(np.asarray(array, kind), f"{self.node.output.name}.{stem}")

    def reshape(self, value: Value, shape: Sequence[int]) -> Value:
        """``value`` in another shape; nothing is added when it has it already."""
        return value if value.shape == tuple(shape) else self.add(ops.Reshape(tuple(shape)), value)

    def slice(self, value: Value, axis: int, start: int, stop: int, step: int = 1) -> Value:
        """``value[start:stop:step]`` on one axis."""
        if (start, stop, step) == (0, value.shape[axis], 1):
            return value
        return self.add(ops.Slice.along(value.shape, axis, start, stop, step), value)

    def pad(self, value: Value, pads: Sequence[tuple[int, int]], fill: float = 0.0) -> Value:
        """``value`` with constant pads; nothing is added when all are zero."""
        pads = tuple(tuple(p) for p in pads)  # type: ignore[assignment]
        return self.add(ops.Pad(tuple(pads), "constant", fill), value) if any(map(any, pads)) else value


#: Returns False when the node is fine as it is, else rewrites it and returns True.
Decomposition = Callable[[Build], bool]

#: Operator class → its decomposition into operators that TFLite has.
DECOMPOSITIONS: dict[type[Operator], Decomposition] = {}


def decomposes(*kinds: type[Operator]) -> Callable[[Decomposition], Decomposition]:
    """Decorator: the function decomposes nodes of these operator classes."""

    def register(function: Decomposition) -> Decomposition:
        for kind in kinds:
            DECOMPOSITIONS[kind] = function
        return function

    return register
