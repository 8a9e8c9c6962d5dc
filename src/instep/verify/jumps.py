"""Operators that jump (round, compare, rank): a result may legally land on the other side of a tie.

Where it does, the truth downstream is computed anew from the result's own choice, so that a legal jump is no fault
and a fault behind it still shows.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from instep.graph import Graph, Node, Value, ops
from instep.verify.inputs import InputSet
from instep.verify.mapping import Mapping
from instep.verify.noise import LIMITS, Limits, Noise, distance, ratio
from instep.verify.subject import Run, Subject, to_source

__all__ = ["JUMPING", "Jumps"]

JUMPING = (
    ops.ArgMax, ops.ArgMin, ops.TopK, ops.Floor, ops.Ceil, ops.Round, ops.Sign, ops.FloorDiv, ops.FloorMod,
    ops.Less, ops.LessEqual, ops.Greater, ops.GreaterEqual, ops.Equal, ops.NotEqual, ops.Cast,
)  # fmt: skip
#: How many random moves within the noise are tried to see which answers are legal.
TRIES = 8


def _jumps(node: Node) -> bool:
    if not isinstance(node.op, JUMPING) or not node.inputs[0].dtype.startswith("float"):
        return False
    return not isinstance(node.op, ops.Cast) or not node.output.dtype.startswith("float")


class Jumps:
    """The jumping nodes of a captured graph, and what a result made of them."""

    def __init__(self, graph: Graph | None) -> None:
        self.graph = graph
        self.nodes = [n for n in graph.nodes if _jumps(n)] if graph is not None else []
        self.jumping = {id(n) for n in self.nodes}
        self.makers = graph.producers() if graph is not None else {}

    def tensors(self, mapping: Mapping, known: Collection[str] = ()) -> list[str]:
        """The tensors of a result that show what jumping operators read and gave: those mapped, and of the ``known``
        ones those that have a value's name."""
        around = {v.name for n in self.nodes for v in (*n.inputs, *n.outputs)}
        mapped = {tensor: view.name for tensor, view in mapping.values.items() if view.name in around}
        return [*mapped, *sorted((around & set(known)) - set(mapped) - set(mapped.values()))]

    def settle(
        self, name: str, truth: dict[str, np.ndarray], run: Run, mapping: Mapping, noise: dict[str, Noise]
    ) -> dict[str, np.ndarray]:
        """The truth of the input set ``name``, recomputed behind every legal jump of the result."""
        if not self.nodes or self.graph is None:
            return truth
        table, moved = dict(truth), set[Value]()
        tensors: dict[str, str] = {}
        for tensor, view in mapping.values.items():
            tensors.setdefault(view.name, tensor)

        def shown(value: Value) -> np.ndarray | None:
            tensor = tensors.get(value.name, "")
            if not tensor and value.name in run.tensors:
                return _likest(run.tensors[value.name], value, self._read(value, table))
            if tensor not in run.tensors or run.tensors[tensor].size != value.size:
                return None
            return to_source(run.tensors[tensor], mapping.values[tensor], value.shape)

        for node in self.graph.nodes:
            if any(v in moved for v in node.inputs):
                ins = [self._read(v, table) for v in node.inputs]
                if any(a is None for a in ins):
                    continue
                table.update(_evaluated(node, ins))  # type: ignore[arg-type]
                moved.update(node.outputs)
            for value in node.outputs if id(node) in self.jumping else ():
                mine, expected = shown(value), self._read(value, table)
                if mine is None or expected is None:
                    continue
                wrong = ~np.isclose(mine.astype(np.float64), expected.astype(np.float64), rtol=1e-5, atol=1e-7)
                if wrong.any() and self._legal(node, value, mine, wrong, table, shown, noise, name):
                    table[value.name] = mine.astype(np.float64) if mine.dtype.kind == "f" else mine
                    moved.add(value)
        return table if moved else truth

    def behind(
        self,
        engine: str,
        outputs: Sequence[np.ndarray],
        subject: Subject,
        given: InputSet,
        exact: dict[str, np.ndarray],
        settled: dict[str, np.ndarray],
        noise: dict[str, Noise],
        limits: Limits = LIMITS,
    ) -> dict[str, np.ndarray]:
        """The truth behind the choices of one engine, ``settled`` being that behind those of the one that shows its
        values: another where ``outputs``, which this engine gave on ``given``, are further from that than rounding."""
        if not self.nodes or not self._apart(outputs, subject.mapping, settled, noise, given.name, limits):
            return settled
        alone = getattr(subject, "alone", None)
        known = {t.name for t in getattr(getattr(subject, "info", None), "tensors", ())}
        run = alone(engine, given.arrays, self.tensors(subject.mapping, known)) if alone is not None else None
        return settled if run is None else self.settle(given.name, exact, run, subject.mapping, noise)

    def _apart(
        self,
        outputs: Sequence[np.ndarray],
        mapping: Mapping,
        truth: dict[str, np.ndarray],
        noise: dict[str, Noise],
        name: str,
        limits: Limits,
    ) -> bool:
        for array, view in zip(outputs, mapping.outputs, strict=True):
            if view is None or view.name not in truth or truth[view.name].size != array.size:
                continue
            away = distance(array, view.apply(truth[view.name]).reshape(array.shape))
            if ratio(away, noise[view.name].level(name, limits), limits) > limits.in_step:
                return True
        return False

    def _legal(self, node, value, mine, wrong, truth, shown, noise, name) -> bool:  # type: ignore[no-untyped-def]
        assert self.graph is not None
        rng = np.random.default_rng(0)
        number = node.outputs.index(value)
        allowed = np.zeros(wrong.shape, bool)
        table = dict(truth)
        exact = [self._read(v, table) for v in node.inputs]
        if any(a is None for a in exact):
            return False
        given = []
        own = [shown(v) for v in node.inputs]
        if all(o is not None or v in self.graph.weights for o, v in zip(own, node.inputs, strict=True)):
            given.append([o if o is not None else self.graph.weights[v] for o, v in zip(own, node.inputs, strict=True)])
        for _ in range(TRIES):
            moved = []
            for array, v in zip(exact, node.inputs, strict=True):
                peak = LIMITS.in_step * noise[v.name].level(name)[1] if v.name in noise else 0.0
                assert array is not None
                moved.append(array + rng.uniform(-peak, peak, array.shape) if array.dtype.kind == "f" else array)
            given.append(moved)
        with np.errstate(all="ignore"):
            for arrays in given:
                answer = np.asarray(node.op.evaluate(*arrays)[number])
                allowed |= np.isclose(answer.astype(np.float64), mine.astype(np.float64), rtol=1e-4, atol=1e-6)
        return bool(allowed[wrong].all())

    def _read(self, value: Value, table: dict[str, np.ndarray]) -> np.ndarray | None:
        """``value`` as ``table`` has it; what is a step within a step of the source, which shows none, is computed."""
        assert self.graph is not None
        if value in self.graph.weights:
            array = self.graph.weights[value]
            return array.astype(np.float64) if array.dtype.kind == "f" else array
        node = self.makers.get(value)
        if value.name not in table and node is not None:
            ins = [self._read(v, table) for v in node.inputs]
            if any(a is None for a in ins):
                return None
            table.update(_evaluated(node, ins))  # type: ignore[arg-type]
        return table.get(value.name)


def _likest(array: np.ndarray, value: Value, expected: np.ndarray | None) -> np.ndarray | None:
    """A tensor that has the name of a step within a step of the source, in that step's layout: of those that its shape
    allows the one in which it is most like what is expected."""
    if expected is None:
        return None
    last = array.ndim - 1
    found = [array, array.transpose(0, last, *range(1, last))] if last > 1 else [array]
    found = [a for a in found if a.shape == value.shape]
    return max(found, key=lambda a: int(np.isclose(a, expected, rtol=1e-3, atol=1e-6).sum()), default=None)


def _evaluated(node: Node, ins: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    with np.errstate(all="ignore"):
        return {v.name: np.asarray(a) for v, a in zip(node.outputs, node.op.evaluate(*ins), strict=True)}
