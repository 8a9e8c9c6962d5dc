"""The application that every command enters, and what it answers without one."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = ["app"]

app = typer.Typer(
    name="instep",
    help="Networks between PyTorch, Keras, JAX and TFLite, proved value by value.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        from instep import __version__

        print(f"instep {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="print the version")
    ] = False,
) -> None:
    """Networks between PyTorch, Keras, JAX and TFLite, proved value by value.

    Exit status: 0 in step; 1 a verdict or a run that fails; 2 something to put right.
    """
