"""What handlers build with: the operator at hand, its options and its constant inputs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from instep.capture.building import Building
from instep.capture.tflite.file import MAX_ELEMENTS, MAX_RANK, Tensor
from instep.capture.tflite.registry import Unsupported
from instep.graph import Graph, Node, Operator, Value, ops

__all__ = ["Builder"]

#: What ``fused_activation_function`` of the schema stands for (ActivationFunctionType).
_ACTIVATIONS: dict[int, Operator] = {
    1: ops.Relu(),
    2: ops.Clip(-1.0, 1.0),
    3: ops.Clip(0.0, 6.0),
    4: ops.Tanh(),
}


class Builder(Building):
    """Adds to ``graph`` what the operator at hand means; ``options`` is its schema object, ``declared`` its outputs."""

    def __init__(self, graph: Graph) -> None:
        super().__init__(graph)
        self.options: Any = None
        self.declared: list[Tensor] = []
        #: the operators of each subgraph
        self.subgraphs: list[list[str]] = []

    # -- reading -------------------------------------------------------------------------------------------------
    def option(self, name: str, default: Any = 0) -> Any:
        """A field of the operator's options by the schema's accessor ("StrideH"), of a custom one's by its name;
        ``default`` when it has none."""
        if isinstance(self.options, Mapping):
            return self.options.get(name, default)
        return getattr(self.options, name)() if self.options is not None else default

    def ints(self, value: Value | None, what: str) -> list[int]:
        """The integers of a constant input. Raises Unsupported when it is computed: the shapes would be dynamic."""
        array = self.array(value)
        if array is None:
            raise Unsupported(f"its {what} is computed while the network runs; only static shapes can be captured")
        if array.dtype.kind not in "iu" or array.size > 1 << 20:
            raise Unsupported(f"its {what} holds {array.size} numbers of {array.dtype}, integers are needed")
        return [int(n) for n in array.reshape(-1)]

    def integer(self, value: Value | None, what: str) -> int:
        """The one integer of a constant input."""
        found = self.ints(value, what)
        if len(found) != 1:
            raise Unsupported(f"its {what} holds {len(found)} numbers, one is needed")
        return found[0]

    def operators_of(self, number: int) -> list[str]:
        """The names of the operators of another subgraph, which says how an operator joins two elements."""
        if not 0 < number < len(self.subgraphs):
            raise Unsupported(f"it stands for subgraph {number} of {len(self.subgraphs)}")
        return self.subgraphs[number]

    def axis(self, number: int, rank: int) -> int:
        """A non-negative axis; TFLite counts from the end where it is negative."""
        if not -rank <= number < rank:
            raise Unsupported(f"axis {number} does not exist in rank {rank}")
        return number % rank

    # -- adding --------------------------------------------------------------------------------------------------
    def node(self, op: Operator, *inputs: Value) -> Node:
        node = super().node(op, *inputs)
        for value in node.outputs:
            if value.rank > MAX_RANK or math.prod(value.shape) > MAX_ELEMENTS:
                raise Unsupported(f"it makes a tensor of shape {list(value.shape)[:MAX_RANK]}: beyond all bounds")
        return node

    def constant(self, array: np.ndarray, hint: str = "constant") -> Value:
        return self.graph.constant(np.asarray(array, order="C"), self.apart(hint))

    def activated(self, x: Value, accessor: str = "FusedActivationFunction") -> Value:
        """``x`` through the operator's fused activation, as an operator of its own."""
        kind = self.option(accessor)
        if not kind:
            return x
        if kind not in _ACTIVATIONS:
            raise Unsupported(f"its fused activation {kind} has no graph operator")
        return self(_ACTIVATIONS[kind], x)

    def pads(self, sizes: Sequence[int], kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int]) -> Any:
        """The explicit pads of the operator's ``padding``: what SAME means here (the odd one below or right)."""
        if min(*stride, *dilation, *kernel) < 1:
            raise Unsupported(f"stride {list(stride)}, dilation {list(dilation)} and kernel {list(kernel)} start at 1")
        if self.option("Padding"):
            return ((0, 0),) * len(sizes)
        return tuple(same_pads(*of) for of in zip(sizes, kernel, stride, dilation, strict=True))


def same_pads(size: int, kernel: int, stride: int, dilation: int = 1) -> tuple[int, int]:
    """What TensorFlow's SAME pads on one axis: the odd one goes to the bottom or right."""
    total = max((-(-size // stride) - 1) * stride + dilation * (kernel - 1) + 1 - size, 0)
    return total // 2, total - total // 2
