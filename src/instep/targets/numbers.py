"""Values against what a target computes with: what overflows float16, what vanishes in it, from real runs."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from instep.emit.tflite import write
from instep.graph import Graph, Spec, Value, ops
from instep.runtime import RunResult, run_many, tflite_info
from instep.targets.check import Violation, level_of
from instep.targets.facts import Facts, Operation, Tensor, facts_of_graph
from instep.targets.profile import Limits, Profile
from instep.targets.rewrites.masks import beyond, bounds_of
from instep.verify.calm import SHARES, less
from instep.verify.indices import index_bounds, index_bounds_of_file
from instep.verify.inputs import InputSet, Picture, make_inputs

__all__ = ["Numbers", "check_numbers", "measure", "measure_some", "note"]

_SUMS = ("SUM", "MEAN")
#: Operators whose sums of products overflow where noise is too much for a network.
_PRODUCTS = ("CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "CONV_3D", "FULLY_CONNECTED", "BATCH_MATMUL")
#: Operators whose constants are values like those that they meet, as masks are.
_ELEMENTWISE = ("ADD", "SUB", "MUL", "DIV", "MAXIMUM", "MINIMUM", "SELECT", "SELECT_V2")
#: Operators that are one more operator away from a root: a norm adds up squares.
_SQUARES = ("SQUARE", "MUL", "SQUARED_DIFFERENCE")


@dataclass
class Numbers:
    """What a file's values reach on some inputs, by the name of the tensor: the largest magnitude, the lowest and the
    highest element, and as ``energy`` the largest sum of magnitudes that a reduction of it adds up. ``failed`` says why
    a file did not run."""

    largest: dict[str, float] = field(default_factory=dict)
    lowest: dict[str, float] = field(default_factory=dict)
    highest: dict[str, float] = field(default_factory=dict)
    energy: dict[str, float] = field(default_factory=dict)
    inputs: list[str] = field(default_factory=list)
    failed: str = ""


def measure(
    path: str | Path,
    facts: Facts,
    *,
    images: str | Path | Sequence[str | Path] | None = None,
    picture: Picture | None = None,
    seed: int = 0,
    timeout: float = 300.0,
) -> Numbers:
    """Run the file on TFLite's own kernels with every value kept; on noise, a picture-like input and ``images``."""
    numbers = Numbers()
    if any(n <= 0 for t in facts.inputs for n in t.shape):
        return Numbers(failed="an input has an open shape")
    if any(t.scale for t in facts.inputs):
        return Numbers(failed="the inputs are quantised")
    specs, bounds = [Spec(t.shape, t.dtype) for t in facts.inputs], index_bounds_of_file(tflite_info(path))
    sets = make_inputs(
        specs, seed=seed, images=images, picture=picture, bounds=bounds, kinds=("noise", "natural")
    )  # fmt: skip
    products = {t.name for op in facts.operations if op.code in (*_PRODUCTS, *_SQUARES) for t in op.outputs}

    def run(arrays: Sequence[np.ndarray]) -> RunResult:
        return run_many(path, [arrays], engine="builtin", keep_all=True, timeout=timeout)[0]

    def wild(result: RunResult) -> bool:
        return any(_infinite(a) for name, a in result.tensors.items() if name in products)

    for given in sets:
        name, result = _calmed(given, run(given.arrays), run, wild)
        if result.failed:
            numbers.failed = result.message
            break
        numbers.inputs.append(name)
        _add(numbers, facts, result.tensors)
    return numbers


def _calmed(
    given: InputSet,
    result: RunResult,
    run: Callable[[Sequence[np.ndarray]], RunResult],
    wild: Callable[[RunResult], bool],
) -> tuple[str, RunResult]:
    """A run's result, of the same input with less contrast where ``wild`` says that it left the range of float32.

    What noise takes to infinity says nothing of what a picture reaches. Where less contrast changes nothing the first
    result stands.
    """
    if result.failed or not wild(result):
        return given.name, result
    for share in SHARES:
        calmer = run([less(a, share) for a in given.arrays])
        if not calmer.failed and not wild(calmer):
            return f"{given.name}·{share:g}", calmer
    return given.name, result


def _infinite(array: np.ndarray) -> bool:
    """Whether something in it overflowed: TFLite's own kernels clamp that to the largest float."""
    return array.dtype.kind == "f" and not np.all(np.abs(array) < np.finfo(np.float32).max)


