"""StableHLO's operators in TFLite files: as LiteRT runs them where it does, as numpy and JAX do where it does not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from instep.api import convert, verify
from instep.capture import CaptureError, capture
from instep.graph.validate import validate
from instep.runtime import run
from raw_tflite import Subgraph, Tensor, options, raw_tflite

RNG = np.random.default_rng(23)
#: Kind and fields of the options object, which is made anew for each file.
Given = tuple[str, dict[str, Any]] | None


def reals(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def body(name: str, dtype: str = "float32") -> Subgraph:
    tensors: list[Tensor] = [(n, (), dtype, None) for n in "abc"]
    return tensors, [(name, [0, 1], [2], None)], [0, 1], [2]


def written(path: Path, code: str, given: Given, inputs: list[np.ndarray], constants: list[Any], shape: tuple[int, ...],
            dtype: str, bodies: list[Subgraph]) -> Path:  # fmt: skip
    tensors: list[Tensor] = [(f"in{i}", a.shape, str(a.dtype), None) for i, a in enumerate(inputs)]
    tensors += [(f"c{i}", np.shape(a), str(np.asarray(a).dtype), a) for i, a in enumerate(constants)]
    tensors.append(("out", shape, dtype, None))
    opts = None if given is None else options(given[0], **given[1])
    op = (code, list(range(len(tensors) - 1)), [len(tensors) - 1], opts)
    return raw_tflite(path, tensors, [op], list(range(len(inputs))), [op[2][0]], bodies=bodies)


def window(rank: int, **fields: list[int]) -> Given:
    plain = {n: [1] * rank for n in ("windowDimensions", "windowStrides", "baseDilations", "windowDilations")}
    return "StablehloReduceWindowOptions", {**plain, "padding": [0] * 2 * rank, "bodySubgraphIndex": 1, **fields}


Case = tuple[str, Given, list[np.ndarray], list[Any], tuple[int, ...], str, list[Subgraph]]
X = (2, 3, 4)
LOWEST = np.float32(np.finfo(np.float32).min)
#: What LiteRT runs.
RUN: dict[str, Case] = {
    **{
        name.lower(): (f"STABLEHLO_{name}", None, [reals(*X), reals(*X)], [], X, "float32", [])
        for name in ("ADD", "MULTIPLY", "MAXIMUM", "MINIMUM")
    },
    "and": ("STABLEHLO_AND", None, [RNG.random(X) < 0.5, RNG.random(X) < 0.5], [], X, "bool", []),
    "shift_left": (
        "STABLEHLO_SHIFT_LEFT", None, [np.asarray([3, -5, 7], np.int32)], [np.asarray([0, 4, 9], np.int32)], (3,),
        "int32", [],
    ),
    "pad": (
        "STABLEHLO_PAD",
        ("StablehloPadOptions", {"edgePaddingLow": [1, -1], "edgePaddingHigh": [0, 2], "interiorPadding": [2, 0]}),
        [reals(3, 4)], [np.float32(1.5)], (8, 5), "float32", [],
    ),
    "dilate": ("DILATE", ("DilateOptions", {}), [reals(3, 4)], [np.asarray([2, 3], np.int32), np.float32(-2)], (5, 10),
               "float32", []),
    "gather_rows": (
        "STABLEHLO_GATHER",
        ("StablehloGatherOptions", {"offsetDims": [1, 2], "collapsedSliceDims": [0], "startIndexMap": [0],
                                    "indexVectorDim": 1, "sliceSizes": [1, 3, 4]}),
        [reals(5, 3, 4), np.asarray([[4], [0], [9]], np.int32)], [], (3, 3, 4), "float32", [],
    ),
    "gather_windows": (
        "STABLEHLO_GATHER",
        ("StablehloGatherOptions", {"offsetDims": [0, 2], "collapsedSliceDims": [1], "startIndexMap": [2, 1],
                                    "indexVectorDim": 0, "sliceSizes": [2, 1, 3]}),
        [reals(5, 6, 7)], [np.asarray([[4, 0, 9, 1], [5, -2, 1, 3]], np.int64)], (2, 4, 3), "float32", [],
    ),
    "window_sum": (
        "STABLEHLO_REDUCE_WINDOW",
        window(3, windowDimensions=[1, 2, 3], windowStrides=[1, 2, 1], baseDilations=[1, 2, 1],
               windowDilations=[1, 1, 2], padding=[0, 0, 1, 0, 2, 1]),
        [reals(2, 4, 6)], [np.float32(0)], (2, 4, 5), "float32", [body("ADD")],
    ),
    "window_max_of_a_start": (
        "STABLEHLO_REDUCE_WINDOW", window(2, windowDimensions=[2, 3], padding=[0, 1, 1, 1]), [reals(4, 6)],
        [np.float32(0.25)], (4, 6), "float32", [body("STABLEHLO_MAXIMUM")],
    ),
    **{
        f"window_{number}": (
            "REDUCE_WINDOW", ("ReduceWindowOptions", {"reduceFunction": number}), [reals(5, 6)],
            [np.float32(start), np.asarray([2, 3], np.int64), np.asarray([1, 2], np.int64),
             np.asarray([2, 1], np.int64)],
            (3, 2), "float32", [],
        )
        for number, start in ((1, 0.5), (2, 1), (3, 3e38), (4, LOWEST))
    },
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(RUN))
def test_an_operator_is_read_as_litert_runs_it(name: str, tmp_path: Path) -> None:
    case = RUN[name]
    file = written(tmp_path / "net.tflite", *case)
    captured = capture(str(file))
    validate(captured.graph, stage="captured")
    result = run(file, case[2], engine="builtin")
    assert not result.failed, result.message
    found = captured.reference.run(case[2], dtype="float64")[captured.graph.outputs[0].name]
    assert found.shape == result.outputs[0].shape == captured.graph.outputs[0].shape
    np.testing.assert_allclose(result.outputs[0], found, rtol=1e-5, atol=1e-6)


A, B = reals(2, 3, 4), reals(2, 4, 5)
TRUE = RNG.random((2, 3, 4)) < 0.5
#: What no interpreter runs, with the numbers that the specification says.
DEFINED: dict[str, tuple[Case, np.ndarray]] = {
    "logistic": (("STABLEHLO_LOGISTIC", None, [A], [], X, "float32", []), 1 / (1 + np.exp(-A))),
    "or": (("STABLEHLO_OR", None, [TRUE, A > 0], [], X, "bool", []), TRUE | (A > 0)),
    "cube_root": (("STABLEHLO_CBRT", None, [A], [], X, "float32", []), np.cbrt(A)),
    "compare": (
        ("STABLEHLO_COMPARE", ("StablehloCompareOptions", {"comparisonDirection": 3}), [A], [A[::-1].copy()], X,
         "bool", []),
        A[::-1] < A,
    ),
    "select": (("STABLEHLO_SELECT", None, [TRUE, A, -A], [], X, "float32", []), np.where(TRUE, A, -A)),
    "convert": (("STABLEHLO_CONVERT", None, [9 * A], [], X, "int32", []), (9 * A).astype(np.int32)),
    "reshape": (("STABLEHLO_RESHAPE", None, [A], [], (6, 4), "float32", []), A.reshape(6, 4)),
    "transpose": (
        ("STABLEHLO_TRANSPOSE", ("StablehloTransposeOptions", {"permutation": [2, 0, 1]}), [A], [], (4, 2, 3),
         "float32", []),
        A.transpose(2, 0, 1),
    ),
    "broadcast": (
        ("STABLEHLO_BROADCAST_IN_DIM", ("StablehloBroadcastInDimOptions", {"broadcastDimensions": [2, 0]}),
         [A[0, :1].T.copy()], [], (1, 2, 4), "float32", []),
        np.broadcast_to(A[0, 0], (1, 2, 4)),
    ),
    "slice": (
        ("STABLEHLO_SLICE",
         ("StablehloSliceOptions", {"startIndices": [0, 1, 1], "limitIndices": [2, 3, 4], "strides": [1, 1, 2]}),
         [A], [], (2, 2, 2), "float32", []),
        A[:, 1:, 1:4:2],
    ),
    "dynamic_slice": (
        ("STABLEHLO_DYNAMIC_SLICE", ("StablehloDynamicSliceOptions", {"sliceSizes": [1, 2, 4]}), [A],
         [np.int32(1), np.int32(5), np.int32(-3)], (1, 2, 4), "float32", []),
        A[1:, 1:],
    ),
    "iota": (
        ("STABLEHLO_IOTA", ("StablehloIotaOptions", {"iotaDimension": 1}), [], [], (2, 3), "float32", []),
        np.tile(np.arange(3), (2, 1)),
    ),
    "dot": (
        ("STABLEHLO_DOT_GENERAL",
         ("StablehloDotGeneralOptions", {"lhsBatchingDimensions": [0], "rhsBatchingDimensions": [0],
                                         "lhsContractingDimensions": [2], "rhsContractingDimensions": [1]}),
         [A, B], [], (2, 3, 5), "float32", []),
        A @ B,
    ),
    "reduce": (
        ("STABLEHLO_REDUCE", ("StablehloReduceOptions", {"dimensions": [0, 2], "bodySubgraphIndex": 1}), [A],
         [np.float32(-np.inf)], (3,), "float32", [body("STABLEHLO_MAXIMUM")]),
        A.max((0, 2)),
    ),
}  # fmt: skip
DEFINED["clamp"] = (
    ("STABLEHLO_CLAMP", None, [-abs(A), A, abs(A) / 2], [], X, "float32", []), np.clip(A, -abs(A), abs(A) / 2)
)  # fmt: skip


@pytest.mark.parametrize("name", sorted(DEFINED))
def test_an_operator_that_nothing_runs_is_read_as_it_is_defined(name: str, tmp_path: Path) -> None:
    case, wanted = DEFINED[name]
    captured = capture(str(written(tmp_path / "net.tflite", *case)))
    validate(captured.graph, stage="captured")
    output = captured.graph.outputs[0]
    found = captured.reference.run(case[2], dtype="float64")[output.name] if case[2] else captured.graph.weights[output]
    assert found.shape == wanted.shape
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


def test_a_branch_of_a_computed_number_is_chosen(tmp_path: Path) -> None:
    """LiteRT takes the last branch where the number is none of theirs."""
    inner = [(n, (2, 3), "float32", None) for n in ("x", "y")]
    bodies: list[Subgraph] = [(inner, [(name, [0], [1], None)], [0], [1]) for name in ("NEG", "ABS", "TANH")]
    tensors: list[Tensor] = [
        ("number", (), "int32", None), ("x", (2, 3), "float32", None), ("y", (2, 3), "float32", None),
    ]  # fmt: skip
    op = ("STABLEHLO_CASE", [0, 1], [2], options("StablehloCaseOptions", branchSubgraphIndices=[1, 2, 3]))
    file = raw_tflite(tmp_path / "net.tflite", tensors, [op], [0, 1], [2], bodies=bodies)
    captured, x = capture(str(file)), reals(2, 3)
    for number in (0, 1, 2, 3, -1):
        inputs = [np.asarray(number, np.int32), x]
        result = run(file, inputs, engine="builtin")
        assert not result.failed, result.message
        found = captured.reference.run(inputs)[captured.graph.outputs[0].name]
        np.testing.assert_allclose(found, result.outputs[0], rtol=1e-6)


def test_a_reduction_by_something_else_is_refused(tmp_path: Path) -> None:
    case = RUN["window_sum"]
    file = written(tmp_path / "net.tflite", *case[:-1], [body("SUB")])
    with pytest.raises(CaptureError, match=r"STABLEHLO_REDUCE_WINDOW 'out' .*: it reduces by SUB"):
        capture(str(file))


def test_a_file_that_litert_cannot_run_is_proved_against_its_reading_alone(tmp_path: Path) -> None:
    case, _ = DEFINED["logistic"]
    file, out = written(tmp_path / "net.tflite", *case), tmp_path / "out.tflite"
    result = convert(str(file), out)
    assert result.ok and result.verdict is not None
    assert any(
        "net.tflite itself was not run" in note and "STABLEHLO_LOGISTIC" in note for note in result.verdict.notes
    )
    again = verify(str(file), out)
    assert again.ok and any("itself was not run" in note for note in again.verdict.notes)
