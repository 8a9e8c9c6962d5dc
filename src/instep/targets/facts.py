"""What a TFLite file is made of, as the rules of a target see it: operators with their operands and options.

Read from a file of any origin, or from a lowered graph through the emitter itself, so that a graph and the file that
it becomes give the same facts.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from instep.emit.tflite import LOWERINGS, EmitError
from instep.emit.tflite.writer import Writer
from instep.graph import Graph, Node
from instep.runtime import TFLiteInfo
from instep.targets.profile import PERSONAL
from instep.tflite_tables import operator_names, type_names

__all__ = [
    "OPERANDS",
    "Facts",
    "Operation",
    "Tensor",
    "as_float",
    "as_quantised",
    "facts_of_file",
    "facts_of_graph",
    "option_names",
    "options_class",
    "quantised",
]

#: Constants of up to so many elements are shown to rules, as ``values``.
FEW = 64

#: Larger constants are not looked through for other numbers than 0.
MANY = 65536

#: How rules name the inputs of an operator; others are reached as ``inputs[i]``. ``x`` is input 0 where not named.
OPERANDS: dict[str, tuple[str, ...]] = {
    "CONV_2D": ("x", "filter", "bias"), "DEPTHWISE_CONV_2D": ("x", "filter", "bias"),
    "CONV_3D": ("x", "filter", "bias"), "FULLY_CONNECTED": ("x", "filter", "bias"),
    "TRANSPOSE_CONV": ("size", "filter", "x", "bias"), "GATHER": ("x", "indices"), "GATHER_ND": ("x", "indices"),
    "PAD": ("x", "paddings"), "PADV2": ("x", "paddings", "fill"), "MIRROR_PAD": ("x", "paddings"),
    "TRANSPOSE": ("x", "perm"), "RESHAPE": ("x", "size"), "RESIZE_BILINEAR": ("x", "size"),
    "RESIZE_NEAREST_NEIGHBOR": ("x", "size"), "SLICE": ("x", "begin", "size"),
    "STRIDED_SLICE": ("x", "begin", "end", "strides"), "SPLIT": ("axis", "x"), "SPLIT_V": ("x", "sizes", "axis"),
    "PRELU": ("x", "alpha"), "SELECT": ("condition", "chosen", "other"), "SELECT_V2": ("condition", "chosen", "other"),
    "ONE_HOT": ("x", "depth", "on", "off"), "CUMSUM": ("x", "axis"), "TILE": ("x", "multiples"),
    "ARG_MAX": ("x", "axis"), "ARG_MIN": ("x", "axis"), "REVERSE_V2": ("x", "axes"), "TOPK_V2": ("x", "k"),
    "BROADCAST_TO": ("x", "size"), "BATCH_MATMUL": ("a", "b"), "BATCH_TO_SPACE_ND": ("x", "block", "crops"),
    "SPACE_TO_BATCH_ND": ("x", "block", "paddings"),
    **{code: ("x", "axes") for code in (
        "MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN", "REDUCE_PROD", "REDUCE_ANY", "REDUCE_ALL")},
    **{code: ("a", "b") for code in (
        "ADD", "SUB", "MUL", "DIV", "POW", "MAXIMUM", "MINIMUM", "FLOOR_DIV", "FLOOR_MOD", "SQUARED_DIFFERENCE",
        "ATAN2", "EQUAL", "NOT_EQUAL", "LESS", "LESS_EQUAL", "GREATER", "GREATER_EQUAL", "LOGICAL_AND",
        "LOGICAL_OR")},
}  # fmt: skip

_CLASSES = {name.lower(): name for name in vars(schema) if name.endswith("OptionsT")}
_IRREGULAR = {
    "MEAN": "ReducerOptionsT", "SUM": "ReducerOptionsT", "REDUCE_MAX": "ReducerOptionsT",
    "REDUCE_MIN": "ReducerOptionsT", "REDUCE_PROD": "ReducerOptionsT", "REDUCE_ANY": "ReducerOptionsT",
    "REDUCE_ALL": "ReducerOptionsT", "AVERAGE_POOL_2D": "Pool2DOptionsT", "MAX_POOL_2D": "Pool2DOptionsT",
    "L2_POOL_2D": "Pool2DOptionsT", "MAXIMUM": "MaximumMinimumOptionsT", "MINIMUM": "MaximumMinimumOptionsT",
    "L2_NORMALIZATION": "L2NormOptionsT", "LOCAL_RESPONSE_NORMALIZATION": "LocalResponseNormalizationOptionsT",
}  # fmt: skip
_ENUMS = {
    "fused_activation_function": schema.ActivationFunctionType,
    "padding": schema.Padding,
    "in_data_type": schema.TensorType,
    "out_data_type": schema.TensorType,
    "output_type": schema.TensorType,
    "weights_format": schema.FullyConnectedOptionsWeightsFormat,
}


@dataclass(eq=False)
class Tensor:
    """One tensor. ``array`` is the constant behind it (None: computed, or a constant that cannot be read); ``open``:
    the file leaves a size to whoever runs it, and ``shape`` is what it has until then; ``maker``: the operator that
    computes it; ``lowest``, ``highest``: what its values reach in real runs (None: not measured)."""

    index: int
    name: str
    shape: tuple[int, ...]
    dtype: str
    constant: bool
    array: np.ndarray | None = None
    scale: tuple[float, ...] = ()
    zero_point: tuple[int, ...] = ()
    open: bool = False
    maker: str = ""
    lowest: float | None = None
    highest: float | None = None

    @functools.cached_property
    def kind(self) -> tuple[Any, ...]:
        """The fields that tensors which are alike have in common, in order."""
        return tuple(value for field, value in self.record.items() if field not in PERSONAL)

    @functools.cached_property
    def record(self) -> Mapping[str, Any]:
        """The fields that rules read."""
        few = self.array is not None and self.array.size <= FEW
        return {
            "index": self.index,
            "name": self.name,
            "shape": self.shape,
            "rank": len(self.shape),
            "dtype": self.dtype,
            "constant": self.constant,
            "open": self.open,
            "maker": self.maker,
            "lowest": self.lowest,
            "highest": self.highest,
            "zero": self.array is not None and self.array.size <= MANY and not self.array.any(),
            "size": int(np.prod(self.shape, dtype=np.int64)) if min(self.shape, default=0) >= 0 else -1,
            "values": _tuples(self.array) if few and self.array is not None else None,
            "quantized": bool(self.scale),
            "scales": len(self.scale),
            "scale": self.scale[0] if self.scale else None,
            "zero_point": self.zero_point[0] if self.zero_point else None,
        }


@dataclass(eq=False)
class Operation:
    """One operator of the file; ``node`` is the graph's node that became it, where there is one, ``line`` what the file
    itself says of its source."""

    index: int
    code: str
    version: int
    inputs: list[Tensor | None]
    outputs: list[Tensor]
    options: Mapping[str, Any]
    node: Node | None = None
    line: str = ""

    @property
    def origin(self) -> str:
        """The source line that it comes from; "" where nothing tells."""
        return self.node.origin if self.node is not None else self.line

    @property
    def scope(self) -> str:
        """How people know the operator: its node's scope, else its first output's name."""
        if self.node is not None and self.node.scope:
            return self.node.scope
        return self.outputs[0].name if self.outputs else f"operator {self.index}"

    @property
    def kind(self) -> tuple[Any, ...]:
        """What operators that are alike have in common, and which of their operands are one tensor."""
        held = (*self.inputs, *self.outputs)
        first: dict[int, int] = {}
        same = tuple(t and first.setdefault(t.index, i) for i, t in enumerate(held))
        kinds = tuple(t.kind if t is not None else None for t in held)
        return self.code, self.version, tuple(self.options.items()), len(self.inputs), kinds, same

    def environment(self, model: Mapping[str, Any]) -> dict[str, Any]:
        """What the expressions of a rule read about this operator."""
        given = [t.record if t is not None else None for t in self.inputs]
        shown: dict[str, Any] = {
            "op": self.code,
            "version": self.version,
            "inputs": tuple(r for r in given if r is not None),
            "outputs": tuple(t.record for t in self.outputs),
            "y": self.outputs[0].record if self.outputs else None,
            "options": self.options,
            "computed": sum(r is not None and not r["constant"] for r in given),
            "constants": sum(r is not None and r["constant"] for r in given),
            "model": model,
        }
        names = OPERANDS.get(self.code, ("x",))
        shown.update({name: given[i] if i < len(given) else None for i, name in enumerate(names)})
        return shown


@dataclass
class Facts:
    """A whole file (or the file that a graph would become)."""

    name: str
    tensors: list[Tensor]
    operations: list[Operation]
    inputs: list[Tensor]
    outputs: list[Tensor]
    subgraphs: int = 1
    model: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        first = self.inputs[0].shape if self.inputs else ()
        given, made = {t.index for t in self.inputs}, [t.index for t in self.outputs]
        self.model = {
            "batch": first[0] if first else 1,
            "subgraphs": self.subgraphs,
            "operators": len(self.operations),
            "passed": sum(i in given for i in made),
            "repeated": len(made) - len(set(made)),
            "fixed": sum(t.constant for t in self.outputs),
        }
        for op in self.operations:
            for tensor in op.outputs:
                tensor.maker = op.code


def facts_of_file(info: TFLiteInfo) -> Facts:
    """The facts of a file that ``tflite_info`` has read."""
    made = {i for op in info.ops for i in op.outputs}
    tensors = []
    for tensor in info.tensors:
        constant = tensor.constant_bytes > 0 and tensor.index not in made
        array = info.constant(tensor.index) if constant else None
        left_open = any(n < 0 for n in (*tensor.open_shape, *tensor.shape))
        tensors.append(
            Tensor(
                tensor.index, tensor.name, tensor.shape, tensor.dtype, constant, array, tensor.scale,
                tensor.zero_point, left_open,
            )
        )  # fmt: skip
    operations = [
        Operation(
            i,
            op.name,
            op.version,
            [tensors[t] if t >= 0 else None for t in op.inputs],
            [tensors[t] for t in op.outputs if t >= 0],
            _options(op.name, op.options),
            line=info.origin(op),
        )
        for i, op in enumerate(info.ops)
    ]
    ends = ([tensors[i] for i in port if i >= 0] for port in (info.inputs, info.outputs))
    return Facts(info.path, tensors, operations, *ends, subgraphs=info.subgraphs)


def facts_of_graph(graph: Graph, name: str = "") -> Facts:
    """The facts of the file that the lowered ``graph`` becomes, by way of the emitter but without writing anything.

    Raises EmitError when a node has no TFLite form.
    """
    writer = Writer(graph)
    ports = [writer.tensor(v) for v in graph.inputs]
    owners: list[Node] = []
    for node in graph.nodes:
        lowering = LOWERINGS.get(type(node.op))
        if lowering is None:
            raise EmitError(f"{node.describe()}: TFLite has no such operator; run the rewrite 'lower' first")
        lowering(writer, node)
        owners += [node] * (len(writer.operators) - len(owners))
    results = [writer.tensor(v) for v in graph.outputs]
    tensors = [_written(writer, i) for i in range(len(writer.tensors))]
    codes = writer.codes
    operations = []
    for i, (op, node) in enumerate(zip(writer.operators, owners, strict=True)):
        number, version = codes[op.opcodeIndex]
        code = operator_names()[number]
        inputs: list[Tensor | None] = [tensors[t] if t >= 0 else None for t in op.inputs]
        outputs = [tensors[t] for t in op.outputs]
        operations.append(Operation(i, code, version, inputs, outputs, _options(code, op.builtinOptions), node))
    return Facts(name, tensors, operations, [tensors[i] for i in ports], [tensors[i] for i in results])


def as_quantised(facts: Facts) -> Facts:
    """The same facts with every real tensor in eight bits (biases in 32), as a later quantisation makes them."""
    biases = {t.index for op in facts.operations for t in _called(op, "bias")}
    return _retyped(facts, lambda t: quantised(t, "int32" if t.index in biases else "int8"))


def as_float(facts: Facts) -> Facts:
    """The same facts with every real tensor in float32, as Instep reads a quantised file."""
    return _retyped(facts, lambda t: replace(t, dtype="float32", scale=(), zero_point=()))


def quantised(tensor: Tensor, dtype: str = "int8") -> Tensor:
    """The real tensor as a quantisation makes it."""
    return replace(tensor, dtype=dtype, scale=(1.0,), zero_point=(0,))


def _retyped(facts: Facts, change: Callable[[Tensor], Tensor]) -> Facts:
    """A copy whose real tensors (floats, and integers with a scale) are changed."""
    tensors = {t.index: change(t) if t.scale or t.dtype.startswith("float") else replace(t) for t in facts.tensors}

    def those(given: Sequence[Tensor]) -> list[Tensor]:
        return [tensors[t.index] for t in given]

    operations = [
        replace(op, inputs=[t and tensors[t.index] for t in op.inputs], outputs=those(op.outputs))
        for op in facts.operations
    ]
    return Facts(
        facts.name, list(tensors.values()), operations, those(facts.inputs), those(facts.outputs), facts.subgraphs
    )


def _called(op: Operation, name: str) -> list[Tensor]:
    """The inputs of an operator that rules know by ``name``."""
    return [t for t, n in zip(op.inputs, OPERANDS.get(op.code, ()), strict=False) if n == name and t is not None]


def _written(writer: Writer, index: int) -> Tensor:
    tensor = writer.tensors[index]
    dtype = type_names()[tensor.type]
    shape = tuple(tensor.shape)
    raw = writer.arrays[tensor.buffer] if tensor.buffer else None
    array = None if raw is None else raw.view(dtype).reshape(shape)
    return Tensor(index, tensor.name, shape, dtype, raw is not None, array)


def _tuples(array: np.ndarray) -> Any:
    def frozen(value: Any) -> Any:
        return tuple(map(frozen, value)) if isinstance(value, list) else value

    return frozen(array.tolist())


# -- options ---------------------------------------------------------------------------------------------------------
def _snake(name: str) -> str:
    return "".join("_" + c.lower() if c.isupper() else c for c in name)


@functools.cache
def _enum_names(enum: type) -> dict[int, str]:
    return {v: k for k, v in vars(enum).items() if isinstance(v, int)}


@functools.cache
def options_class(code: str) -> type | None:
    """The schema's class of an operator's options; None where it has none."""
    name = _IRREGULAR.get(code) or _CLASSES.get(code.lower().replace("_", "") + "optionst")
    return getattr(schema, name) if name else None


def option_names(code: str) -> Sequence[str] | None:
    """The options of an operator as rules name them; None for an operator that has none."""
    made = options_class(code)
    return None if made is None else tuple(_option_record(code, made()))


def _options(code: str, given: Any) -> Mapping[str, Any]:
    """The options as a record: schema defaults where the file leaves them out, enumerations by name."""
    made = options_class(code)
    if given is None or (made is not None and not isinstance(given, made)):
        given = made() if made is not None else None
    return {} if given is None else _option_record(code, given)


def _option_record(code: str, given: Any) -> dict[str, Any]:
    record: dict[str, Any] = {}
    for name, value in vars(given).items():
        key = _snake(name)
        enum = schema.MirrorPadMode if (code, key) == ("MIRROR_PAD", "mode") else _ENUMS.get(key)
        if enum is not None and isinstance(value, int | np.integer):
            value = _enum_names(enum).get(int(value), f"unknown {value}")
        elif isinstance(value, np.ndarray | list):
            value = tuple(np.asarray(value).reshape(-1)[:FEW].tolist()) if len(value) else ()
        elif isinstance(value, np.generic):
            value = value.item()
        record[key] = value
    return record
