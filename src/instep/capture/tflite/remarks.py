"""What the user should know about how a TFLite file was read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from instep.capture.tflite.file import TfliteFile

__all__ = ["remarks"]


def remarks(file: TfliteFile, reshaped: Sequence[str], state: int) -> Iterator[str]:
    """Notes on a captured file. ``reshaped`` are the tensors that have other shapes than it declares; ``state`` counts
    those that it keeps from run to run."""
    main = file.subgraphs[0]
    made = [main.tensors[i] for o in main.operations for i in o.outputs if i >= 0]
    integers = [t for t in (*made, *(main.tensors[i] for i in main.inputs)) if t.quantized]
    if integers:
        yield (
            f"{len(integers)} tensors are quantised ({integers[0].dtype} '{integers[0].name[:80]}' …): they are "
            "read as the numbers they stand for; their rounding is not captured, their saturation only where it is "
            "an activation or fake quantisation"
        )
    fakes = sum(o.name == "FAKE_QUANT" for o in main.operations)
    if fakes:
        yield f"{fakes} FAKE_QUANT are read as the ends of their ranges; their rounding is not captured"
    narrow = [t for t in main.tensors if t.dtype in ("float16", "bfloat16") and t.span[1]]
    if narrow:
        yield f"{len(narrow)} weights are stored as {narrow[0].dtype}; they are read as float32"
    packed = [t for t in main.tensors if t.quantized and t.span[1] and t.dtype != "int32"]
    if packed:
        yield f"{len(packed)} weights are stored as {packed[0].dtype} with scales; read as float32"
    if reshaped:
        yield (
            f"{len(reshaped)} tensors have other shapes than the file declares ('{reshaped[0][:80]}' …); "
            "the operators' own count"
        )
    if state:
        yield (
            f"the file keeps state between runs ({state} tensors): what a fresh "
            "run computes is captured, from the state that it starts with"
        )
    if file.signatures > 1:
        yield f"the file has {file.signatures} signatures; the first subgraph is captured"
