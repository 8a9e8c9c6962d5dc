"""What is captured from a TFLite file computes what the file computes, whoever wrote it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from instep.api import convert, verify
from instep.capture import CaptureError, capture
from instep.capture.tflite import builder, handlers
from instep.capture.tflite.builder import same_pads
from instep.capture.tflite.control import CONTROL
from instep.capture.tflite.refusals import why_not
from instep.capture.tflite.registry import HANDLERS
from instep.emit.tflite import write
from instep.emit.tflite.metadata import pack
from instep.emit.tflite.writer import Writer
from instep.graph import Graph, Value, ops
from instep.graph.validate import validate
from instep.rewrite.driver import run as rewrite
from instep.rewrite.lower import lower
from instep.runtime import run
from instep.verify.origin import verify_origin
from lowering_cases import CASES
from raw_tflite import raw_tflite
from test_lower_conformance import draw_cases

RNG = np.random.default_rng(7)


def test_every_operator_that_the_emitter_writes_can_be_read() -> None:
    source = "".join(p.read_text() for p in (Path(__file__).parents[1] / "src/instep/emit/tflite").glob("*.py"))
    names = [n for n in vars(schema.BuiltinOperator) if n.isupper() and f'"{n}"' in source]
    handlers.load()
    assert len(names) > 70
    assert set(names) <= set(HANDLERS)


def test_every_operator_of_the_schema_is_read_or_refused_for_a_reason_of_its_own() -> None:
    names = [n for n in vars(schema.BuiltinOperator) if n.isupper()]
    handlers.load()
    refused = {n for n in names if n not in HANDLERS and n not in CONTROL}
    assert len(names) > 200 and len(refused) < 25
    assert not [n for n in refused if "docs/architecture.md" in why_not(n)]


@pytest.mark.parametrize("name", sorted(CASES))
def test_what_is_written_reads_back_as_the_same_function(name: str, tmp_path: Path) -> None:
    file = tmp_path / "net.tflite"
    for graph, inputs in draw_cases(name)[:6]:
        lowered, _ = rewrite(graph, [lower])
        write(lowered, file)
        captured = capture(str(file))
        validate(captured.graph, stage="captured")
        given = [a.astype(np.float64) if a.dtype.kind == "f" else a for a in inputs]
        narrow = [a.astype(np.int32) if a.dtype == np.int64 else a for a in given]
        truth, read = lowered.run(given, keep=()), captured.graph.run(narrow, keep=())
        for a, b in zip(lowered.outputs, captured.graph.outputs, strict=True):
            close(read[b], truth[a], 2e-6, str(captured.graph.nodes))


def close(a: np.ndarray, b: np.ndarray, tolerance: float, what: str) -> None:
    """Equal but for float32 constants: relative to the largest finite value."""
    assert a.shape == b.shape, what
    if a.dtype.kind != "f":
        assert np.array_equal(a, b), what
        return
    # the emitter writes the lowest float where a graph pads with minus infinity
    known, read = (np.isfinite(x) & (np.abs(x) < 3e38) for x in (b, a))
    assert np.array_equal(read, known), what
    size = np.max(np.abs(b[known]), initial=1e-3)
    assert np.max(np.abs(a[known] - b[known]), initial=0.0) <= tolerance * size, what


# -- operators as other tools write them -----------------------------------------------------------------------------
Build = Callable[[Writer, list[int]], Sequence[tuple[str, list[int], Any]]]
INPUT = Value


def file_of(path: Path, inputs: list[np.ndarray], outputs: list[tuple[tuple[int, ...], str]], build: Any) -> Path:
    """A file of what ``build(writer, input tensors, output tensors)`` puts into it."""
    graph = Graph([Value(f"in{i}", a.shape, str(a.dtype)) for i, a in enumerate(inputs)])
    graph.outputs = [Value(f"out{i}", shape, dtype) for i, (shape, dtype) in enumerate(outputs)]
    graph.input_names, graph.output_names = ([v.name for v in side] for side in (graph.inputs, graph.outputs))
    writer = Writer(graph)
    given = [writer.tensor(v) for v in graph.inputs]
    build(writer, given, [writer.tensor(v) for v in graph.outputs])
    path.write_bytes(b"".join(writer.parts(pack(graph, None))))
    return path


def options(kind: str, **fields: Any) -> Any:
    made = getattr(schema, f"{kind}T")()
    for name, value in fields.items():
        assert hasattr(made, name), name
        setattr(made, name, value)
    return made


def reals(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def one(code: str, outputs: Any, *inputs: np.ndarray, constants: Sequence[Any] = (), opts: Any = None, front: int = 0,
        version: int = 1) -> Any:  # fmt: skip
    """A case of one operator: its real inputs, then its constants; ``front`` constants come before the inputs."""
    shapes = [outputs] if isinstance(outputs[0], int) or not outputs else outputs
    made = [(tuple(s), "float32") if not isinstance(s[-1], str) else (tuple(s[:-1]), s[-1]) for s in shapes]

    def build(w: Writer, given: list[int], results: list[int]) -> None:
        fixed = [w.constant(np.asarray(c)) if not isinstance(c, list) else w.constant(c) for c in constants]
        w.op(code, [*fixed[:front], *given, *fixed[front:]], results, opts, version=version)

    return pytest.param(list(inputs), made, build, id=f"{code}")


def ints(*values: int) -> np.ndarray:
    return np.asarray(values, np.int32)


SLICED = options("StridedSliceOptions", beginMask=1, endMask=2, shrinkAxisMask=4)
NEWAXIS = options("StridedSliceOptions", newAxisMask=2, ellipsisMask=1)
BACK = options("StridedSliceOptions", beginMask=2, endMask=2)
SAME, VALID = schema.Padding.SAME, schema.Padding.VALID
TANH = schema.ActivationFunctionType.TANH
RELU6 = schema.ActivationFunctionType.RELU6
FOREIGN = [
    one("STRIDED_SLICE", (2, 3, 6), reals(4, 5, 3, 6), constants=[[1, 1, 1, 0], [3, 4, 2, 6], [2, 2, 1, 1]],
        opts=SLICED),
    one("STRIDED_SLICE", (4, 5, 1, 2), reals(4, 5, 6), constants=[[0, 0, 1], [0, 0, 5], [1, 1, 2]], opts=NEWAXIS),
    one("STRIDED_SLICE", (4, 3), reals(4, 6), constants=[[0, 0], [4, 0], [1, -2]], opts=BACK),
    one("STRIDED_SLICE", (2, 6), reals(4, 6), constants=[[-1, 0], [-4, 6], [-2, 1]],
        opts=options("StridedSliceOptions")),
    one("SPLIT", [(2, 3), (2, 3)], reals(2, 6), constants=[np.asarray(1, np.int32)], front=1,
        opts=options("SplitOptions", numSplits=2)),
    one("SPLIT_V", [(2, 1), (2, 5)], reals(2, 6), constants=[[1, -1], np.asarray(-1, np.int32)],
        opts=options("SplitVOptions", numSplits=2)),
    one("PACK", (2, 2, 3), reals(2, 3), reals(2, 3), opts=options("PackOptions", valuesCount=2, axis=1)),
    one("UNPACK", [(2, 3), (2, 3)], reals(2, 2, 3), opts=options("UnpackOptions", num=2, axis=1)),
    one("EXPAND_DIMS", (2, 3, 1), reals(2, 3), constants=[np.asarray(-1, np.int32)]),
    one("SQUEEZE", (2, 3), reals(1, 2, 1, 3), opts=options("SqueezeOptions", squeezeDims=[0, -2])),
    one("RESHAPE", (3, 2), reals(2, 3), opts=options("ReshapeOptions", newShape=[3, -1])),
    one("BROADCAST_TO", (4, 2, 3), reals(2, 1), constants=[[4, 2, 3]], version=2),
    one("TILE", (4, 9), reals(2, 3), constants=[[2, 3]]),
    one("GATHER", (2, 2, 4), reals(2, 3, 4), constants=[np.asarray([[2, 0], [1, 1]], np.int32)],
        opts=options("GatherOptions", axis=1, batchDims=1)),
    one("GATHER_ND", (2, 2, 4), reals(3, 3, 4), constants=[np.asarray([[[0, 1], [2, 2]], [[1, 0], [0, 0]]], np.int32)]),
    one("GATHER_ND", (2, 4), reals(3, 3, 4), np.asarray([[0, 1], [2, 2]], np.int32)),
    one("SCATTER_ND", (4, 3), reals(2, 3), constants=[np.asarray([[3], [1]], np.int32), [4, 3]], front=1),
    one("REVERSE_V2", (2, 3, 4), reals(2, 3, 4), constants=[[2]]),
    one("MIRROR_PAD", (5, 7), reals(3, 4), constants=[np.asarray([[1, 1], [2, 1]], np.int32)],
        opts=options("MirrorPadOptions", mode=schema.MirrorPadMode.SYMMETRIC)),
    one("PADV2", (5, 7), reals(3, 4), constants=[np.asarray([[1, 1], [2, 1]], np.int32), np.float32(-2.5)]),
    one("CUMSUM", (2, 5), reals(2, 5), constants=[np.asarray(1, np.int32)],
        opts=options("CumsumOptions", exclusive=True, reverse=True)),
    one("ONE_HOT", (2, 3, 5), np.asarray([[1, 0, 4], [2, 2, 7]], np.int32),
        constants=[np.asarray(5, np.int32), np.float32(2), np.float32(-1)], opts=options("OneHotOptions", axis=-1)),
    one("TOPK_V2", [(2, 2), (2, 2, "int32")], reals(2, 6), constants=[np.asarray(2, np.int32)]),
    one("ARG_MAX", (2, "int32"), reals(2, 6), constants=[np.asarray(-1, np.int32)],
        opts=options("ArgMaxOptions", outputType=schema.TensorType.INT32)),
    one("SELECT", (2, 3), np.asarray([True, False]), reals(2, 3), reals(2, 3)),
    one("ADD_N", (2, 3), reals(2, 3), reals(2, 3), reals(2, 3)),
    one("L2_NORMALIZATION", (2, 5), reals(2, 5), opts=options("L2NormOptions")),
    one("LOCAL_RESPONSE_NORMALIZATION", (1, 3, 4, 6), reals(1, 3, 4, 6),
        opts=options("LocalResponseNormalizationOptions", radius=2, bias=1.5, alpha=0.3, beta=0.75)),
    one("L2_POOL_2D", (1, 3, 3, 2), reals(1, 5, 6, 2),
        opts=options("Pool2DOptions", padding=SAME, strideH=2, strideW=2, filterHeight=3, filterWidth=3)),
    one("AVERAGE_POOL_2D", (1, 3, 3, 2), reals(1, 5, 6, 2),
        opts=options("Pool2DOptions", padding=SAME, strideH=2, strideW=2, filterHeight=3, filterWidth=2,
                     fusedActivationFunction=schema.ActivationFunctionType.RELU)),
    one("CONV_2D", (1, 4, 4, 5), reals(1, 8, 7, 3), constants=[reals(5, 3, 2, 3), reals(5)],
        opts=options("Conv2DOptions", padding=SAME, strideH=2, strideW=2, dilationHFactor=1, dilationWFactor=1,
                     fusedActivationFunction=RELU6)),
    one("DEPTHWISE_CONV_2D", (1, 4, 5, 6), reals(1, 8, 7, 3), constants=[reals(1, 3, 2, 6), reals(6)],
        opts=options("DepthwiseConv2DOptions", padding=VALID, strideH=1, strideW=1, dilationHFactor=2,
                     dilationWFactor=2, depthMultiplier=2)),
    *[
        one("TRANSPOSE_CONV", (1, out, out + 1, 4), reals(1, 4, 4, 3), front=2,
            constants=[[1, out, out + 1, 4], reals(4, 3, 3, 3)],
            opts=options("TransposeConvOptions", padding=padding, strideH=2, strideW=2))
        for out, padding in ((9, VALID), (7, SAME))
    ],
    *[
        one("CONV_3D_TRANSPOSE", (1, out, out + 1, 5, 4), reals(1, 4, 4, 5, 3), front=2,
            constants=[[1, out, out + 1, 5, 4], reals(3, 3, 1, 4, 3)],
            opts=options("Conv3DOptions", padding=padding, strideD=2, strideH=2, strideW=1, dilationDFactor=1,
                         dilationHFactor=1, dilationWFactor=1))
        for out, padding in ((9, VALID), (7, SAME))
    ],
    *[
        one(code, (1, 7, 5, 2), reals(1, 4, 3, 2), constants=[[7, 5]],
            opts=options(kind, alignCorners=corners, halfPixelCenters=half), version=3)
        for code, kind in (("RESIZE_BILINEAR", "ResizeBilinearOptions"),
                           ("RESIZE_NEAREST_NEIGHBOR", "ResizeNearestNeighborOptions"))
        for corners, half in ((False, False), (True, False), (False, True))
    ],
    one("SPACE_TO_BATCH_ND", (6, 3, 2, 3), reals(1, 5, 6, 3),
        constants=[[2, 3], np.asarray([[1, 0], [0, 0]], np.int32)]),
    one("BATCH_TO_SPACE_ND", (1, 5, 6, 3), reals(6, 3, 2, 3),
        constants=[[2, 3], np.asarray([[1, 0], [0, 0]], np.int32)]),
    one("FULLY_CONNECTED", (6, 4), reals(2, 3, 5), constants=[reals(4, 5), reals(4)],
        opts=options("FullyConnectedOptions", fusedActivationFunction=RELU6)),
    one("ADD", (2, 3), reals(2, 3), reals(3), opts=options("AddOptions", fusedActivationFunction=RELU6)),
    one("RELU_0_TO_1", (2, 3), reals(2, 3)),
    one("SOFTMAX", (2, 3), reals(2, 3), opts=options("SoftmaxOptions", beta=2.0)),
    one("MEAN", (2, 4), reals(2, 3, 4), constants=[[-2]], opts=options("ReducerOptions", keepDims=False)),
    one("REVERSE_SEQUENCE", (3, 5, 2), reals(3, 5, 2), constants=[ints(5, 1, 3)],
        opts=options("ReverseSequenceOptions", seqDim=1, batchDim=0)),
    one("REVERSE_SEQUENCE", (4, 2, 3), reals(4, 2, 3), ints(2, 4, 1),
        opts=options("ReverseSequenceOptions", batchDim=2)),
    one("SEGMENT_SUM", (3, 4), reals(5, 4), constants=[ints(0, 0, 1, 2, 2)]),
    one("UNSORTED_SEGMENT_SUM", (3, 4), reals(5, 4), constants=[ints(2, 0, 2, 0, 0), np.asarray(3, np.int32)]),
    one("UNSORTED_SEGMENT_MAX", (3, 4), reals(5, 4), ints(2, 0, 2, 0, 0), constants=[np.asarray(3, np.int32)]),
    one("UNSORTED_SEGMENT_MIN", (2, 4), reals(5, 4), ints(1, 0, 1, 0, 0), constants=[np.asarray(2, np.int32)]),
    one("UNSORTED_SEGMENT_PROD", (3, 4), reals(5, 4), ints(2, 0, 2, 0, 0), constants=[np.asarray(3, np.int32)]),
    one("UNIQUE", [(3, "int32"), (5, "int32")], constants=[ints(7, 2, 7, -1, 2)],
        opts=options("UniqueOptions", idxOutType=schema.TensorType.INT32)),
    one("SPARSE_TO_DENSE", (3, 4), reals(3), front=2, constants=[np.asarray([[0, 3], [2, 1], [2, 2]], np.int32), [3, 4],
        np.float32(-1)]),
    one("BUCKETIZE", (3, 4, "int32"), reals(3, 4), opts=options("BucketizeOptions", boundaries=[-0.5, 0.0, 0.75])),
    one("DYNAMIC_UPDATE_SLICE", (4, 5), reals(4, 5), reals(2, 3), constants=[[1, 4]]),
    one("MATRIX_DIAG", (2, 3, 3), reals(2, 3)),
    one("CAST", (2, 3, "int32"), reals(2, 3) * 5,
        opts=options("CastOptions", inDataType=schema.TensorType.FLOAT32, outDataType=schema.TensorType.INT32)),
]  # fmt: skip


@pytest.mark.parametrize(("inputs", "outputs", "build"), FOREIGN)
def test_an_operator_of_another_tool_is_read_as_litert_runs_it(
    inputs: list[np.ndarray], outputs: Any, build: Any, tmp_path: Path
) -> None:
    file = file_of(tmp_path / "net.tflite", inputs, outputs, build)
    captured = capture(str(file))
    validate(captured.graph, stage="captured")
    result = run(file, inputs, engine="builtin")
    assert not result.failed, result.message
    table = captured.reference.run(inputs, dtype="float64")
    for value, array in zip(captured.graph.outputs, result.outputs, strict=True):
        close(array, table[value.name], 1e-5, str(captured.graph.nodes))


def test_the_places_in_a_constant_are_known(tmp_path: Path) -> None:
    given = np.asarray([[True, False], [True, True]])
    tensors = [("given", (2, 2), "bool", given), ("places", (3, 2), "int64", None)]
    file = raw_tflite(tmp_path / "net.tflite", tensors, [("WHERE", [0], [1], None)], [], [1])
    graph = capture(str(file)).graph
    assert np.array_equal(graph.weights[graph.outputs[0]], run(file, [], engine="builtin").outputs[0])


# -- what is not taken at its word -----------------------------------------------------------------------------------
def chain(w: Writer, given: list[int], results: list[int]) -> None:
    """relu(x) · 2: two operators to break."""
    middle = w.declare("middle", (2, 3), "float32")
    w.op("RELU", given, [middle])
    w.op("MUL", [middle, w.constant(np.asarray(2, np.float32))], results, options("MulOptions"))


def changed(path: Path, change: Callable[[Any], None]) -> Path:
    """A file of ``chain`` after ``change(model)`` through the schema's objects."""
    import flatbuffers

    file = file_of(path, [reals(2, 3)], [((2, 3), "float32")], chain)
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(bytearray(file.read_bytes())))
    change(model)
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    path.write_bytes(bytes(builder.Output()))
    return path


