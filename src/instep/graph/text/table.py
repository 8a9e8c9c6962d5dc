"""The table of layers, and the place in the graph where a layer is built."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, NoReturn, Protocol

from instep.graph.core import Value
from instep.graph.operator import Operator
from instep.graph.text.fields import BOOL, Field, named
from instep.graph.text.initial import INITIALISERS, Initial

__all__ = ["ACT", "ACTIVATIONS", "INIT", "LAYERS", "MANY", "TRAINED", "Layer", "Place", "layer", "snake"]

#: Activations by name and how many numbers each may take.
ACTIVATIONS: dict[str, int] = {
    "none": 0, "relu": 0, "relu6": 0, "leaky_relu": 1, "prelu": 1, "elu": 1, "selu": 0, "gelu": 0, "gelu_tanh": 0,
    "silu": 0, "mish": 0, "hard_swish": 0, "hard_sigmoid": 0, "sigmoid": 0, "tanh": 0, "softplus": 0, "clip": 2,
}  # fmt: skip
ACT = named(ACTIVATIONS, "an activation")
INIT = named(INITIALISERS, "an initialiser")
#: Every layer with weights has it.
TRAINED = Field("trained", BOOL, True, "false: weights that are kept and not trained (buffers)")


class Place(Protocol):
    """Where a layer is built: it makes weights under the layer's scope, and nodes."""

    #: "NCHW" or "NHWC", as the text says
    layout: str
    #: how many results the step names
    wanted: int

    def weight(
        self,
        name: str,
        shape: Sequence[int],
        initial: Initial,
        fans: tuple[int, int] = (1, 1),
        dtype: str = "float32",
        *,
        decay: float | None = None,
    ) -> Value:
        """The weight ``name`` of this layer; the one that exists where layers share. ``decay``: its share of L2."""
        ...

    def constant(self, array: Any, name: str) -> Value:
        """Numbers that are no parameter."""
        ...

    def number(self, number: float, dtype: str) -> Value:
        """A number that is no parameter; the same number is the same constant throughout a network."""
        ...

    def node(self, op: Operator, *inputs: Value, part: str = "") -> Value:
        """Append an operator of one output."""
        ...

    def nodes(self, op: Operator, *inputs: Value) -> list[Value]:
        """Append an operator of any number of outputs."""
        ...

    def fail(self, why: str) -> NoReturn:
        """Raise an error about this step."""
        ...


Build = Callable[[Place, "list[Value]", SimpleNamespace], "Value | list[Value]"]


@dataclass(frozen=True)
class Layer:
    """A basic module: its fields, how many values it reads, and the function that builds it."""

    name: str
    fields: tuple[Field, ...]
    build: Build
    inputs: tuple[int, float]
    doc: str
    #: it has weights, so that a step without a name gets one
    weighted: bool = False


#: Every layer by the name that texts use.
LAYERS: dict[str, Layer] = {}


def layer(
    name: str, *fields: Field, inputs: int | tuple[int, float] = 1, weighted: bool = False
) -> Callable[[Build], Build]:
    """Enter a function into the table of layers."""

    def enter(build: Build) -> Build:
        span = (inputs, inputs) if isinstance(inputs, int) else inputs
        every = (*fields, TRAINED) if weighted else fields
        LAYERS[name] = Layer(name, every, build, span, (build.__doc__ or "").strip(), weighted)
        return build

    return enter


MANY = (1, math.inf)


def snake(name: str) -> str:
    """ReduceMean → reduce_mean, Conv2d → conv2d."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
