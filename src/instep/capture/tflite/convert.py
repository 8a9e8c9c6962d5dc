"""TfliteFile → Graph: runs the handler of each operator, and names, types and bounds what it made."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from instep.capture.base import CaptureError
from instep.capture.tflite import handlers
from instep.capture.tflite.builder import Builder
from instep.capture.tflite.control import CONTROL, RESOURCE
from instep.capture.tflite.custom import Decode
from instep.capture.tflite.file import Operation, Subgraph, Tensor, TfliteFile
from instep.capture.tflite.refusals import why_not
from instep.capture.tflite.registry import HANDLERS, Unsupported
from instep.capture.tflite.remarks import remarks
from instep.capture.tflite.saturation import Saturation
from instep.capture.tflite.scopes import MADE_UP, name_weights, scopes_of
from instep.graph import Graph, GraphError, Node, SourceView, Value, ops
from instep.graph.operator import Spec
from instep.tflite_tables import origins_within

__all__ = ["convert"]

handlers.load()

#: Integer arithmetic on constants (shapes, indices) is done at once while its results stay below this many bytes.
FOLD_LIMIT = 1 << 24
#: Subgraphs inside subgraphs, and operators in all.
_MAX_DEPTH, _MAX_OPERATORS = 8, 1 << 17
_HELD = {"float32", "int8", "uint8", "int16", "int32", "int64", "bool"}
#: Operators that take complex tensors, as pairs.
_COMPLEX = {"RESHAPE", "TRANSPOSE", "REAL", "IMAG", "COMPLEX_ABS", "MUL"}
#: What reading an untrusted file, or an operator whose fields contradict each other, may raise.
_FAULTS = (
    GraphError, ValueError, TypeError, IndexError, KeyError, AttributeError, OverflowError, ZeroDivisionError,
    AssertionError, struct.error, MemoryError,
)  # fmt: skip
#: Operators that only move what they are given: on constants they are done at once, exactly.
_MOVES = (
    ops.Reshape, ops.Permute, ops.Slice, ops.Concat, ops.Pad, ops.Expand, ops.Flip, ops.Gather, ops.Cast,
)  # fmt: skip


def convert(file: TfliteFile, specs: Mapping[int, Spec] | None = None) -> tuple[Graph, dict[str, int], list[str]]:
    """The graph of the file's main subgraph, its values' tensor indices by name, and notes for the user.

    ``specs`` gives input tensors (by index) other shapes where the file leaves them open. Raises CaptureError.
    """
    return _Converter(file).run(dict(specs or {}))


class _Converter:
    def __init__(self, file: TfliteFile) -> None:
        self.file = file
        self.graph = Graph()
        self.build = Builder(self.graph)
        self.build.subgraphs = [[o.name for o in s.operations] for s in file.subgraphs]
        self.saturation = Saturation(self.build)
        self.tensors: dict[str, int] = {}
        self.notes: list[str] = []
        self.reshaped: list[str] = []
        self.constants: dict[tuple[int, int], Value] = {}
        self.variables: dict[str, Value] = {}
        #: variable tensors that an operator has written to
        self.written: set[tuple[int, int]] = set()
        #: names of the main subgraph's tensors that no Value has yet: a tensor of another one does not take them
        self.free = {t.name for t in file.subgraphs[0].tensors}
        self.build.names |= self.free
        self.depth = 0
        self.entered = False
        self.folded = 0
        self.count = 0
        self.ours = bool(file.instep)
        self.scopes = {} if self.ours else scopes_of(file)
        self.origins = origins_within(file.instep)

    def run(self, specs: dict[int, Spec]) -> tuple[Graph, dict[str, int], list[str]]:
        main, graph = self.file.subgraphs[0], self.graph
        values: dict[int, Value] = {}
        for index, name in zip(main.inputs, self.file.input_names, strict=True):
            if index in values:
                raise CaptureError(f"{self.file.path}: tensor '{main.tensors[index].name}' is an input twice")
            value = self.input(main.tensors[index], specs.get(index), name)
            values[index] = value
            graph.inputs.append(value)
        graph.input_names = _distinct(self.file.input_names)
        self.walk(0, values)
        for index in main.outputs:
            tensor = main.tensors[index]
            if tensor.complex or tensor.dtype == RESOURCE:
                raise CaptureError(f"{self.file.path}: output '{tensor.name}' is {tensor.dtype}")
            graph.outputs.append(self.read(0, index, values, "the network's outputs"))
        if self.entered or self.written:
            graph.prune()
        if not self.ours:
            name_weights(graph, self.build.names)
        # shapes, and kernels in the file's own order, have been read and are no part of the network
        read = {v for node in graph.nodes for v in node.inputs} | set(graph.outputs)
        for value in [v for v in graph.weights if v not in read]:
            del graph.weights[value]
        graph.output_names = _distinct(self.file.output_names)
        state = len(self.variables) or len(self.written)
        self.notes += remarks(self.file, self.reshaped, state)
        return graph, self.tensors, self.notes

    def input(self, tensor: Tensor, spec: Spec | None, name: str) -> Value:
        if min(tensor.shape, default=1) < 1 and spec is None:
            raise CaptureError(
                f"{self.file.path}: input '{name}' has the open shape {list(tensor.shape)}; give its sizes with --input"
            )
        sizes = spec.shape if spec is not None else tensor.shape
        if min(sizes, default=1) < 1:
            raise CaptureError(f"{self.file.path}: input '{name}' cannot have the shape {list(sizes)}")
        self.hold(tensor)
        if tensor.complex:
            raise CaptureError(f"{self.file.path}: input '{name}' is {tensor.dtype}, which Instep does not handle")
        value = Value(self.named(0, tensor.name or name or "input"), sizes, tensor.meaning)
        value.source = SourceView.whole(value.name, value.shape)
        self.tensors[value.name] = tensor.index
        return value

    def hold(self, tensor: Tensor) -> None:
        """Refuse what a Graph's values cannot be."""
        if tensor.meaning not in _HELD:
            raise CaptureError(
                f"{self.file.path}: tensor '{tensor.name}' is {tensor.dtype}, which Instep does not handle"
            )

    def named(self, number: int, name: str) -> str:
        """A name that no Value has, for a tensor of subgraph ``number``: its own where that is possible."""
        if number or name not in self.free:
            return self.build.unique(name)
        self.free.discard(name)
        return name

    # -- reading -------------------------------------------------------------------------------------------------
    def read(self, number: int, index: int, values: dict[int, Value], who: str) -> Value:
        """The Value of tensor ``index`` of subgraph ``number``; constants enter the graph when they are first read."""
        tensor = self.file.subgraphs[number].tensors[index]
        if (number, index) in self.written:
            raise CaptureError(f"{self.file.path}: {who} read '{tensor.name}', the state that an operator has changed")
        if index in values:
            return values[index]
        known = self.constants.get((number, index))
        if known is not None:
            return known
        if not tensor.span[1] and 0 not in tensor.shape and not tensor.variable:
            raise CaptureError(
                f"{self.file.path}: {who} read tensor {index} '{tensor.name}', which nothing before them makes"
            )
        value = self.constants[number, index] = self.constant(number, tensor)
        return value

    def constant(self, number: int, tensor: Tensor) -> Value:
        self.hold(tensor)
        if tensor.sparse:
            raise CaptureError(f"{self.file.path}: constant '{tensor.name}' is sparse, which Instep does not read")
        try:
            # a variable tensor is all zeros before the first run
            array = self.file.raw(tensor) if tensor.span[1] else np.zeros(tensor.shape, tensor.meaning)
            if tensor.quantized and tensor.span[1]:
                array = _dequantized(tensor, array)
            elif array.dtype != tensor.meaning:
                array = array.astype(tensor.meaning)
        except _FAULTS as error:
            raise CaptureError(f"{self.file.path}: constant '{tensor.name}': {error}") from None
        name = tensor.name or f"constant{tensor.index}"
        # a name with a "/" is no weight that is trained
        if tensor.variable:
            name = f"{name}/start"
        elif MADE_UP.fullmatch(name):
            name = f"constant/{name}"
        return self.graph.constant(array, self.named(number, name))

    # -- translating ---------------------------------------------------------------------------------------------
    def walk(self, number: int, values: dict[int, Value]) -> None:
        """Capture every operator of subgraph ``number``; ``values`` holds its inputs and gains what is made."""
        subgraph = self.file.subgraphs[number]
        for operation in subgraph.operations:
            self.step()
            results = self.translate(number, operation, values)
            for index, value in zip(operation.outputs, results, strict=False):
                if index == -1:
                    continue
                if index in values or subgraph.tensors[index].span[1]:
                    tensor = subgraph.tensors[index]
                    raise CaptureError(f"{self.place(subgraph, operation)} makes '{tensor.name}' a second time")
                values[index] = self.settle(number, subgraph.tensors[index], value, operation)

    def step(self) -> None:
        """One more of what a file may have this many of, whatever it repeats. Raises CaptureError."""
        self.count += 1
        if self.count > _MAX_OPERATORS:
            raise CaptureError(f"{self.file.path}: more than {_MAX_OPERATORS} operators")

    def translate(self, number: int, operation: Operation, values: dict[int, Value]) -> Sequence[Value]:
        subgraph, build = self.file.subgraphs[number], self.build
        place = self.place(subgraph, operation)
        if not operation.outputs and operation.name not in CONTROL:
            raise CaptureError(f"{place} has no output: {why_not(operation.name)}")
        first = subgraph.tensors[operation.outputs[0]] if max(operation.outputs[:1], default=-1) >= 0 else None
        name = (first.name if first is not None else "") or f"{operation.name.lower()}{operation.index}"
        build.stem = name
        build.scope = (name.rpartition("/")[0] if self.ours else self.scopes.get((number, operation.index), "")) or name
        build.origin = self.origins.get(name) or f"{self.file.label}:{operation.index}"
        build.declared = [subgraph.tensors[i] for i in operation.outputs]
        inputs = [None if i < 0 else self.read(number, i, values, place) for i in operation.inputs]
        try:
            tensors = [subgraph.tensors[i] for i in operation.inputs if i >= 0]
            result = self.meaning(operation, inputs, tensors, place)
            if operation.name not in CONTROL and len(result) == 1:
                result = [self.saturation.of(number, operation, tensors, result[0])]
        except Unsupported as error:
            raise CaptureError(f"{place} is not supported here: {error}") from None
        except CaptureError:
            raise
        except _FAULTS as error:
            raise CaptureError(f"{place} could not be captured: {_said(error)}") from error
        if operation.keeps_state:
            self.written |= {(number, i) for i in operation.inputs if i >= 0 and subgraph.tensors[i].variable}
        return result

    def meaning(
        self, operation: Operation, inputs: list[Value | None], tensors: Sequence[Tensor], place: str
    ) -> Sequence[Value]:
        """The Values that the operator makes of ``inputs``, the Values of ``tensors``."""
        control = CONTROL.get(operation.name)
        if control is not None:
            return control(self, operation, inputs)
        for tensor in self.build.declared:
            self.hold(tensor)
        handler = HANDLERS.get(operation.name)
        if handler is None:
            raise CaptureError(f"{place} is not an operator that Instep captures: {why_not(operation.name)}")
        if any(t.dtype == RESOURCE or (t.complex and operation.name not in _COMPLEX) for t in tensors):
            raise Unsupported("it computes with complex numbers, or with the handle of a variable")
        while inputs and inputs[-1] is None:
            inputs.pop()
        count = len(self.graph.nodes)
        if not handler.takes(self.build, *inputs):
            raise Unsupported(f"its {len(inputs)} inputs are not those that it needs")
        self.build.options = self.options(handler.options, operation)
        with np.errstate(all="ignore"):  # options may be any numbers
            result = handler.function(self.build, *inputs)
        self.fold(count)
        return result if isinstance(result, tuple) else (result,)

    def options(self, name: str | Decode, operation: Operation) -> Any:
        """The schema's reader of the operator's options, on a table that is known to lie inside the file, or what a
        custom operator's bytes say."""
        if not isinstance(name, str):
            start, count = operation.custom
            return name(bytes(self.file.data[start : start + count]))
        # the second union is from when the first was full
        first = hasattr(schema.BuiltinOptions, name)
        kinds = schema.BuiltinOptions if first else schema.BuiltinOptions2
        kind, at = operation.options if first else operation.options2
        if not name or not at:
            return None
        if kind != getattr(kinds, name):
            raise Unsupported(f"its options are of kind {kind}, not {name}")
        options = getattr(schema, name)()
        options.Init(self.file.data, at)
        return options

    def enter(self, number: int, inputs: Sequence[Value | None], count: int) -> list[Value]:
        """See ``control.Walker``."""
        if not 0 < number < len(self.file.subgraphs) or self.depth >= _MAX_DEPTH:
            raise Unsupported(f"it stands for subgraph {number} of {len(self.file.subgraphs)}, {self.depth} deep")
        inner = self.file.subgraphs[number]
        if len(inner.inputs) != len(inputs) or len(inner.outputs) != count:
            raise Unsupported(f"it does not fit the subgraph '{inner.name}' that it stands for")
        values = {index: value for index, value in zip(inner.inputs, inputs, strict=True) if value is not None}
        self.step()  # a loop's body may have no operators
        self.entered, self.depth = True, self.depth + 1
        self.walk(number, values)
        self.depth -= 1
        return [self.read(number, index, values, f"the outputs of subgraph '{inner.name}'") for index in inner.outputs]

    def fold(self, count: int) -> None:
        """Do what the new nodes do to constants at once, where that is exact: moves, and arithmetic of integers. What
        has no elements is a constant, too: a loop's list, before its first element and after its last."""
        nodes, weights = self.graph.nodes, self.graph.weights
        kept = []
        for node in nodes[count:]:
            size = sum(v.nbytes for v in node.outputs)
            if not size:
                weights.update((v, np.zeros(v.shape, v.dtype)) for v in node.outputs)
                continue
            if any(not v.size for v in node.inputs):
                raise Unsupported("it computes with an empty tensor")
            if not _exact(node) or any(v not in weights for v in node.inputs) or size + self.folded > self.room():
                kept.append(node)
                continue
            self.folded += size
            with np.errstate(all="ignore"):
                results = node.op.evaluate(*(weights[v] for v in node.inputs))
            for value, array in zip(node.outputs, results, strict=True):
                weights[value] = np.asarray(array, order="C").astype(value.dtype, copy=False)
        nodes[count:] = kept

    def room(self) -> int:
        return FOLD_LIMIT + 2 * len(self.file.data)

    def settle(self, number: int, tensor: Tensor, value: Value, operation: Operation) -> Value:
        """Give a result its tensor's dtype and name, and the source view of what it is."""
        if value.dtype == RESOURCE:
            return value
        want = tensor.meaning
        if value.dtype != want:
            if "bool" in (value.dtype, want) or np.dtype(value.dtype).kind != np.dtype(want).kind:
                place = self.place(self.file.subgraphs[number], operation)
                raise CaptureError(f"{place} makes {value.dtype}, but its tensor is declared {want}")
            value = self.build.cast(value, want)
        if value.shape != tensor.shape and not tensor.complex and -1 not in tensor.signature:
            self.reshaped.append(tensor.name)
        if value in self.graph.weights or value.source is not None or not tensor.name:
            return value
        self.build.names.discard(value.name)
        value.name = self.named(number, tensor.name)
        if tensor.complex or tensor.variable:
            return value  # LiteRT shows complex numbers, or what a later operator leaves there
        value.source = SourceView.whole(value.name, value.shape)
        if number == 0:
            self.tensors[value.name] = tensor.index
        return value

    # -- messages ------------------------------------------------------------------------------------------------
    def place(self, subgraph: Subgraph, operation: Operation) -> str:
        name = next((subgraph.tensors[i].name for i in operation.outputs if i >= 0), "")
        return f"{operation.name} '{name[:120]}' ({self.file.label}:{operation.index})"