def custom(name: bytes) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        code = model.operatorCodes[0]
        code.builtinCode, code.deprecatedBuiltinCode, code.customCode = schema.BuiltinOperator.CUSTOM, 32, name

    return change


def builtin(name: str) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        code = model.operatorCodes[0]
        code.builtinCode = getattr(schema.BuiltinOperator, name)
        code.deprecatedBuiltinCode = min(code.builtinCode, 127)

    return change


def backwards(model: Any) -> None:
    model.subgraphs[0].operators.reverse()


def circle(model: Any) -> None:
    model.subgraphs[0].operators[0].inputs = model.subgraphs[0].operators[1].outputs


def twice(model: Any) -> None:
    model.subgraphs[0].operators[1].outputs = model.subgraphs[0].operators[0].outputs


def open_shape(model: Any) -> None:
    model.subgraphs[0].tensors[model.subgraphs[0].inputs[0]].shape = [-1, 3]


def huge_shape(model: Any) -> None:
    model.subgraphs[0].tensors[model.subgraphs[0].inputs[0]].shape = [2**31 - 1] * 4


def short_constant(model: Any) -> None:
    constant = model.subgraphs[0].tensors[model.subgraphs[0].operators[1].inputs[1]]
    constant.shape = [7]


def text(model: Any) -> None:
    model.subgraphs[0].tensors[model.subgraphs[0].inputs[0]].type = schema.TensorType.STRING