def measure_some(
    graph: Graph,
    watched: Collection[str] = (),
    *,
    largest: float = np.inf,
    images: str | Path | Sequence[str | Path] | None = None,
    picture: Picture | None = None,
    seed: int = 0,
    timeout: float = 300.0,
) -> Numbers:
    """The sums of squares of a lowered graph alone, the results of the ``watched`` TFLite operators and what meets
    constants beyond ``largest``, which are what a rewrite can do something about: a file with these as outputs runs at
    XNNPACK's speed, and a graph without any is not run at all."""
    probe, numbers = graph.copy(), Numbers()
    beside = _beside(probe, largest)
    ends = [*(_results_of(probe, watched) if watched else []), *beside]
    sums = {
        n.inputs[0]: n.op.axes
        for n in probe.nodes
        if isinstance(n.op, ops.ReduceMean | ops.ReduceSum) and n.inputs[0].dtype.startswith("float")
    }
    squares = [n.output for n in probe.nodes if isinstance(n.op, ops.Square | ops.Mul) and n.output in sums]
    probe.outputs = list(dict.fromkeys([*squares, *ends]))
    if not probe.outputs:
        return numbers
    probe.output_names = [f"value{i}" for i in range(len(probe.outputs))]
    probe.prune()
    specs, bounds = [v.spec for v in probe.inputs], index_bounds(probe)
    sets = make_inputs(specs, seed=seed, images=images, picture=picture, bounds=bounds, kinds=("noise", "natural"))
    with tempfile.TemporaryDirectory(prefix="instep-") as folder:
        path = Path(folder) / "values.tflite"
        write(probe, path)

        def run(arrays: Sequence[np.ndarray]) -> RunResult:
            return run_many(path, [arrays], timeout=timeout)[0]

        def wild(result: RunResult) -> bool:
            return any(map(_infinite, result.outputs))

        for given, first in zip(sets, run_many(path, [s.arrays for s in sets], timeout=timeout), strict=True):
            name, result = _calmed(given, first, run, wild)
            numbers.failed = numbers.failed or result.message if result.failed else numbers.failed
            for value, array in zip(probe.outputs, result.outputs, strict=False):
                _reach(numbers, value.name, array)
                if value in beside and array.size:
                    numbers.largest[value.name] = max(numbers.largest.get(value.name, 0.0), float(np.abs(array).max()))
                if value not in sums:
                    continue
                total = float(np.abs(array.astype(np.float64)).sum(sums[value]).max(initial=0.0))
                numbers.energy[value.name] = max(numbers.energy.get(value.name, 0.0), total)
            numbers.inputs.append(name)
    return numbers


def _results_of(graph: Graph, watched: Collection[str]) -> list[Value]:
    """What the nodes compute that become one of these TFLite operators."""
    found = (op.node for op in facts_of_graph(graph).operations if op.code in watched)
    return [v for node in found if node is not None for v in node.outputs if v.dtype.startswith("float")]


def _beside(graph: Graph, largest: float) -> list[Value]:
    """The computed values that meet constants beyond ``largest``, as scores meet a mask."""
    made = graph.producers()
    nodes = [n for n in graph.nodes if any(beyond(a, largest) for a in bounds_of(n, graph.weights.get))]
    return [v for n in nodes for v in n.inputs if v in made and v.dtype.startswith("float")]


def note(facts: Facts, numbers: Numbers) -> Facts:
    """The facts with what each tensor's values reach, for rules to read."""
    for tensor in facts.tensors:
        if not tensor.constant and tensor.name in numbers.lowest:
            tensor.lowest, tensor.highest = numbers.lowest[tensor.name], numbers.highest[tensor.name]
    return facts


def _reach(numbers: Numbers, name: str, array: np.ndarray) -> None:
    finite = array[np.isfinite(array)]
    if array.dtype.kind == "f" and finite.size:
        least, most = float(finite.min()), float(finite.max())
        numbers.lowest[name] = min(numbers.lowest.get(name, least), least)
        numbers.highest[name] = max(numbers.highest.get(name, most), most)


def _add(numbers: Numbers, facts: Facts, tensors: Mapping[str, np.ndarray]) -> None:
    for name, array in tensors.items():
        _reach(numbers, name, array)
        if array.dtype.kind == "f" and array.size:
            finite = np.abs(array[np.isfinite(array)])
            numbers.largest[name] = max(numbers.largest.get(name, 0.0), float(finite.max(initial=0.0)))
    for op in facts.operations:
        total, source = _sum(op, tensors), op.inputs[0] if op.inputs else None
        if total is not None and source is not None:
            numbers.energy[source.name] = max(numbers.energy.get(source.name, 0.0), total)


