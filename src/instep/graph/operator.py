"""What every operator is: a frozen dataclass with a shape rule, a meaning in numpy and a cost."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, dataclass_transform

import numpy as np

__all__ = ["OPERATORS", "Operator", "Spec", "activate", "broadcast", "operator"]


@dataclass(frozen=True, slots=True)
class Spec:
    """Shape and dtype (numpy's name) of a value."""

    shape: tuple[int, ...]
    dtype: str = "float32"

    @property
    def size(self) -> int:
        return math.prod(self.shape)


#: Every known operator by name; ``@operator`` adds to it.
OPERATORS: dict[str, type[Operator]] = {}


OpT = TypeVar("OpT", bound="Operator")


class Operator:
    """Base of all operators. A subclass is a frozen dataclass, registered by ``@operator``.

    It states in one place its fields, its shape rule (``infer``), its meaning (``evaluate``) and its cost
    (``macs``, ``arithmetic``). ``decompose`` may express it in other operators; backends register lowerings of
    their own.
    """

    #: Layout-free operators act on each element alone (numpy broadcasting between inputs).
    elementwise: ClassVar[bool] = False
    #: Spatial operators have a ``layout`` field, "NCHW" or "NHWC", that says how to read their first input.
    spatial: ClassVar[bool] = False
    #: Arithmetic operations for each element that comes out, besides those of the multiply-accumulates.
    each: ClassVar[int] = 0

    @property
    def name(self) -> str:
        return type(self).__name__

    def infer(self, *inputs: Spec) -> tuple[Spec, ...]:
        """Specs of the outputs. Raises ValueError with a sentence when the inputs do not fit."""
        raise NotImplementedError

    def evaluate(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        """The reference meaning, computed in the dtype of the inputs (float64 in, float64 out)."""
        raise NotImplementedError

    def macs(self, inputs: Sequence[Spec], outputs: Sequence[Spec]) -> int:
        """Multiply-accumulates of one application."""
        return 0

    def arithmetic(self, inputs: Sequence[Spec], outputs: Sequence[Spec]) -> int:
        """Arithmetic operations of one application, as TensorFlow's converter logs their "estimated count".

        Two for a multiply-accumulate; one for an addition, subtraction, multiplication or division of elements, and
        for a bias, which convolutions are always counted with; 64 for a sigmoid, a tanh or a softmax; the window's
        area for a pool. Comparisons, roots, exponentials, plain reductions and moves count nothing. The converter
        forgets products of two computed matrices; they count here.
        """
        return 2 * self.macs(inputs, outputs) + self.each * outputs[0].size

    def fields(self) -> dict[str, Any]:
        """Field names and values, in order."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}  # type: ignore[arg-type]

    def with_(self, **changes: Any) -> Any:
        """A copy with some fields changed."""
        return dataclasses.replace(self, **changes)  # type: ignore[type-var]

    if TYPE_CHECKING:
        # tables of rewrites and lowerings are keyed by class: what they register knows its operator's fields
        def __getattr__(self, name: str) -> Any: ...

    def __str__(self) -> str:
        inside = ", ".join(f"{k}={v!r}" for k, v in self.fields().items())
        return f"{self.name}({inside})"


@dataclass_transform(frozen_default=True)
def operator(cls: type[OpT]) -> type[OpT]:
    """Make ``cls`` a frozen dataclass and register it under its name."""
    made = dataclass(frozen=True, repr=False)(cls)
    OPERATORS[made.__name__] = made
    return made


def broadcast(*shapes: tuple[int, ...]) -> tuple[int, ...]:
    """The numpy broadcast of static shapes; raises ValueError when they do not fit."""
    try:
        return tuple(np.broadcast_shapes(*shapes))
    except ValueError:
        said = " and ".join(str(list(s)) for s in shapes)
    raise ValueError(f"{said} cannot be broadcast together")


def activate(x: np.ndarray, activation: str) -> np.ndarray:
    """Apply a fused activation: "", "relu", "relu6" or "relu1" (clip to [-1, 1])."""
    match activation:
        case "":
            return x
        case "relu":
            return np.maximum(x, 0)
        case "relu6":
            return np.clip(x, 0, 6)
        case "relu1":
            return np.clip(x, -1, 1)
    raise ValueError(f"activation must be '', 'relu', 'relu6' or 'relu1', got {activation!r}")