def wrong_options(model: Any) -> None:
    model.subgraphs[0].operators[1].builtinOptions = schema.Conv2DOptionsT()
    model.subgraphs[0].operators[1].builtinOptionsType = schema.BuiltinOptions.Conv2DOptions


def missing_subgraph(model: Any) -> None:
    builtin("WHILE")(model)
    made = schema.WhileOptionsT()
    made.condSubgraphIndex, made.bodySubgraphIndex = 1, 7
    model.subgraphs[0].operators[0].builtinOptions = made
    model.subgraphs[0].operators[0].builtinOptionsType = schema.BuiltinOptions.WhileOptions


def endless(model: Any) -> None:
    """Loops in loops that hand on one constant, which is true: 4096 rounds each, none of which computes anything."""
    flag = schema.BufferT()
    flag.data = b"\1"
    model.buffers.append(flag)

    def subgraph(buffer: int, body: int) -> Any:
        made, tensors = schema.SubGraphT(), []
        for name in ("again", "still"):
            tensor = schema.TensorT()
            tensor.name, tensor.shape, tensor.type = name.encode(), [1], schema.TensorType.BOOL
            tensor.buffer = buffer if name == "again" else 0
            tensors.append(tensor)
        made.name, made.tensors, made.inputs, made.outputs, made.operators = b"inner", tensors, [0], [0], []
        if body:
            made.outputs, made.operators = [1], [loop([0], [1], body)]
        return made

    def loop(inputs: list[int], outputs: list[int], body: int) -> Any:
        made = schema.OperatorT()
        made.opcodeIndex, made.inputs, made.outputs = 0, inputs, outputs
        made.builtinOptionsType, made.builtinOptions = schema.BuiltinOptions.WhileOptions, schema.WhileOptionsT()
        made.builtinOptions.condSubgraphIndex, made.builtinOptions.bodySubgraphIndex = 4, body
        return made

    builtin("WHILE")(model)
    main = model.subgraphs[0]
    main.operators = [loop([len(main.tensors)], [len(main.tensors) + 1], 1)]
    main.outputs = [len(main.tensors) + 1]
    main.tensors += subgraph(len(model.buffers) - 1, 0).tensors
    model.subgraphs += [subgraph(0, 2), subgraph(0, 3), subgraph(0, 0), subgraph(0, 0)]


