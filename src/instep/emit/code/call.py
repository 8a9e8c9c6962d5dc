"""What one operator becomes in a framework's source code: a layer that is made once and called, or an expression."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from instep.graph.core import Graph, Node, Value
from instep.graph.operator import Operator

if TYPE_CHECKING:
    from instep.emit.code.scans import Scans

__all__ = ["Call", "Dialect", "Expression", "NoCode", "Rule", "Weight"]


class Expression(str):
    """A field that is an expression of the code, no text. Rules make it of their own words and of numbers alone."""

    __slots__ = ()


class NoCode(ValueError):
    """An operator that a framework's table does not have, or not in this form; the message is part of a sentence."""


@dataclass(frozen=True)
class Weight:
    """An array as a framework's layer keeps it: the graph's constant, transposed by ``perm``, then reshaped.

    Recurrent layers have more: the gates, which are equal parts of the constant's first axis, in another ``order``;
    the sum of the constant and another (``plus``), which is not trained; the constant and another one (``beside``) as
    the rows of one array. A value that the graph has no array of stands for zeros.
    """

    value: Value
    perm: tuple[int, ...] | None = None
    shape: tuple[int, ...] | None = None
    order: tuple[int, ...] | None = None
    plus: Value | None = None
    beside: Value | None = None

    def of(self, weights: Mapping[Value, np.ndarray]) -> np.ndarray:
        """The array as the framework has it, from those of the graph; a view where that is possible."""
        array = weights.get(self.value)
        if array is None:
            array = np.zeros(self.value.shape, self.value.dtype)
        if self.plus is not None:
            array = array + weights[self.plus]
        if self.order is not None:
            array = _gates(array, self.order)
        if self.beside is not None:
            other = weights[self.beside]
            array = np.stack([array, other if self.order is None else _gates(other, self.order)])
        moved = array if self.perm is None else array.transpose(self.perm)
        return moved if self.shape is None else moved.reshape(self.shape)

    def back(self, array: np.ndarray, weights: Mapping[Value, np.ndarray]) -> dict[Value, np.ndarray]:
        """The constants of the graph that a framework's array holds, as the graph has them: the inverse of ``of``."""
        held = [v for v in (self.value, self.beside) if v is not None]
        shape = self.value.shape if self.beside is None else (2, *self.value.shape)
        perm = self.perm or tuple(range(len(shape)))
        array = array.reshape([shape[p] for p in perm]).transpose(np.argsort(perm))
        found = dict(zip(held, [array] if self.beside is None else array, strict=True))
        if self.order is not None:
            order = tuple(int(i) for i in np.argsort(self.order))
            found = {v: _gates(a, order) for v, a in found.items()}
        if self.plus is not None:
            found |= {self.value: found[self.value] - weights[self.plus], self.plus: weights[self.plus]}
        return {v: a for v, a in found.items() if v in weights}


def _gates(array: np.ndarray, order: tuple[int, ...]) -> np.ndarray:
    """The equal parts of the first axis in another order."""
    parts = np.split(array, len(order))
    return np.concatenate([parts[i] for i in order])


@dataclass
class Call:
    """One statement of the code.

    A layer: ``layer`` is its constructor ("nn.Conv2d"), ``positional`` and ``fields`` the constructor's arguments, and
    ``weights`` maps the layer's own names of its arrays ("weight", "kernel") to the graph's constants. It is called
    with the inputs, in the way that ``code`` says.

    An expression: ``layer`` is empty and ``code`` a template: ``{0}``, ``{1}`` … stand for the inputs and ``{name}``
    for a field, written by the dialect's ``literal``. ``helpers`` names the functions of the dialect's prelude that it
    uses.

    A field of a constructor that has the value in ``defaults`` is left out of the code. ``{name:args}`` in a template
    writes a tuple without its parentheses. ``module`` names a layer without weights that does what the expression does,
    made with the same fields: programs use it where layers stand in a row.

    ``untrained`` names those of ``weights`` that the source keeps and does not train; it is said of all calls alike, by
    ``statements``, besides what a rule says itself. The statistics of a batch norm, which nothing trains, are not among
    them.

    ``closed``: no other layer lies within it, so that in a scope that holds others it lies beside them.

    ``gives`` is what a call with several results is unpacked into, where that is more than a row of names.

    ``around`` is what stands around the constructor, where a layer is changed once it is made; ``{}`` is the layer.

    Fields hold plain data (numbers, words, None, lists and tuples of them). Everything that may differ between two
    blocks that are otherwise equal is a field, no part of ``code``: fields that differ become arguments of the class.
    """

    inputs: list[Value]
    outputs: list[Value]
    code: str = "{layer}({0})"
    fields: dict[str, Any] = field(default_factory=dict)
    layer: str = ""
    #: how many of ``fields``, from the first on, the constructor is given without their names
    positional: int = 0
    weights: dict[str, Weight] = field(default_factory=dict)
    helpers: tuple[str, ...] = ()
    defaults: dict[str, Any] = field(default_factory=dict)
    module: str = ""
    around: str = "{}"
    #: what its inputs are, for values that have no names
    roles: tuple[str, ...] = ()
    untrained: tuple[str, ...] = ()
    gives: str = ""
    closed: bool = False


#: What a table has for each class of operators. Values among the node's inputs that are constants and that no
#: ``weights`` claims are read like any other value: the program declares them as parameters or buffers.
Rule = Callable[[Node, Graph], "list[Call] | Call"]


class Dialect(Protocol):
    """A framework's way to write a network."""

    #: "torch", "keras", "jax"
    name: str
    #: the layout that spatial operators must have: "NCHW", "NHWC"
    layout: str
    table: dict[type[Operator], Rule]
    #: whether the code calls layers on numbers while the network is built, before they have their weights
    eager: bool
    #: where it has ``recurrent`` (recurrences.Recurrent), that says which recurrent layers it has

    @property
    def scans(self) -> Scans | None:
        """How it writes loops over time that are one call, where it has that."""
        ...

    @property
    def prelude(self) -> dict[str, str]:
        """Helper functions by name, as source code."""
        ...

    def literal(self, value: Any) -> str:
        """Plain data as an expression of the framework's code."""
        ...
