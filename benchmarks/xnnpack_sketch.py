"""Draws the small graphs that the study of XNNPACK's forms times, and keeps the list of its questions."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np

from instep.graph import Graph, Operator, Value, ops

__all__ = ["QUESTIONS", "Form", "Sketch", "apply", "ask", "conv"]

Form = Callable[["Sketch"], Value]
#: Title → form → the function that draws it.
QUESTIONS: dict[str, dict[str, Callable[[], Graph]]] = {}


class Sketch:
    """A graph being drawn: ``s.x`` is the input, ``s(op, …)`` applies an operator, ``s.c(shape)`` is a constant."""

    def __init__(self, *shapes: tuple[int, ...]) -> None:
        self.graph = Graph()
        self.graph.inputs = [Value(f"x{i}", s) for i, s in enumerate(shapes)]
        self.graph.input_names = [v.name for v in self.graph.inputs]
        self.x = self.graph.inputs[0]
        self.rng = np.random.default_rng(0)

    def __call__(self, op: Operator, *values: Value) -> Value:
        return self.graph.add(op, values or (self.x,), scope=f"n{len(self.graph.nodes)}").output

    def c(self, array: object, dtype: str = "float32") -> Value:
        data = self.rng.standard_normal(array) * 0.1 if isinstance(array, tuple) else np.asarray(array)
        return self.graph.constant(np.asarray(data, dtype), f"c{len(self.graph.weights)}")

    def finish(self, *outputs: Value) -> Graph:
        self.graph.outputs, self.graph.output_names = list(outputs), [f"y{i}" for i in range(len(outputs))]
        return self.graph


def ask(title: str, *shapes: tuple[int, ...], **forms: Form) -> None:
    QUESTIONS[f"{title} {' '.join(map(str, map(list, shapes)))}"] = {
        name.replace("_", " "): functools.partial(_draw, form, shapes) for name, form in forms.items()
    }


def _draw(form: Form, shapes: tuple[tuple[int, ...], ...]) -> Graph:
    sketch = Sketch(*shapes)
    return sketch.finish(form(sketch))


def conv(k: int, o: int, c: int, pads: tuple[int, int] | None = None, *, groups: int = 1):
    """(operator, weight shape) of a k × k convolution with symmetric pads."""
    p = pads if pads is not None else (k // 2, k // 2)
    op = ops.Conv2d((1, 1), (p, p), (1, 1), groups, "NHWC")
    return op, (o, k, k, c // groups)


def apply(s: Sketch, made: tuple[Operator, tuple[int, ...]], x: Value | None = None) -> Value:
    op, shape = made
    return s(op, x or s.x, s.c(shape), s.c((shape[0],)))