def shared_state(model: Any) -> None:
    """A recurrent layer's state that another operator reads behind it."""
    builtin("UNIDIRECTIONAL_SEQUENCE_RNN")(model)
    main = model.subgraphs[0]
    shapes = {"x": [1, 2, 3], "w": [3, 3], "r": [3, 3], "b": [3], "state": [1, 3], "middle": [1, 2, 3]}
    for name, shape in shapes.items():
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.isVariable = name.encode(), shape, name == "state"
        tensor.buffer = len(model.buffers)
        buffer = schema.BufferT()
        if len(name) == 1 and name != "x":
            buffer.data = np.zeros(shape, np.float32).tobytes()
        model.buffers.append(buffer)
        main.tensors.append(tensor)
    at = len(main.tensors) - len(shapes)
    main.inputs, main.operators[0].inputs = [at], list(range(at, at + 5))
    main.operators[1].inputs = [at + 4, main.operators[1].inputs[1]]
    main.operators[0].outputs = [at + 5]


REFUSED = [
    (custom(b"TFLite_Detection_PostProcess"), r"CUSTOM:TFLite_Detection_PostProcess 'middle' \(net.tflite:0\)"),
    (custom(b"FlexErf"), "runs TensorFlow itself"),
    (builtin("WHILE"), "does not say which subgraph"),
    (missing_subgraph, "subgraph 1 of 1"),
    (endless, "more than"),
    (builtin("UNIDIRECTIONAL_SEQUENCE_LSTM"), "its weights are left out"),
    (builtin("SKIP_GRAM"), "not an operator that Instep captures"),
    (backwards, "'middle', which nothing before them makes"),
    (circle, "which nothing before them makes"),
    (twice, "'middle' a second time"),
    (open_shape, "--input"),
    (huge_shape, "beyond 2³¹ elements"),
    (short_constant, "needs 28 bytes, its buffer holds 4"),
    (text, "is string"),
    (wrong_options, "not MulOptions"),
    (shared_state, "'state', the state that an operator has changed"),
]


