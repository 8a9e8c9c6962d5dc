"""The commands about files: convert, verify, show, bench."""

from __future__ import annotations

from typing import Annotated

import typer

from instep.cli.errors import FAILED, OK, errors
from instep.cli.options import (
    SOURCE_HELP,
    Args,
    Debug,
    Images,
    Inputs,
    Json,
    Least,
    Mean,
    On,
    PixelMax,
    Quiet,
    Report,
    Seed,
    Std,
    Timeout,
    Weights,
    arguments,
    picture,
    shapes,
    thresholds,
)  # fmt: skip
from instep.cli.printing import print_json, say_conversion, say_notes, say_verdict, telling
from instep.cli.root import app

__all__ = ["bench", "convert", "show", "verify"]


@app.command(epilog="Example: instep convert model.py:net --weights net.safetensors --input 1,3,64,64 -o net.tflite")
def convert(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help=SOURCE_HELP)],
    out: Annotated[str, typer.Option("--out", "-o", metavar="FILE", help="the TFLite file to write")],
    weights: Weights = None,
    input: Inputs = None,
    arg: Args = None,
    images: Images = None,
    pixel_max: PixelMax = 1.0,
    mean: Mean = "0",
    std: Std = "1",
    io: Annotated[str, typer.Option("--io", metavar="nhwc|nchw", help="layout of inputs and outputs")] = "nhwc",
    tune: Annotated[str, typer.Option("--tune", metavar="avx512", help="lay out for one kind of processor only")] = "",
    target: Annotated[
        str | None, typer.Option("--target", "-t", metavar="NAME", help="make it acceptable to a target (or .yaml)")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="write even what the target does not accept")] = False,
    fp16: Annotated[bool, typer.Option("--fp16", help="store the weights as float16")] = False,
    prove_each: Annotated[bool, typer.Option("--prove-each", help="run every rewrite under proof")] = False,
    verify: Annotated[bool, typer.Option("--verify/--no-verify", help="prove the file against the source")] = True,
    report: Report = None,
    least: Least = None,
    seed: Seed = 0,
    as_json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Convert a network to a TFLite file and prove the file value by value."""
    with errors(debug, as_json), telling(as_json or quiet) as progress:
        from instep.verbs.convert import convert as run

        result = run(
            source, out, weights=weights, inputs=shapes(input), args=arguments(arg), images=images,
            picture=picture(pixel_max, mean, std), io=io, tune=tune, target=target, force=force, half=fp16,
            report=report, prove_each=prove_each, verify=verify, thresholds=thresholds(least), seed=seed,
            progress=progress,
        )  # fmt: skip
    if as_json:
        print_json(result)
    else:
        say_conversion(result, quiet)
    raise typer.Exit(OK if result.ok else FAILED)


@app.command(epilog="Example: instep verify model.py:net net.tflite --weights net.safetensors --images pictures/")
def verify(
    source: Annotated[str, typer.Argument(metavar="A", help=SOURCE_HELP)],
    file: Annotated[str, typer.Argument(metavar="B", help="a .tflite of any tool; .py, .pt2, .keras, .yaml")],
    weights: Weights = None,
    input: Inputs = None,
    arg: Args = None,
    images: Images = None,
    pixel_max: PixelMax = 1.0,
    mean: Mean = "0",
    std: Std = "1",
    report: Report = None,
    least: Least = None,
    on: On = "",
    timeout: Timeout = 900.0,
    seed: Seed = 0,
    as_json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Prove that a file computes the same function as its source; if not, say where and why."""
    with errors(debug), telling(as_json or quiet) as progress:
        from instep.verbs.verify import verify as run

        result = run(
            source, file, weights=weights, inputs=shapes(input), args=arguments(arg), images=images,
            picture=picture(pixel_max, mean, std), report=report, thresholds=thresholds(least), on=on,
            timeout=timeout, seed=seed, progress=progress,
        )  # fmt: skip
    if as_json:
        print_json(result)
    else:
        say_verdict(result.verdict, [("file", result.file), ("source", result.source)], quiet, result.report)
        say_notes([] if quiet else [*result.notes, *result.verdict.notes])
    raise typer.Exit(OK if result.ok else FAILED)


@app.command(epilog="Example: instep show timm:resnet18 --depth 2")
def show(
    source: Annotated[str, typer.Argument(metavar="FILE", help=SOURCE_HELP)],
    weights: Weights = None,
    input: Inputs = None,
    arg: Args = None,
    depth: Annotated[int | None, typer.Option("--depth", min=1, help="how many levels of scopes")] = None,
    seed: Seed = 0,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Print a network as the tree of its scopes: operators, shapes, parameters, multiply-accumulates."""
    with errors(debug), telling(as_json) as progress:
        from instep.verbs.show import show as run

        progress("capture", source)
        table = run(source, weights=weights, inputs=shapes(input), args=arguments(arg), seed=seed)
    if as_json:
        print_json(table)
        return
    from instep.report.terminal import console, tree

    console().print(tree(table, depth))


@app.command(epilog="Example: instep bench mine.tflite theirs.tflite --repeats 30")
def bench(
    files: Annotated[list[str], typer.Argument(metavar="FILE...", help="TFLite files; the first is what others meet")],
    repeats: Annotated[int, typer.Option("--repeats", min=1, help="interleaved rounds")] = 15,
    threads: Annotated[int, typer.Option("--threads", min=1, help="XNNPACK threads")] = 1,
    on: Annotated[
        str,
        typer.Option(
            "--on",
            metavar="ENGINE",
            help="xnnpack builtin litert-gpu litert-gpu-fp16; ethos-u55-128 … are not run: their compiler's estimate",
        ),
    ] = "xnnpack",
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Time TFLite files on one engine, in turn, and print the medians; of an NPU its compiler's estimates."""
    with errors(debug), telling(as_json) as progress:
        from instep.verbs.show import bench as run

        progress("bench", f"{len(files)} files on {on}")
        result = run(files, repeats=repeats, threads=threads, on=on)
    if as_json:
        print_json(result)
    elif result.estimates:
        from instep.report.terminal import console, estimate_table

        console().print(estimate_table(result))
    else:
        from instep.report.terminal import bench_table, console

        rows = [(f, result.median_ms.get(f), result.bytes[f], result.failed.get(f, "")) for f in result.files]
        console().print(bench_table(rows))
    raise typer.Exit(OK if result.ok else FAILED)
