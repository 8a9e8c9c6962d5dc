"""The commands about networks as text: fmt, zoo."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from instep.cli.errors import FAILED, OK, errors, stop
from instep.cli.options import Debug, Json
from instep.cli.printing import print_json
from instep.cli.root import app

__all__ = ["fmt", "zoo"]


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