@pytest.mark.parametrize(("change", "said"), REFUSED, ids=[said[:30] for _, said in REFUSED])
def test_what_cannot_be_captured_is_one_sentence(change: Any, said: str, tmp_path: Path) -> None:
    file = changed(tmp_path / "net.tflite", change)
    with pytest.raises(CaptureError, match=said) as raised:
        capture(str(file))
    assert "\n" not in str(raised.value)


def test_a_file_cut_anywhere_is_an_error_and_never_another_exception(tmp_path: Path) -> None:
    file = changed(tmp_path / "net.tflite", lambda model: None)
    whole = file.read_bytes()
    refused = 0
    for size in range(0, len(whole), 7):
        file.write_bytes(whole[:size])
        try:
            capture(str(file))
        except CaptureError:
            refused += 1
    assert refused > len(whole) // 7 * 0.9


def test_an_open_batch_is_settled_by_the_user(tmp_path: Path) -> None:
    file = changed(tmp_path / "net.tflite", open_shape)
    captured = capture(str(file), inputs=[[5, 3]])
    assert captured.graph.outputs[0].shape == (5, 3)
    with pytest.raises(CaptureError, match="got \\[5, 4\\]"):
        capture(str(file), inputs=[[5, 4]])


# -- weights that are stored otherwise -------------------------------------------------------------------------------
def linear(path: Path, half: bool) -> tuple[Graph, Path]:
    graph = Graph([Value("x", (2, 64))], input_names=["x"], output_names=["y"])
    weight = graph.constant(reals(8, 64), "weight")
    graph.outputs = [graph.add(ops.Linear(), [graph.inputs[0], weight], scope="layer").output]
    write(graph, path, half=half)
    return graph, path


