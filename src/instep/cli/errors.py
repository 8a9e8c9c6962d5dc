"""What goes wrong on the command line: one message and an exit status."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import typer

from instep.cli.printing import print_json

__all__ = ["FAILED", "INTERRUPTED", "OK", "USAGE", "errors", "stop"]

#: exit statuses: all is well; a verdict or a run that fails; the user can put it right
OK, FAILED, USAGE = 0, 1, 2
#: what a shell says of a program that Ctrl-C ended
INTERRUPTED = 130


def stop(message: str) -> NoReturn:
    print(f"error: {message}", file=sys.stderr)
    raise typer.Exit(USAGE)


@contextmanager
def errors(debug: bool, as_json: bool = False) -> Iterator[None]:
    """Turns an exception into one message and exit status 2; with ``debug`` the traceback is shown.

    An exception that is a finding has an exit status and a JSON of its own.
    """
    try:
        yield
    except (typer.Exit, typer.Abort, KeyboardInterrupt, SystemExit):
        raise
    except Exception as error:
        if debug:
            raise
        print(f"error: {_message(error)}", file=sys.stderr)
        if as_json and hasattr(error, "to_json"):
            print_json(error)
        raise typer.Exit(getattr(error, "exit_status", USAGE)) from None


def _message(error: Exception) -> str:
    if isinstance(error, ModuleNotFoundError):
        missing = (error.name or "").partition(".")[0]
        if missing in ("torch", "timm"):
            return f"this needs {missing}, which is not installed: pip install {missing} (docs/install.md)"
        return f"{error}; is the package installed and on PYTHONPATH?"
    if isinstance(error, OSError) and error.strerror:
        place = f"{error.filename}: " if error.filename else ""
        return f"{place}{error.strerror}"
    ours = type(error).__module__.partition(".")[0] == "instep"
    if (ours or isinstance(error, ValueError)) and str(error):
        return str(error)
    kind = type(error).__name__
    return f"{kind}: {error} (unexpected; run again with --debug for the traceback and report it)"
