"""The commands for debugging: cut, bisect, stages."""

from __future__ import annotations

from typing import Annotated

import typer

from instep.cli.errors import errors
from instep.cli.options import (
    SOURCE_HELP,
    Args,
    Debug,
    Images,
    Inputs,
    Json,
    Mean,
    On,
    PixelMax,
    Seed,
    Std,
    Timeout,
    Weights,
    arguments,
    picture,
    shapes,
)  # fmt: skip
from instep.cli.printing import conclude, telling
from instep.cli.root import app

__all__ = ["bisect", "cut", "stages"]


@app.command(epilog="Example: instep cut net.tflite --from stem/relu --to head/conv2d -o part.tflite")
def cut(
    source: Annotated[str, typer.Argument(metavar="FILE", help="A .tflite file of any origin, or " + SOURCE_HELP)],
    out: Annotated[str, typer.Option("--out", "-o", metavar="FILE|DIR", help="a .tflite file, or a folder")],
    start: Annotated[
        list[str] | None,
        typer.Option("--from", metavar="VALUE", help="where it begins: a name, its beginning, #12"),
    ] = None,
    end: Annotated[
        list[str] | None, typer.Option("--to", metavar="VALUE", help="where it ends; repeatable, like --from")
    ] = None,
    weights: Weights = None,
    input: Inputs = None,
    arg: Args = None,
    images: Images = None,
    pixel_max: PixelMax = 1.0,
    mean: Mean = "0",
    std: Std = "1",
    seed: Seed = 0,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Make any sub-network a TFLite file; into a folder, with the arrays that flow in and out of it."""
    with errors(debug), telling(as_json) as progress:
        from instep.verbs.debug import cut as run

        result = run(
            source, out, start=start or (), end=end or (), weights=weights, inputs=shapes(input),
            args=arguments(arg), images=images, picture=picture(pixel_max, mean, std), seed=seed, progress=progress,
        )  # fmt: skip
    from instep.report.debugging import cut_facts

    conclude(result, cut_facts, as_json)


@app.command(epilog="Example: instep bisect net.tflite --on litert-gpu -o fault/")
def bisect(
    a: Annotated[str, typer.Argument(metavar="A", help="what is trusted: a .tflite file, or " + SOURCE_HELP)],
    out: Annotated[str, typer.Option("--out", "-o", metavar="DIR", help="the folder to write what is found into")],
    b: Annotated[
        str | None, typer.Argument(metavar="[B]", help="what is on trial: as A; left out, A itself on the engine --on")
    ] = None,
    on: On = "",
    weights: Weights = None,
    input: Inputs = None,
    arg: Args = None,
    images: Images = None,
    pixel_max: PixelMax = 1.0,
    mean: Mean = "0",
    std: Std = "1",
    timeout: Timeout = 60.0,
    seed: Seed = 0,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Find the smallest sub-network that differs, is refused or crashes, and write it as a bug report."""
    with errors(debug), telling(as_json) as progress:
        from instep.verbs.debug import bisect as run

        result = run(
            a, b, out, on=on, weights=weights, inputs=shapes(input), args=arguments(arg), images=images,
            picture=picture(pixel_max, mean, std), seed=seed, timeout=timeout, progress=progress,
        )  # fmt: skip
    from instep.report.debugging import bisection

    conclude(result, bisection, as_json)


@app.command(epilog="Example: instep stages model.py:net net.tflite --on litert-gpu")
def stages(
    a: Annotated[str, typer.Argument(metavar="FILE", help="a .tflite file, or " + SOURCE_HELP)],
    b: Annotated[str | None, typer.Argument(metavar="[B]", help="what is on trial against it, as in bisect")] = None,
    on: On = "",
    weights: Weights = None,
    input: Inputs = None,
    arg: Args = None,
    images: Images = None,
    pixel_max: PixelMax = 1.0,
    mean: Mean = "0",
    std: Std = "1",
    timeout: Timeout = 60.0,
    seed: Seed = 0,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Show a network's stages; with a second thing or --on, the error born in each and gathered up to there."""
    with errors(debug), telling(as_json) as progress:
        from instep.verbs.debug import stages as run

        result = run(
            a, b, on=on, weights=weights, inputs=shapes(input), args=arguments(arg), images=images,
            picture=picture(pixel_max, mean, std), seed=seed, timeout=timeout, progress=progress,
        )  # fmt: skip
    from instep.report.debugging import stage_table

    conclude(result, stage_table, as_json)