def test_float16_weights_are_read_as_the_numbers_they_hold(tmp_path: Path) -> None:
    graph, file = linear(tmp_path / "net.tflite", True)
    captured = capture(str(file))
    assert [type(n.op) for n in captured.graph.nodes] == [ops.Linear]
    kept = captured.graph.weights[captured.graph.nodes[0].inputs[1]]
    stored = next(iter(graph.weights.values()))
    assert kept.dtype == np.float32 and np.array_equal(kept, stored.astype(np.float16).astype(np.float32))
    assert any("float16" in note for note in captured.notes)


def test_a_cast_to_float16_rounds(tmp_path: Path) -> None:
    """Numbers of every size, halfway between two, below the smallest and beyond the largest."""
    spread = np.exp(RNG.uniform(-22, 12, 4000)) * RNG.choice([-1, 1], 4000)
    near = np.ldexp(np.asarray([[1, 1 - 2**-24, 1 + 2**-23, 1 + 2**-11, 1 + 3 * 2**-11]]), np.arange(-27, 17)[:, None])
    x = np.concatenate([spread, near.ravel(), [0, -0.0, 65504, 65519.9, 65520, -1e30, 2.0**-25]]).astype(np.float32)
    tensors = [("x", x.shape, "float32", None), ("half", x.shape, "float16", None), ("y", x.shape, "float32", None)]
    back = [("CAST", [0], [1], options("CastOptions")), ("CAST", [1], [2], options("CastOptions"))]
    file = raw_tflite(tmp_path / "net.tflite", tensors, back, [0], [2])
    with np.errstate(over="ignore"):
        rounded = x.astype(np.float16).astype(np.float32)
    result = run(file, [x], engine="builtin")
    assert not result.failed and np.array_equal(result.outputs[0], rounded)
    captured = capture(str(file))
    for dtype in ("float64", "float32"):
        assert np.array_equal(captured.reference.run([x], dtype=dtype)[captured.graph.outputs[0].name], rounded)
    out = tmp_path / "out.tflite"
    assert convert(str(file), out).ok
    for engine in ("builtin", "xnnpack"):
        assert np.array_equal(run(out, [x], engine=engine).outputs[0], rounded)


