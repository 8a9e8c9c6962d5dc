"""Times different TFLite spellings of one computation on XNNPACK, one thread: ``python -m benchmarks.xnnpack_forms``.

Writes docs/xnnpack-forms.md. Every question is a set of graphs that compute the same; all its forms run in interleaved
rounds, and the processor time of the median round counts, so that other programs on the machine matter little.
``--only WORD`` runs the questions whose title contains the word and prints them.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks.xnnpack_questions import questions
from benchmarks.xnnpack_sketch import QUESTIONS

from instep.emit.tflite import write
from instep.graph import Graph, ops
from instep.rewrite.driver import Rewrite
from instep.rewrite.driver import run as rewrite
from instep.rewrite.edit import Editor
from instep.rewrite.lower import DECOMPOSITIONS, Build
from instep.runtime import bench, tflite_info

__all__ = ["main", "measure"]

#: What was found, and what the rewrite ``lower`` does about it.
FINDINGS = (
    (
        "a depthwise kernel of more than 25 taps is 7 to 10 times slower than its parts",
        "`_large_depthwise`: dilated kernels of up to 25 taps, added",
    ),
    (
        "a depthwise multiplier of 2 to 4 is 10 times slower than multiplier 1",
        "`_multiplied_depthwise`: channels copied by a 1×1 convolution first",
    ),
    (
        "TRANSPOSE_CONV takes up to twice the time of its phases by CONV_2D and DEPTH_TO_SPACE",
        "`_phases`, unless the file grows by more than 4 MB",
    ),
    (
        "nearest upsampling and the convolution behind it are one transposed convolution",
        "`absorb_repeats`: fewer products",
    ),
    (
        "a convolution to 1 … 8 channels leaves lanes idle",
        "with `--tune avx512` alone (`tune/lanes.py`): 2 to 16 columns as channels of a wider kernel "
        "(ARM's kernels of 8 lanes gain less; from 5 channels on they may lose)",
    ),
    (
        "convolutions to 17 … 31 channels take longer than to 32, and each begun 32 counts in full beyond",
        "with `--tune avx512` alone: 25 to 31 channels as 32 and a slice; else the rest apart and joined, where that "
        "saves 8 %",
    ),
    (
        "MUL and ADD per channel are two passes",
        "one depthwise 1×1 convolution",
    ),
    (
        "STRIDED_SLICE is 25 times slower than a depthwise 1×1 convolution with a stride",
        "for rows and columns that are picked with a step",
    ),
    (
        "MIRROR_PAD is 40 times slower than slices and joins",
        "for borders up to 16 wide",
    ),
    (
        "RESIZE_NEAREST_NEIGHBOR copies pixel by pixel",
        "joins, with fewer than 64 channels",
    ),
    (
        "max pools larger than 3×3",
        "rows, then columns",
    ),
    (
        "GATHER of channels copies one by one",
        "runs are slices, few channels a one-hot 1×1 convolution",
    ),
    (
        "a channel shuffle by TRANSPOSE is 3 to 7 times faster than by GATHER",
        "RESHAPE, TRANSPOSE, RESHAPE beyond 24 channels",
    ),
    (
        "softmax over another axis than the last",
        "MAX, SUB, EXP, SUM, DIV there; with up to 8 numbers behind the axis TRANSPOSE, SOFTMAX, TRANSPOSE",
    ),
    (
        "a linear map over an axis of few entries needs no transposes",
        "the rewrite `mix-small-axes`: BATCH_MATMUL of its matrix from the left, up to 6 entries",
    ),
    (
        "PRELU takes twice the time of LEAKY_RELU",
        "LEAKY_RELU where all slopes are equal",
    ),
    (
        "LayerNorm: means by MEAN beat means by matrices",
        "MEAN, SUB, MUL, MEAN, RSQRT, MUL",
    ),
    (
        "PAD before VALID costs nothing: XNNPACK fuses it",
        "explicit pads where SAME does not mean them",
    ),
    (
        "FULLY_CONNECTED beats 1×1 CONV_2D and BATCH_MATMUL of constants",
        "FULLY_CONNECTED, any rank up to 4",
    ),
    (
        "joins of more than 5 inputs are not delegated, yet as fast",
        "left whole",
    ),
)


def _norms_alone(edit: Editor) -> bool:
    """Only what is asked as a whole is lowered: the other forms are measured as they are drawn."""
    nodes = edit.nodes(ops.GroupNorm)
    return any([DECOMPOSITIONS[type(n.op)](Build(edit, n)) for n in nodes])


NORMS = Rewrite("norms", "", _norms_alone)


def summary() -> list[str]:
    """The findings as a Markdown table."""
    rows = [f"| {found} | {done} |" for found, done in FINDINGS]
    return [
        "Measured on one thread of an x86 CPU with AVX-512. What the rewrite `lower` makes of it:", "",
        "| finding | what `lower` does |", "|---|---|", *rows,
    ]  # fmt: skip


def measure(forms: dict[str, Callable[[], Graph]], repeats: int) -> list[tuple[str, float, dict[str, int], str]]:
    """(form, median processor milliseconds, operators, failure) of every form of one question."""
    with tempfile.TemporaryDirectory() as folder:
        paths = {}
        for i, (name, form) in enumerate(forms.items()):
            graph, _ = rewrite(form(), [NORMS])
            paths[name] = str(Path(folder) / f"{i}.tflite")
            write(graph, paths[name])
        result = bench(paths.values(), repeats=repeats)
        return [
            (
                name,
                statistics.median(result.cpu[path]) if path in result.cpu else float("nan"),
                dict(tflite_info(path).histogram),
                result.failed.get(path, ""),
            )
            for name, path in paths.items()
        ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="run only the questions whose title contains this word")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--out", default="docs/xnnpack-forms.md")
    arguments = parser.parse_args()
    questions()
    lines = ["# Forms on XNNPACK", "", (__doc__ or "").strip(), "", *summary(), ""]
    for title, forms in QUESTIONS.items():
        if arguments.only.lower() not in title.lower():
            continue
        rows = measure(forms, arguments.repeats)
        lines += [f"## {title}", "", "| form | ms | operators |", "|---|---:|---|"]
        print(title)
        for name, ms, histogram, failed in rows:
            spelled = failed or " ".join(f"{k}×{n}" if n > 1 else k for k, n in histogram.items())
            lines.append(f"| {name} | {ms:.3f} | {spelled} |")
            print(f"    {ms:9.3f}  {name:40s} {spelled}", flush=True)
        lines.append("")
    if not arguments.only:
        Path(arguments.out).write_text("\n".join(lines))


if __name__ == "__main__":
    main()
