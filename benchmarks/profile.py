"""Where a TFLite file spends its time: every operator as a file of its own, timed on one XNNPACK thread.

An operator alone reads its input from memory and pays for being called, so the sum is more than the file takes;
what counts is which kinds of operators stand out, and how two files of one network differ.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from benchmarks import report

__all__ = ["main", "profile"]

NAMES = {v: k for k, v in vars(schema.BuiltinOperator).items() if isinstance(v, int)}


def load(path: Path) -> Any:
    """The model as the schema's objects, with buffers that lie behind the flatbuffer read in."""
    data = path.read_bytes()
    model = schema.ModelT.InitFromPackedBuf(data)
    for buffer in model.buffers:
        if buffer.offset > 1:
            buffer.data = np.frombuffer(data, np.uint8, buffer.size, buffer.offset)
            buffer.offset = buffer.size = 0
    return model


def alone(model: Any, node: Any) -> bytes:
    """A file of one operator: its computed inputs become graph inputs, its outputs graph outputs."""
    graph = model.subgraphs[0]
    tensors, buffers, place = [], [schema.BufferT()], {}
    for index in [*node.inputs, *node.outputs]:
        if index < 0 or index in place:
            continue
        tensor = copy.copy(graph.tensors[index])
        buffer = model.buffers[tensor.buffer]
        constant = buffer.data is not None and len(buffer.data)
        tensor.buffer = len(buffers) if constant else 0
        if constant:
            buffers.append(buffer)
        place[index] = len(tensors)
        tensors.append(tensor)
    one = copy.copy(node)
    one.opcodeIndex = 0
    one.inputs = [place.get(i, -1) for i in node.inputs]
    one.outputs = [place[i] for i in node.outputs]
    part = schema.SubGraphT()
    part.tensors, part.operators = tensors, [one]
    part.inputs = sorted({i for i in one.inputs if i >= 0 and tensors[i].buffer == 0})
    part.outputs = one.outputs
    whole = schema.ModelT()
    whole.version, whole.operatorCodes = 3, [model.operatorCodes[node.opcodeIndex]]
    whole.subgraphs, whole.buffers = [part], buffers
    builder = flatbuffers.Builder(1 << 16)
    builder.Finish(whole.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def milliseconds(file: bytes, repeats: int = 7, target_ms: float = 4.0) -> float:
    """Median over ``repeats`` samples."""
    interpreter = Interpreter(model_content=file, num_threads=1)
    interpreter.allocate_tensors()
    rng = np.random.default_rng(0)
    for detail in interpreter.get_input_details():
        if np.dtype(detail["dtype"]).kind == "f":
            interpreter.set_tensor(detail["index"], rng.standard_normal(detail["shape"]).astype(detail["dtype"]))
    interpreter.invoke()
    start = time.perf_counter()
    interpreter.invoke()
    count = max(1, min(500, round(target_ms / 1e3 / max(time.perf_counter() - start, 1e-7))))
    samples = []
    for _ in range(repeats):
        start = time.perf_counter()
        for _ in range(count):
            interpreter.invoke()
        samples.append((time.perf_counter() - start) / count * 1e3)
    return statistics.median(samples)


def describe(model: Any, node: Any) -> str:
    """Operator with the shapes of what it reads and makes, and its options."""
    graph = model.subgraphs[0]
    code = model.operatorCodes[node.opcodeIndex]
    name = NAMES[max(code.builtinCode, code.deprecatedBuiltinCode)]

    def shape(index: int) -> str:
        dims = graph.tensors[index].shape
        return "×".join(map(str, dims)) if dims is not None else ""

    options = {k: v for k, v in vars(node.builtinOptions or object).items() if not k.startswith("_")}
    told = ", ".join(f"{k}={v}" for k, v in options.items() if isinstance(v, int | bool | float) and v)
    inputs = ", ".join(shape(i) for i in node.inputs if i >= 0)
    return f"{name}({inputs}) → {', '.join(shape(i) for i in node.outputs)} [{told}]"


def profile(path: Path) -> dict[str, tuple[int, float]]:
    """What → (count, milliseconds of one)."""
    model = load(path)
    found: dict[str, list[Any]] = defaultdict(list)
    for node in model.subgraphs[0].operators:
        found[describe(model, node)].append(node)
    result = {}
    for what, nodes in found.items():
        try:
            result[what] = (len(nodes), milliseconds(alone(model, nodes[0])))
        except (RuntimeError, ValueError) as error:
            print(f"{what}: not timed ({str(error).splitlines()[0]})", file=sys.stderr)
    return result


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.profile", description=__doc__)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--top", type=int, default=25)
    options = parser.parse_args()
    for path in options.files:
        found = profile(path)
        kinds: dict[str, list[float]] = defaultdict(lambda: [0, 0.0])
        for what, (count, each) in found.items():
            kinds[what.partition("(")[0]][0] += count
            kinds[what.partition("(")[0]][1] += count * each
        print(f"\n{path}: sum {sum(ms for _, ms in kinds.values()):.3f} ms")
        by_kind = sorted(kinds.items(), key=lambda item: -item[1][1])
        print(report.table(["operator", "count", "ms"], [[k, n, f"{ms:.3f}"] for k, (n, ms) in by_kind]))
        rows = sorted(found.items(), key=lambda item: -item[1][0] * item[1][1])[: options.top]
        print(report.table(["ms", "count", "each", "what"], [[f"{n * e:.3f}", n, f"{e:.4f}", w] for w, (n, e) in rows]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
