"""The place in a graph where one layer of a text is built: its weights, its constants, its nodes."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from instep.graph.core import GraphError, Value
from instep.graph.operator import Operator
from instep.graph.text.errors import TextError, fail
from instep.graph.text.fields import MAX_SIZE
from instep.graph.text.initial import Initial
from instep.graph.text.steps import Call
from instep.graph.text.table import snake

if TYPE_CHECKING:
    from instep.graph.text.build import Builder
    from instep.graph.text.frame import Frame

__all__ = ["LayerPlace", "Weight", "joined"]

#: Most parameters of a network, highest rank of a value, most numbers of a constant.
MAX_PARAMETERS, MAX_RANK, MAX_CONSTANT = 2**28, 16, 65_536


@dataclass(frozen=True)
class Weight:
    """How a weight starts."""

    initial: Initial
    fans: tuple[int, int]


class LayerPlace:
    """Where one layer is built (see ``table.Place``)."""

    def __init__(
        self,
        builder: Builder,
        frame: Frame,
        scope: str,
        call: Call,
        who: str,
        line: int,
        *,
        shared: bool,
        trained: bool,
    ) -> None:
        self.builder, self.frame, self.scope, self.line = builder, frame, scope, line
        self.who, self.shared, self.trained = who, shared, trained
        self.layout = frame.unit.layout
        self.wanted = max(len(call.names), 1)
        self.origin = f"{os.path.basename(frame.unit.file)}:{line}"

    def fail(self, why: str) -> NoReturn:
        fail(self.frame.unit.file, self.line, f"{self.who}: {why}")

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
        full = joined(self.scope, name)
        known = self.builder.weights.get(full)
        if known is not None:
            if not self.shared:
                self.fail(f"a second layer of this name; give it another, or share the weights with at: {self.scope}")
            if known[0].shape != tuple(shape) or known[0].dtype != dtype:
                self.fail(f"shares '{full}', which is {list(known[0].shape)}, but needs {list(shape)}")
            if (known[0] in self.builder.buffers) == self.trained:
                self.fail(f"shares '{full}', which is {'not ' * self.trained}trained; say the same here")
            return known[0]
        self.builder.spend(1)
        self.builder.parameters += math.prod(shape)
        if self.builder.parameters > MAX_PARAMETERS:
            self.fail(f"the network would have more than {MAX_PARAMETERS} parameters")
        value = Value(full, shape, dtype)
        self.builder.taken[full] = self.builder.taken.get(full, 0) + 1
        self.builder.weights[full] = (value, Weight(initial, fans))
        if not self.trained:
            self.builder.buffers.add(value)
        if decay is not None and decay < 0:
            self.fail(f"decay must be 0 or more, got {decay}")
        if decay:
            self.builder.decay[full] = decay
        return value

    def constant(self, array: Any, name: str) -> Value:
        numbers, dtype, shape = array
        if shape is not None and not 0 <= math.prod(shape) <= MAX_CONSTANT:
            self.fail(f"a value of shape {str(list(shape))[:80]}; numbers in a text are {MAX_CONSTANT} at most")
        try:
            made = np.asarray(numbers, dtype=dtype)
            made = made if shape is None else np.array(np.broadcast_to(made, shape), order="C")
        except (ValueError, TypeError, OverflowError) as error:
            self.fail(f"value is no array of {dtype}: {error}")
        place = f"{self.scope}/{name}" if name else self.scope
        known = self.builder.constants.get(place)
        if self.shared and known is not None and known.dtype == made.dtype and np.array_equal(known, made):
            return next(v for v in self.builder.inline if v.name == place)
        full = place
        if name:
            full = self.builder.unique(place)
        elif full in self.builder.weights or full in self.builder.constants:
            self.fail("a second weight of this name")
        else:
            self.builder.taken[full] = 1
        self.builder.parameters += made.size
        self.builder.constants[full] = made
        value = self.builder.graph.constant(made, full)
        self.builder.inline.append(value)
        return value

    def number(self, number: float, dtype: str) -> Value:
        key = (repr(number), dtype)
        if key not in self.builder.numbers:
            self.builder.numbers[key] = self.constant((number, dtype, ()), "by")
        return self.builder.numbers[key]

    def node(self, op: Operator, *inputs: Value, part: str = "") -> Value:
        return self.nodes(op, *inputs, part=part)[0]

    def nodes(self, op: Operator, *inputs: Value, part: str = "") -> list[Value]:
        self.builder.spend(1 + len(inputs) // 8)
        try:
            specs = op.infer(*(v.spec for v in inputs))
        except (ValueError, IndexError, TypeError, ZeroDivisionError, GraphError) as error:
            if isinstance(error, TextError):
                raise
            self.fail(str(error))
        for spec in specs:
            if len(spec.shape) > MAX_RANK or any(not 0 <= d <= MAX_SIZE for d in spec.shape):
                self.fail(f"gives a value of shape {str(list(spec.shape))[:80]}")
        part = part or snake(op.name)
        stem = f"{self.scope}/{part}" if self.scope else part
        names = [self.builder.unique(stem + (f".{i}" if i else "")) for i in range(len(specs))]
        node = self.builder.graph.add(op, inputs, scope=self.scope, origin=self.origin, names=names)
        return node.outputs


def joined(scope: str, name: str) -> str:
    return f"{scope}.{name}" if scope and name else scope or name