def _sum(op: Operation, tensors: Mapping[str, np.ndarray]) -> float | None:
    """The largest sum of magnitudes that a reduction adds up."""
    if op.code not in _SUMS or len(op.inputs) < 2:
        return None
    source, axes = op.inputs[0], op.inputs[1]
    if source is None or axes is None or axes.array is None or source.name not in tensors:
        return None
    array = tensors[source.name]
    if array.dtype.kind != "f" or not array.size:
        return None
    chosen = tuple(int(a) for a in axes.array.reshape(-1))
    return float(np.abs(array.astype(np.float64)).sum(chosen).max(initial=0.0))


def check_numbers(facts: Facts, profile: Profile, numbers: Numbers) -> list[Violation]:
    """What overflows or vanishes on the target, as violations; none when the profile states no limits."""
    limits = profile.limits
    return [] if limits is None else list(_beyond(facts, profile, limits, numbers))


def _beyond(facts: Facts, profile: Profile, limits: Limits, numbers: Numbers) -> Iterator[Violation]:
    makers = {t.index: op for op in facts.operations for t in op.outputs}

    def violation(op: Operation, tensor: str, message: str, clears: tuple[str, ...]) -> Violation:
        return Violation(
            profile.name, limits.code, limits.severity, level_of(limits.severity, profile.fallback), op.scope, op.code,
            op.index, tensor, message, clears, limits.source, op.node,
            origin=op.origin,
        )  # fmt: skip

    on = f"on {', '.join(numbers.inputs)}"
    for op in facts.operations:
        for tensor in op.outputs:
            value = numbers.largest.get(tensor.name, 0.0)
            if value > limits.largest:
                clears = ("scale-before-square",) if _squares(op) else ()
                clears = ("clamp-mask",) if any(_overflows(t, limits) for t in op.inputs) else clears
                message = f"reaches {value:.3g} {on}; beyond {limits.largest:g} is infinity"
                yield violation(op, tensor.name, message, clears)
        source = op.inputs[0] if op.code in _SUMS and op.inputs else None
        total = numbers.energy.get(source.name, 0.0) if source is not None else 0.0
        if total > limits.largest:
            maker = makers.get(source.index) if source is not None else None
            squares = maker is not None and _squares(maker)
            what = "squares" if squares else "magnitudes"
            message = f"adds up {what} to {total:.3g} {on}; float16 ends at {limits.largest:g}"
            if squares and maker is not None:
                yield violation(maker, maker.outputs[0].name, message, ("scale-before-square",))
            else:
                yield violation(op, op.outputs[0].name, message, ("split-mean",))
    for op, tensor, message in _vanishing(facts.operations, limits):
        yield violation(op, tensor, message, ())
    for op, tensor, message in _overflowing(facts.operations, limits):
        if numbers.largest.get(tensor, 0.0) <= limits.largest:  # else said above
            yield violation(op, tensor, message, ("clamp-mask",))


def _squares(op: Operation) -> bool:
    """Does it square a value? A product does where both factors are one tensor."""
    return op.code in _SQUARES and (op.code != "MUL" or op.inputs[0] is op.inputs[1])


def _overflowing(operations: Iterable[Operation], limits: Limits) -> Iterator[tuple[Operation, str, str]]:
    """A finite constant that is infinity in float16, as -1e30 in a mask: rows that it fills come out as NaN."""
    for op in operations:
        if op.code not in _ELEMENTWISE:
            continue
        for tensor in op.inputs:
            if tensor is not None and tensor.array is not None and _overflows(tensor, limits):
                value = float(np.max(np.abs(tensor.array), initial=0.0, where=np.isfinite(tensor.array)))
                message = f"the constant '{tensor.name}' reaches {value:.3g}, which is infinity in float16"
                yield op, op.outputs[0].name, message


def _overflows(tensor: Tensor | None, limits: Limits) -> bool:
    return tensor is not None and beyond(tensor.array, limits.largest)


def _vanishing(operations: Iterable[Operation], limits: Limits) -> Iterator[tuple[Operation, str, str]]:
    """An eps that float16 rounds to nothing guards no division."""
    for op in operations:
        if op.code not in ("ADD", "MAXIMUM"):
            continue
        for tensor in op.inputs:
            if tensor is None or tensor.array is None or tensor.array.size != 1 or tensor.array.dtype.kind != "f":
                continue
            value = abs(float(tensor.array.reshape(-1)[0]))
            if 0 < value < limits.smallest:
                message = f"the constant {value:.3g} is 0 in float16, whose least number is {limits.smallest:g}"
                yield op, op.outputs[0].name, message
