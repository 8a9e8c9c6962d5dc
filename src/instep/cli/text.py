"""The commands about networks as text: export, fmt, zoo."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from instep.cli.errors import FAILED, OK, errors, stop
from instep.cli.options import SOURCE_HELP, Args, Debug, Inputs, Json, Seed, Weights, arguments, shapes
from instep.cli.printing import print_json, telling
from instep.cli.root import app

__all__ = ["export", "fmt", "zoo"]


@app.command(epilog="Example: instep export timm:mobilenetv2_100 -o mobilenet.yaml")
def export(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help=SOURCE_HELP)],
    out: Annotated[str, typer.Option("--out", "-o", metavar="FILE", help="the .yaml file to write")],
    weights: Weights = None,
    input: Inputs = None,
    arg: Args = None,
    seed: Seed = 0,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Write a network as text that people read (docs/text-form.md), its weights beside it."""
    with errors(debug), telling(as_json) as progress:
        from instep.verbs.text import export as run

        progress("capture", source)
        files = run(source, out, weights=weights, inputs=shapes(input), args=arguments(arg), seed=seed)
    if as_json:
        print_json({"files": [str(f) for f in files]})
        return
    for file in files:
        print(file)


@app.command(epilog="Example: instep fmt --check networks/*.yaml")
def fmt(
    files: Annotated[list[str] | None, typer.Argument(metavar="FILE...", help="texts of networks")] = None,
    check: Annotated[bool, typer.Option("--check", help="change nothing; exit status 1 where something would")] = False,
    schema: Annotated[bool, typer.Option("--schema", help="print the JSON Schema of texts, for editors")] = False,
    debug: Debug = False,
) -> None:
    """Write texts of networks in the one style there is; comments stay."""
    if schema:
        from instep.graph.text.schema import schema as made

        print(json.dumps(made(), ensure_ascii=False, indent=1))
        return
    if not files:
        stop("fmt: name a file, or --schema")
    changed = []
    with errors(debug):
        from instep.verbs.text import fmt as run

        changed = [f for f in files or () if not run(f, check=check)]
    for file in changed:
        print(f"{'would change' if check else 'changed'} {file}")
    raise typer.Exit(FAILED if check and changed else OK)


zoo = typer.Typer(help="Networks as text that come with Instep.", no_args_is_help=True)
app.add_typer(zoo, name="zoo")


@zoo.command("list")
def zoo_list(as_json: Json = False, debug: Debug = False) -> None:
    """A table of the networks: parameters, multiply-accumulates, input, source."""
    with errors(debug):
        from instep.verbs.text import zoo as entries

        found = entries()
    if as_json:
        print_json([e.to_json() for e in found])
        return
    from instep.report.terminal import console, zoo_table

    console().print(zoo_table(found))


@zoo.command("show")
def zoo_show(name: Annotated[str, typer.Argument(metavar="NAME")], debug: Debug = False) -> None:
    """The text of one network."""
    with errors(debug):
        from instep.zoo import path_of

        print(path_of(name.removeprefix("zoo:")).read_text("utf-8"), end="")
