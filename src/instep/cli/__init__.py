"""The command line: each command is the verb of its name. Before one runs, nothing heavier than typer is imported."""

from __future__ import annotations

import os
import sys

import typer

from instep.cli import convert, debug, export, targets, text  # noqa: F401  each enters its commands into ``app``
from instep.cli.errors import INTERRUPTED, OK, USAGE
from instep.cli.root import app
from instep.process import one_command

__all__ = ["app", "main"]


def main() -> int:
    """The entry point: the exit status. Ctrl-C gives 130 and leaves nothing behind."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        with one_command():
            status = app(standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort):
        status = INTERRUPTED
    except BrokenPipeError:
        # the reader of our output has gone (`instep show net | head`)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except Exception as error:
        show = getattr(error, "show", None)
        if show is None:
            raise
        show()
        return int(getattr(error, "exit_code", USAGE))
    if status == INTERRUPTED:
        print("interrupted; nothing was written", file=sys.stderr)
    return status if isinstance(status, int) else OK
