"""The commands about targets: targets, check."""

from __future__ import annotations

from typing import Annotated

import typer

from instep.cli import (
    FAILED,
    OK,
    SOURCE_HELP,
    Args,
    Debug,
    Images,
    Inputs,
    Json,
    Mean,
    PixelMax,
    Seed,
    Std,
    Weights,
    _arguments,
    _errors,
    _picture,
    _print_json,
    _progress,
    _say_notes,
    _shapes,
    app,
)  # fmt: skip

__all__ = ["check", "targets"]

Targets = Annotated[
    list[str],
    typer.Option("--target", "-t", metavar="NAME", help="a target (`instep targets`) or a profile of yours (.yaml)"),
]


@app.command(epilog="Example: instep targets litert-gpu")
def targets(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="a target, or a profile of yours (.yaml)")
    ] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """List the targets and what is known of them, or one target with its rules."""
    with _errors(debug):
        from instep.targets import load, names

        found = [load(name)] if name else [load(n) for n in names()]
    if as_json:
        _print_json(_Plain(found[0].to_json() if name else {"targets": [p.to_json() for p in found]}))
        return
    from instep.report.targets import profile, profiles
    from instep.report.terminal import console

    console().print(profile(found[0]) if name else profiles(found))


@app.command(epilog="Example: instep check net.tflite --target litert-gpu --target bstm")
def check(
    source: Annotated[str, typer.Argument(metavar="FILE", help="A .tflite file of any origin, or " + SOURCE_HELP)],
    target: Targets,
    weights: Weights = None,
    input: Inputs = None,
    arg: Args = None,
    images: Images = None,
    pixel_max: PixelMax = 1.0,
    mean: Mean = "0",
    std: Std = "1",
    run: Annotated[bool, typer.Option("--run/--no-run", help="run the file to see its values' range")] = True,
    strict: Annotated[bool, typer.Option("--strict", help="warnings count as failures")] = False,
    seed: Seed = 0,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Say whether targets accept a file or network; if not, which operator, why, and which rewrite clears it."""
    with _errors(debug), _progress(as_json) as progress:
        from instep.targeting import check as judge

        result = judge(
            source, target, weights=weights, inputs=_shapes(input), args=_arguments(arg), images=images,
            picture=_picture(pixel_max, mean, std), run=run, strict=strict, seed=seed, progress=progress,
        )  # fmt: skip
    if as_json:
        _print_json(result)
    else:
        from instep.report.targets import judgement
        from instep.report.terminal import console

        for one in result.judgements:
            console().print(judgement(one))
        _say_notes(result.notes)
    raise typer.Exit(OK if result.ok else FAILED)


class _Plain:
    """Plain data where a result is expected."""

    def __init__(self, data: object) -> None:
        self.data = data

    def to_json(self) -> object:
        return self.data