def test_int8_weights_are_read_channel_by_channel(tmp_path: Path) -> None:
    stored, scale = RNG.integers(-127, 128, (4, 6)).astype(np.int8), np.asarray([0.1, 0.2, 0.05, 1.0], np.float32)

    def build(w: Writer, given: list[int], results: list[int]) -> None:
        weight = w.constant(stored, "weight")
        quantization = schema.QuantizationParametersT()
        quantization.scale, quantization.zeroPoint = scale, np.zeros(4, np.int64)
        quantization.quantizedDimension = 0
        w.tensors[weight].quantization = quantization
        w.op("FULLY_CONNECTED", [*given, weight, -1], results, options("FullyConnectedOptions"))

    file = file_of(tmp_path / "net.tflite", [reals(2, 6)], [((2, 4), "float32")], build)
    captured = capture(str(file))
    weight = captured.graph.weights[captured.graph.nodes[0].inputs[1]]
    assert np.array_equal(weight, stored * scale[:, None])
    # TFLite rounds what such an operator reads to eight bits, too: no truth for what the integers stand for
    assert verify_origin(captured.reference, file, captured.graph) is None


# -- the verbs ---------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def peer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network as other tools write it: a norm in pieces, a transpose there and back."""
    weight, bias, second = reals(6, 3, 3, 4) / 4, reals(6), reals(2, 1, 1, 6)

    def build(w: Writer, given: list[int], results: list[int]) -> None:
        def tensor(name: str, *shape: int) -> int:
            return w.declare(name, shape, "float32")

        conv = options("Conv2DOptions", padding=SAME, strideH=2, strideW=2, dilationHFactor=1, dilationWFactor=1,
                       fusedActivationFunction=RELU6)  # fmt: skip
        first, turned, doubled, back = (
            tensor("first", 1, 4, 4, 6), tensor("turned", 1, 6, 4, 4), tensor("doubled", 1, 6, 4, 4),
            tensor("back", 1, 4, 4, 6),
        )  # fmt: skip
        w.op("CONV_2D", [*given, w.constant(weight), w.constant(bias)], [first], conv)
        w.op("TRANSPOSE", [first, w.constant([0, 3, 1, 2])], [turned], schema.TransposeOptionsT())
        w.op("LOGISTIC", [turned], [doubled])
        w.op("TRANSPOSE", [doubled, w.constant([0, 2, 3, 1])], [back], schema.TransposeOptionsT())
        plain = options("Conv2DOptions", padding=VALID, strideH=1, strideW=1, dilationHFactor=1, dilationWFactor=1)
        w.op("CONV_2D", [back, w.constant(second), w.constant(reals(2))], results, plain)

    return file_of(
        tmp_path_factory.mktemp("peer") / "peer.tflite", [reals(1, 8, 8, 4)], [((1, 4, 4, 2), "float32")], build
    )


