"""The commands about targets: targets, check, legalize, probe."""

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
from instep.cli.printing import conclude, print_json, say_conversion, telling
from instep.cli.root import app

__all__ = ["check", "legalize", "probe", "targets"]

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
    with errors(debug):
        from instep.targets import load, names

        found = [load(name)] if name else [load(n) for n in names()]
    if as_json:
        print_json(found[0].to_json() if name else {"targets": [p.to_json() for p in found]})
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
    attempt: Annotated[
        bool, typer.Option("--try/--no-try", help="try the rewrites, to name those that clear what is found")
    ] = True,
    strict: Annotated[bool, typer.Option("--strict", help="warnings count as failures")] = False,
    every: Annotated[bool, typer.Option("--all", help="a row for each operator, not for each finding")] = False,
    seed: Seed = 0,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Say whether targets accept a file or network; if not, which operator, why, and which rewrite clears it."""
    with errors(debug), telling(as_json) as progress:
        from instep.verbs.targets import check as judge

        result = judge(
            source, target, weights=weights, inputs=shapes(input), args=arguments(arg), images=images,
            picture=picture(pixel_max, mean, std), run=run, attempt=attempt, strict=strict, seed=seed,
            progress=progress,
        )  # fmt: skip
    from instep.report.targets import judgements

    conclude(result, lambda found: judgements(found, every), as_json)


@app.command(epilog="Example: instep legalize theirs.tflite --target litert-gpu -o ours.tflite")
def legalize(
    file: Annotated[str, typer.Argument(metavar="FILE", help="a .tflite file of any origin")],
    target: Annotated[
        str, typer.Option("--target", "-t", metavar="NAME", help="a target, or your own profile (.yaml)")
    ],
    out: Annotated[str, typer.Option("--out", "-o", metavar="FILE", help="the TFLite file to write")],
    input: Inputs = None,
    images: Images = None,
    pixel_max: PixelMax = 1.0,
    mean: Mean = "0",
    std: Std = "1",
    force: Annotated[bool, typer.Option("--force", help="write even what the target does not accept")] = False,
    prove_each: Annotated[bool, typer.Option("--prove-each", help="run every rewrite under proof")] = False,
    verify: Annotated[bool, typer.Option("--verify/--no-verify", help="prove the result against the file")] = True,
    seed: Seed = 0,
    as_json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Make a TFLite file of any origin acceptable to a target, and prove the result against the file."""
    with errors(debug, as_json), telling(as_json or quiet) as progress:
        from instep.verbs.targets import legalize as make

        result = make(
            file, target, out, inputs=shapes(input), images=images, picture=picture(pixel_max, mean, std),
            force=force, prove_each=prove_each, verify=verify, seed=seed, progress=progress,
        )  # fmt: skip
    if as_json:
        print_json(result)
    else:
        say_conversion(result, quiet)
    raise typer.Exit(OK if result.ok else FAILED)


@app.command(epilog="Example: instep probe litert-gpu --only CONV_2D -o my-gpu.yaml")
def probe(
    name: Annotated[str, typer.Argument(metavar="NAME", help="an engine, or a target that has one")],
    out: Annotated[str | None, typer.Option("--out", "-o", metavar="FILE", help="the profile to write (.yaml)")] = None,
    only: Annotated[
        list[str] | None, typer.Option("--only", metavar="OP", help="ask about this TFLite operator; may be repeated")
    ] = None,
    answers: Annotated[
        str | None, typer.Option("--answers", metavar="FILE", help="write the answers themselves (.json)")
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Ask an engine one operator and one constraint at a time; write the profile that its answers give."""
    with errors(debug, as_json), telling(as_json or quiet) as progress:
        from instep.verbs.probe import probe as ask

        def told(done: int, total: int, last: str) -> None:
            progress("probe", f"{done} of {total} questions ({last})")

        result = ask(name, out, only=only or (), answers=answers, progress=told if progress else None)
    from instep.report.probe import probed

    conclude(result, probed, as_json)
