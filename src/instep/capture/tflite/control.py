"""Operators that run other subgraphs, and variables: a static graph holds what one fresh run of them computes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from instep.capture.tflite.builder import Builder
from instep.capture.tflite.file import Operation
from instep.capture.tflite.lists import untangle
from instep.capture.tflite.registry import Unsupported
from instep.graph import Graph, Value, ops

__all__ = ["CONTROL", "RESOURCE", "Walker"]

#: The dtype of a Value that is the handle of a variable: its name is the variable's; it never enters a graph.
RESOURCE = "resource"
_MAX_ROUNDS = 4096
_MAX_BRANCHES = 64


class Walker(Protocol):
    """The conversion at hand, as far as these operators need it. ``variables``: what each holds now, by its name."""

    graph: Graph
    build: Builder
    variables: dict[str, Value]

    def enter(self, number: int, inputs: Sequence[Value | None], count: int) -> list[Value]:
        """What subgraph ``number`` makes of ``inputs``, ``count`` results. Raises Unsupported when it does not fit."""
        ...

    def options(self, name: str, operation: Operation) -> Any: ...


#: Operator's name → function(walker, operation, inputs), which returns the Values of its outputs.
CONTROL: dict[str, Callable[[Walker, Operation, list[Value | None]], Sequence[Value]]] = {}


def _controls(name: str) -> Callable[[Any], Any]:
    def wrap(function: Any) -> Any:
        CONTROL[name] = function
        return function

    return wrap


def _given(options: Any) -> Any:
    if options is None:
        raise Unsupported("it does not say which subgraph it stands for")
    return options


def _all(inputs: Sequence[Value | None]) -> list[Value]:
    found = [v for v in inputs if v is not None]
    if len(found) != len(inputs):
        raise Unsupported("one of its inputs is left out")
    return found


@_controls("STABLEHLO_COMPOSITE")
def composite(walker: Walker, operation: Operation, inputs: list[Value | None]) -> list[Value]:
    options = _given(walker.options("StableHLOCompositeOptions", operation))
    return walker.enter(options.DecompositionSubgraphIndex(), inputs, len(operation.outputs))


@_controls("CALL")
def call(walker: Walker, operation: Operation, inputs: list[Value | None]) -> list[Value]:
    return walker.enter(_given(walker.options("CallOptions", operation)).Subgraph(), inputs, len(operation.outputs))


@_controls("CALL_ONCE")
def call_once(walker: Walker, operation: Operation, inputs: list[Value | None]) -> list[Value]:
    """What a fresh interpreter does before all: it sets the variables."""
    return walker.enter(_given(walker.options("CallOnceOptions", operation)).InitSubgraphIndex(), inputs, 0)


@_controls("WHILE")
def loop(walker: Walker, operation: Operation, inputs: list[Value | None]) -> list[Value]:
    return _rounds(walker, _given(walker.options("WhileOptions", operation)), inputs)


@_controls("STABLEHLO_WHILE")
def stablehlo_while(walker: Walker, operation: Operation, inputs: list[Value | None]) -> list[Value]:
    return _rounds(walker, _given(walker.options("StablehloWhileOptions", operation)), inputs)


def _rounds(walker: Walker, options: Any, inputs: list[Value | None]) -> list[Value]:
    """Round after round written down, as long as the condition follows from constants."""
    graph, first = walker.graph, len(walker.graph.nodes)
    state = _all(inputs)
    for _ in range(_MAX_ROUNDS):
        (again,) = walker.enter(options.CondSubgraphIndex(), state, 1)
        decided = graph.weights.get(again)
        if decided is None or decided.size != 1:
            raise Unsupported("how many rounds its loop takes is computed while the network runs")
        if not decided.item():
            kept = untangle(walker.build, first, [*state, *walker.variables.values()])
            walker.variables = dict(zip(walker.variables, kept[len(state) :], strict=True))
            return kept[: len(state)]
        state = walker.enter(options.BodySubgraphIndex(), state, len(state))
    raise Unsupported(f"its loop takes more than {_MAX_ROUNDS} rounds")


@_controls("IF")
def branch(walker: Walker, operation: Operation, inputs: list[Value | None]) -> list[Value]:
    """The branch that a constant chooses; both and a choice between their results where it is computed."""
    options = _given(walker.options("IfOptions", operation))
    condition, *rest = _all(inputs)
    numbers, count = (options.ThenSubgraphIndex(), options.ElseSubgraphIndex()), len(operation.outputs)
    decided = walker.graph.weights.get(condition)
    if decided is not None and decided.size == 1:
        return walker.enter(numbers[0 if decided.item() else 1], rest, count)
    taken, other = _branches(walker, numbers, rest, count)
    return _chosen(walker, walker.build.reshape(condition, ()), taken, other)


@_controls("STABLEHLO_CASE")
def case(walker: Walker, operation: Operation, inputs: list[Value | None]) -> list[Value]:
    """The branch of a number; the last one of a number that no branch has (stablehlo_case.cc)."""
    given = _given(walker.options("StablehloCaseOptions", operation)).BranchSubgraphIndicesAsNumpy()
    numbers = [] if isinstance(given, int) else [int(n) for n in given]
    index, *rest = _all(inputs)
    if not 0 < len(numbers) <= _MAX_BRANCHES:
        raise Unsupported(f"it has {len(numbers)} branches")
    decided, count = walker.graph.weights.get(index), len(operation.outputs)
    if decided is not None and decided.size == 1:
        at = decided.item()
        return walker.enter(numbers[at if 0 <= at < len(numbers) else -1], rest, count)
    *others, result = _branches(walker, numbers, rest, count)
    build, index = walker.build, walker.build.reshape(index, ())
    for at, other in enumerate(others):
        result = _chosen(walker, build(ops.Equal(), index, build.scalar(at, index.dtype)), other, result)
    return result


def _branches(walker: Walker, numbers: Sequence[int], inputs: Sequence[Value], count: int) -> list[list[Value]]:
    before = dict(walker.variables)
    found = [walker.enter(number, inputs, count) for number in numbers]
    if walker.variables != before or any(a.spec != b.spec for one in found for a, b in zip(one, found[0], strict=True)):
        raise Unsupported("its branches set variables, or make tensors of different shapes")
    return found


def _chosen(walker: Walker, condition: Value, taken: Sequence[Value], other: Sequence[Value]) -> list[Value]:
    return [a if a is b else walker.build(ops.Where(), condition, a, b) for a, b in zip(taken, other, strict=True)]


# -- variables ---------------------------------------------------------------------------------------------------------
@_controls("VAR_HANDLE")
def handle(walker: Walker, operation: Operation, inputs: list[Value | None]) -> list[Value]:
    options = walker.options("VarHandleOptions", operation)
    parts = [] if options is None else [options.Container(), options.SharedName()]
    return [Value("/".join((p or b"").decode(errors="replace") for p in parts), (), RESOURCE)]


def _name(value: Value | None) -> str:
    if value is None or value.dtype != RESOURCE:
        raise Unsupported("which variable it means is computed")
    return value.name


@_controls("READ_VARIABLE")
def read_variable(walker: Walker, operation: Operation, inputs: list[Value | None]) -> list[Value]:
    name = _name(inputs[0] if inputs else None)
    if name not in walker.variables:
        raise Unsupported(f"nothing sets the variable '{name[:120]}' before")
    return [walker.variables[name]]


@_controls("ASSIGN_VARIABLE")
def assign_variable(walker: Walker, operation: Operation, inputs: list[Value | None]) -> list[Value]:
    target, value = _all(inputs)
    walker.variables[_name(target)] = value
    return []