def test_a_file_is_converted_again_and_proved(peer: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.tflite"
    result = convert(str(peer), out)
    assert result.ok and result.verdict is not None and "TRANSPOSE" not in result.ops
    assert any("peer.tflite itself computes what was captured from it" in note for note in result.verdict.notes)
    assert verify(str(peer), out).ok


def test_an_operator_that_is_misread_is_not_proved(peer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """TensorFlow pads SAME at the bottom and right first; read the other way round, the result fails the proof."""
    monkeypatch.setattr(builder, "same_pads", lambda *of: same_pads(*of)[::-1])
    result = convert(str(peer), tmp_path / "out.tflite")
    assert not result.ok and result.verdict is not None
    said = [result.verdict.why, *result.verdict.notes]
    assert any("peer.tflite itself is out of step" in note for note in said), said


# -- fused recurrent layers in forms that the converter seldom writes -------------------------------------------------
def gates(units: int, features: int, *, coupled: bool = False, peep: bool = False) -> list[np.ndarray | None]:
    """Weights of one direction in the operator's order, without projection."""
    inner = [reals(units, n) / 2 for n in [features] * 4 + [units] * 4]
    found: list[np.ndarray | None] = [*inner, *([reals(units) if peep else None for _ in range(3)])]
    found += [reals(units) for _ in range(4)]
    if coupled:
        found[0] = found[4] = found[8] = found[11] = None
    return [*found, None, None]


def recurrent(code: str, weights: Sequence[np.ndarray | None], states: int, behind: list[Any], opts: Any) -> Any:
    """A file of one recurrent operator whose states are inputs of the network."""

    def build(w: Writer, given: list[int], results: list[int]) -> None:
        fixed = [-1 if a is None else w.constant(a) for a in weights]
        w.op(code, [given[0], *fixed, *given[1:], *map(w.constant, behind)], results, opts)

    return build, states


LSTM = options("UnidirectionalSequenceLSTMOptions", fusedActivationFunction=TANH, cellClip=0.75)
SEQUENCE_RNN = options("SequenceRNNOptions", fusedActivationFunction=TANH)
RECURRENT = {
    "plain": (("UNIDIRECTIONAL_SEQUENCE_LSTM", gates(3, 4), 2, [], LSTM), 3),
    "peepholes": (("UNIDIRECTIONAL_SEQUENCE_LSTM", gates(3, 4, peep=True), 2, [], LSTM), 3),
    "coupled": (("UNIDIRECTIONAL_SEQUENCE_LSTM", gates(3, 4, coupled=True), 2, [], LSTM), 3),
    "normalised": (("UNIDIRECTIONAL_SEQUENCE_LSTM", gates(3, 4), 2, [reals(3) for _ in range(4)], LSTM), 3),
    "rnn": (("UNIDIRECTIONAL_SEQUENCE_RNN", [reals(3, 4), reals(3, 3), reals(3)], 1, [], SEQUENCE_RNN), 3),
}


@pytest.mark.parametrize("name", sorted(RECURRENT))
def test_a_fused_recurrent_layer_is_read_as_litert_runs_it(name: str, tmp_path: Path) -> None:
    import flatbuffers

    case, width = RECURRENT[name]
    build, states = recurrent(*case)
    inputs = [reals(2, 5, 4), *(reals(2, 3) for _ in range(states))]
    file = file_of(tmp_path / "net.tflite", inputs, [((2, 5, width), "float32")], build)
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(bytearray(file.read_bytes())))
    for index in model.subgraphs[0].inputs[1:]:
        model.subgraphs[0].tensors[index].isVariable = True
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    file.write_bytes(bytes(builder.Output()))
    captured = capture(str(file))
    result = run(file, inputs, engine="builtin")
    assert not result.failed, result.message
    table = captured.reference.run(inputs, dtype="float64")
    close(result.outputs[0], table[captured.graph.outputs[0].name], 1e-5, name)
