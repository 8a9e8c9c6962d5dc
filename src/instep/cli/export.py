"""The commands that carry a network into another form: export, port; and export for the zoo."""

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
    Mean,
    PixelMax,
    Quiet,
    Seed,
    Std,
    Weights,
    arguments,
    picture,
    shapes,
)  # fmt: skip
from instep.cli.printing import print_json, say_notes, say_verdict, telling
from instep.cli.root import app
from instep.cli.text import zoo

__all__ = ["export", "port", "zoo_export"]

To = Annotated[
    str,
    typer.Option(
        "--to", metavar="FORM", help="text, torch, keras, jax or tflite; or one form of those: docs/export.md"
    ),
]
Unsaid = Annotated[bool, typer.Option("--quiet", "-q", help="do not name the files that were written")]
Out = Annotated[str, typer.Option("--out", "-o", metavar="FILE|DIR", help="the file to write, or the folder for it")]


@app.command(epilog="Example: instep export timm:mobilenetv2_100 --to torch -o mobilenet.py")
def export(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help=SOURCE_HELP)],
    out: Out,
    to: To = "",
    weights: Weights = None,
    input: Inputs = None,
    arg: Args = None,
    seed: Seed = 0,
    as_json: Json = False,
    quiet: Unsaid = False,
    debug: Debug = False,
) -> None:
    """Write a network as code that people read, as text or as a file of a framework, its weights beside it."""
    with errors(debug), telling(as_json or quiet) as progress:
        from instep.verbs.export import export as run

        files = run(
            source, out, to=to, weights=weights, inputs=shapes(input), args=arguments(arg), seed=seed,
            progress=progress,
        )  # fmt: skip
    if as_json:
        print_json({"files": [str(f) for f in files]})
        return
    for file in () if quiet else files:
        print(file)


@zoo.command("export")
def zoo_export(
    name: Annotated[str, typer.Argument(metavar="NAME", help="a network of `instep zoo list`")],
    out: Out,
    to: To = "",
    weights: Weights = None,
    input: Inputs = None,
    arg: Args = None,
    seed: Seed = 0,
    as_json: Json = False,
    quiet: Unsaid = False,
    debug: Debug = False,
) -> None:
    """Write a network of the zoo in another form: `instep export zoo:NAME`."""
    export(f"zoo:{name.removeprefix('zoo:')}", out, to, weights, input, arg, seed, as_json, quiet, debug)


@app.command(epilog="Example: instep port net.h5 --to torch -o net.py")
def port(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help=SOURCE_HELP)],
    out: Out,
    to: To = "",
    weights: Weights = None,
    input: Inputs = None,
    arg: Args = None,
    images: Images = None,
    pixel_max: PixelMax = 1.0,
    mean: Mean = "0",
    std: Std = "1",
    on: Annotated[str, typer.Option("--on", metavar="ENGINE", help="the engine to prove on, e.g. keras-jax")] = "",
    seed: Seed = 0,
    as_json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Carry a network and its weights into another framework, and prove that it computes the same there."""
    with errors(debug), telling(as_json or quiet) as progress:
        from instep.verbs.export import port as run

        result = run(
            source, out, to=to, weights=weights, inputs=shapes(input), args=arguments(arg), images=images,
            picture=picture(pixel_max, mean, std), on=on, seed=seed, progress=progress,
        )  # fmt: skip
    if as_json:
        print_json(result)
    else:
        files = ", ".join(result.files) or "none: what is out of step is not left behind"
        say_verdict(result.verdict, [("files", files), ("source", result.source)], quiet, None)
        say_notes([] if quiet else [*result.notes, *result.verdict.notes])
    raise typer.Exit(OK if result.ok else FAILED)
