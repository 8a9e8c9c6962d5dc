"""Helpers of the rewrite tests: build a float64 graph, rewrite it, compare what it computes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from instep.graph import Graph, Operator, SourceView, Value
from instep.graph.validate import validate
from instep.rewrite.driver import Rewrite, run

__all__ = ["Net", "apply", "same"]


class Net:
    """A graph under construction; every constant is float64 noise unless given."""

    def __init__(self, *shapes: Sequence[int], seed: int = 0) -> None:
        self.graph = Graph()
        self.rng = np.random.default_rng(seed)
        self.inputs = [Value(f"x{i}", shape, "float64") for i, shape in enumerate(shapes)]
        self.graph.inputs = list(self.inputs)
        self.graph.input_names = [v.name for v in self.inputs]
        self._count = 0

    def __call__(self, op: Operator, *inputs: Value | np.ndarray | Sequence[int], scope: str = "") -> Value:
        """Apply ``op``; an array becomes a constant and a tuple of ints a constant of noise of that shape."""
        values = [v if isinstance(v, Value) else self.constant(v) for v in inputs]
        self._count += 1
        node = self.graph.add(op, values, scope=scope, names=[f"v{self._count}"] if not scope else [scope])
        for value in node.outputs:
            value.source = SourceView.whole(value.name, value.shape)
        return node.output

    def constant(self, array: np.ndarray | Sequence[int]) -> Value:
        self._count += 1
        made = array if isinstance(array, np.ndarray) else self.rng.normal(size=tuple(array))
        return self.graph.constant(made, f"c{self._count}")

    def positive(self, *shape: int) -> np.ndarray:
        return self.rng.uniform(0.5, 2.0, shape)

    def norm(self, x: Value, axis: int = 1, eps: float = 1e-3) -> Value:
        """A batch norm with statistics that are not trivial."""
        from instep.graph import ops

        c = x.shape[axis]
        return self(ops.BatchNorm(eps=eps, axis=axis), x, self.positive(c), (c,), (c,), self.positive(c))

    def out(self, *values: Value) -> Graph:
        self.graph.outputs = list(values)
        self.graph.output_names = [f"y{i}" for i in range(len(values))]
        validate(self.graph)
        return self.graph


def same(before: Graph, after: Graph, *, tolerance: float = 1e-11, seed: int = 1) -> None:
    """Both graphs give the same outputs, and every value that names its source shows what the source holds."""
    rng = np.random.default_rng(seed)
    inputs = [rng.normal(size=v.shape) if v.dtype.startswith("float") else
              rng.integers(0, 2, v.shape).astype(v.dtype) for v in before.inputs]  # fmt: skip
    old = before.run(inputs)
    new = after.run(inputs)
    for a, b in zip(before.outputs, after.outputs, strict=True):
        _close(old[a], new[b], tolerance, a.name)
    named = {v.source.name: a for v, a in old.items() if v.source is not None}
    for value, array in new.items():
        if value.source is not None:
            _close(value.source.apply(named[value.source.name]), array, tolerance, value.name)


def _close(want: np.ndarray, have: np.ndarray, tolerance: float, name: str) -> None:
    assert want.shape == have.shape, f"{name}: {want.shape} became {have.shape}"
    scale = max(float(np.abs(want).max(initial=0.0)), 1e-30) if want.dtype.kind == "f" else 1.0
    error = float(np.abs(want.astype(float) - have.astype(float)).max(initial=0.0)) / scale
    assert error <= tolerance, f"{name}: relative error {error:.2e}"


def apply(graph: Graph, *rewrites: Rewrite, rounds: int = 1, check: Callable[..., None] = same) -> Counter[str]:
    """Rewrite, compare, and return how many nodes of each operator are left."""
    result = graph
    for _ in range(rounds):
        result, _ = run(result, rewrites)
    validate(result)
    check(graph, result)
    return Counter(n.op.name for n in result.nodes)
