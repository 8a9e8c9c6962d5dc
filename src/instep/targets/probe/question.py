"""One question to an engine: a file of one operator (or the shortest chain that shows a constraint) and its inputs."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from instep.emit.tflite import LOWERINGS
from instep.emit.tflite.writer import Writer
from instep.graph import Graph, Node, Value
from instep.graph.operator import Operator, Spec
from instep.targets.facts import Facts, facts_of_file, options_class
from instep.targets.probe.int8 import quantise

__all__ = ["Given", "Question", "Spelled", "chain", "constant", "given", "one", "spell"]

#: Kinds that the emitter never writes as such (its files hold float32 and int32): set on the finished tensors.
_KINDS = {"int64": "INT64", "float16": "FLOAT16"}


@dataclass(frozen=True)
class Given:
    """One operand: an input of the file, or with ``values`` (or ``fixed``: drawn) a constant in it.

    What is drawn is normal, or uniform between ``low`` and ``high`` where they are given.
    """

    shape: tuple[int, ...]
    dtype: str = "float32"
    low: float | None = None
    high: float | None = None
    values: Any = None
    fixed: bool = False

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """The operand's values."""
        if self.values is not None:
            return np.asarray(self.values, self.dtype).reshape(self.shape)
        if self.dtype == "bool":
            return rng.integers(0, 2, self.shape).astype(np.bool_)
        if self.dtype.startswith(("int", "uint")):
            low, high = (self.low or 0, 8 if self.high is None else self.high)
            return rng.integers(int(low), int(high), self.shape).astype(self.dtype)
        if self.low is not None and self.high is not None:
            return rng.uniform(self.low, self.high, self.shape).astype(self.dtype)
        return rng.standard_normal(self.shape).astype(self.dtype)


def given(*shape: int, dtype: str = "float32", low: float | None = None, high: float | None = None) -> Given:
    """An input of the file."""
    return Given(shape, dtype, low, high)


def constant(*shape: int, values: Any = None, dtype: str = "float32") -> Given:
    """A constant of the file: drawn, or ``values`` (whose shape is then the default)."""
    if values is not None and not shape:
        shape = np.asarray(values).shape
    return Given(shape, dtype, values=values, fixed=True)


class Spelled(Operator):
    """A TFLite operator written as the schema spells it, for forms that Instep's emitter never writes.

    It has no meaning of its own: the truth of a question that holds one is what TFLite's own kernels give.
    """

    def __init__(self, code: str, results: Sequence[Spec], options: dict[str, Any], version: int = 1) -> None:
        self.code, self.results, self.options, self.version = code, tuple(results), options, version

    def infer(self, *inputs: Spec) -> tuple[Spec, ...]:
        return self.results

    def write(self, w: Writer, node: Node) -> None:
        """Append the operator, its options set by their names in rules (``filter_height``)."""
        made: Any = None
        cls = options_class(self.code)
        if cls is not None:
            made = cls()
            for name, value in self.options.items():
                head, *rest = name.split("_")
                setattr(made, head + "".join(word.capitalize() for word in rest), value)
        inputs, outputs = ([w.tensor(v) for v in values] for values in (node.inputs, node.outputs))
        w.op(self.code, inputs, outputs, made, version=self.version)


def spell(code: str, *results: Sequence[int], dtype: str = "float32", version: int = 1, **options: Any) -> Spelled:
    """A ``Spelled`` operator with results of these shapes."""
    return Spelled(code, [Spec(tuple(shape), dtype) for shape in results], options, version)


#: An operator and its operands: numbers of the question's operands, then of the results of the steps before.
Step = tuple[Operator, Sequence[int]]