def _exact(node: Node) -> bool:
    if isinstance(node.op, _MOVES):
        return True
    integers = all(np.dtype(v.dtype).kind in "iub" for v in (*node.inputs, *node.outputs))
    return integers and (node.op.elementwise or isinstance(node.op, ops.REDUCTIONS))


def _dequantized(tensor: Tensor, stored: np.ndarray) -> np.ndarray:
    """(stored - zero point) · scale, per tensor or along one axis."""
    scale, zero = tensor.scale.astype(np.float32), tensor.zero_point.astype(np.float32)
    if zero.size == 0:
        zero = np.zeros(1, np.float32)
    if scale.size > 1:
        if not 0 <= tensor.axis < stored.ndim or scale.size != stored.shape[tensor.axis]:
            raise ValueError(f"{scale.size} scales do not fit axis {tensor.axis} of {list(stored.shape)}")
        along = [-1 if a == tensor.axis else 1 for a in range(stored.ndim)]
        scale = scale.reshape(along)
        zero = zero.reshape(along) if zero.size > 1 else zero
    with np.errstate(all="ignore"):
        return ((stored.astype(np.float32) - zero) * scale).astype(np.float32).reshape(stored.shape)


def _said(error: BaseException) -> str:
    text = str(error).splitlines()
    return f"{text[0][:300] if text else type(error).__name__}"


def _distinct(names: Sequence[str]) -> list[str]:
    """``names`` with what came before numbered on."""
    seen: set[str] = set()
    result = []
    for name in names:
        unique, i = name, 1
        while unique in seen:
            unique, i = f"{name}.{i}", i + 1
        seen.add(unique)
        result.append(unique)
    return result