@dataclass(frozen=True)
class Question:
    """``name`` is ``operator/constraint=value/…``; ``operator`` is TFLite's name of what is asked about."""

    name: str
    operator: str
    operands: tuple[Given, ...]
    steps: tuple[Step, ...]

    @property
    def constraint(self) -> str:
        """What about the operator is asked."""
        return self.name.partition("/")[2]

    def graph(self) -> Graph:
        """The operands and steps as a graph; what no step reads are its outputs."""
        graph, rng = Graph(), np.random.default_rng(zlib.crc32(self.name.encode()))
        values: list[Value] = []
        for i, operand in enumerate(self.operands):
            array = operand.draw(rng)
            if operand.fixed:
                values.append(graph.constant(array, f"c{i}"))
                continue
            values.append(Value(f"x{i}", operand.shape, operand.dtype))
            graph.inputs.append(values[-1])
            graph.input_names.append(f"x{i}")
        for i, (op, reads) in enumerate(self.steps):
            count = len(op.infer(*(values[n].spec for n in reads)))
            names = [f"y{i}.{k}" if k else f"y{i}" for k in range(count)]
            values += graph.add(op, [values[n] for n in reads], scope=f"y{i}", names=names).outputs
        read = {v for node in graph.nodes for v in node.inputs}
        graph.outputs = [v for node in graph.nodes for v in node.outputs if v not in read]
        graph.output_names = [v.name for v in graph.outputs]
        return graph

    def inputs(self) -> list[np.ndarray]:
        """The seeded values of the file's inputs."""
        rng = np.random.default_rng(zlib.crc32(self.name.encode()) + 1)
        return [operand.draw(rng) for operand in self.operands if not operand.fixed]

    def write(self, path: Path, *, int8: bool = False) -> Path:
        """Write the question's file through Instep's emitter; ``int8``: quantised, as NPUs take it."""
        graph = self.graph()
        writer = Writer(graph)
        for value in graph.inputs:
            writer.tensor(value)
        for node in graph.nodes:
            lowering = node.op.write if isinstance(node.op, Spelled) else LOWERINGS[type(node.op)]
            lowering(writer, node)
        spelled = [v for node in graph.nodes if isinstance(node.op, Spelled) for v in node.outputs]
        for value in (*graph.inputs, *spelled):
            if value.dtype in _KINDS:
                writer.tensors[writer.tensor(value)].type = getattr(schema.TensorType, _KINDS[value.dtype])
        if int8:
            quantise(writer)
        path.write_bytes(b"".join(writer.parts({})))
        return path

    def truth(self) -> list[np.ndarray] | None:
        """The outputs in float64 by the operators' meaning; None where a step is only spelled."""
        if any(isinstance(op, Spelled) for op, _ in self.steps):
            return None
        graph = self.graph()
        wide = [a.astype(np.float64) if a.dtype.kind == "f" else a for a in self.inputs()]
        table = graph.run(wide, keep=())
        return [table[v] for v in graph.outputs]

    def facts(self, folder: Path, *, int8: bool = False) -> Facts:
        """What rules read about the question's file, which is written into ``folder``: with what the outputs reach
        where their meaning is known."""
        from instep.runtime import tflite_info

        facts = facts_of_file(tflite_info(self.write(folder / "question.tflite", int8=int8)))
        truths = None if int8 else self.truth()
        for tensor, truth in zip(facts.outputs, truths or (), strict=False):
            if truth.dtype.kind == "f" and truth.size:
                tensor.lowest, tensor.highest = float(truth.min()), float(truth.max())
        return facts


def _operands(operands: Sequence[Given | Sequence[int] | np.ndarray]) -> tuple[Given, ...]:
    def made(operand: Given | Sequence[int] | np.ndarray) -> Given:
        if isinstance(operand, Given):
            return operand
        if isinstance(operand, np.ndarray):
            return Given(operand.shape, str(operand.dtype), values=operand, fixed=True)
        return Given(tuple(operand))

    return tuple(map(made, operands))


def one(name: str, operator: str, op: Operator, *operands: Given | Sequence[int] | np.ndarray) -> Question:
    """A question of one operator; an operand given as a shape is a float32 input, as an array a constant."""
    return Question(f"{operator.lower()}/{name}", operator, _operands(operands), ((op, range(len(operands))),))


def chain(name: str, operator: str, operands: Sequence[Given | Sequence[int] | np.ndarray], *steps: Step) -> Question:
    """A question whose constraint shows in several operators only, or in how one is fed."""
    return Question(f"{operator.lower()}/{name}", operator, _operands(operands), tuple(steps))
