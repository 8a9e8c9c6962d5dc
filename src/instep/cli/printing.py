"""What commands print: results as JSON or for people, notes, and a line that says what is going on."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

import typer

from instep.process import stop_if_asked

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

__all__ = ["conclude", "print_json", "say_conversion", "say_notes", "say_verdict", "telling"]


def print_json(result: Any) -> None:
    """A result, or plain data, as one line of JSON."""
    data = result.to_json() if hasattr(result, "to_json") else result
    print(json.dumps(data, ensure_ascii=False, allow_nan=False, default=str))


def conclude(result: Any, shown: Callable[[Any], RenderableType], as_json: bool) -> NoReturn:
    """Print a result, as ``shown`` makes it or as JSON, and end the command with its exit status."""
    if as_json:
        print_json(result)
    else:
        from instep.report.terminal import console

        console().print(shown(result))
        say_notes(getattr(result, "notes", ()))
    raise typer.Exit(0 if getattr(result, "ok", True) else 1)


def say_conversion(result: Any, quiet: bool) -> None:
    from instep.report.document import facts_of
    from instep.report.terminal import console, op_counts

    if result.verdict is None and quiet:
        console().print(f"not proved  {result.file}", soft_wrap=True)
    elif result.verdict is None:
        from instep.report.terminal import verdict_panel

        console().print(verdict_panel("not proved", "", [("file", result.file), *facts_of(result)]))
    else:
        say_verdict(result.verdict, [("file", result.file), *facts_of(result)], quiet, result.report)
    if quiet:
        return
    console().print(op_counts(result.ops_captured, result.ops))
    if result.target is not None:
        from instep.report.targets import left

        console().print(left(result.target, result.violations))
    say_notes([*result.notes, *(result.verdict.notes if result.verdict else [])])
    for step in result.unfaithful:
        console(error=True).print(f"rewrite {step.name!r} moved an output by {step.proof:.3g} × its noise", style="red")
    if not result.ok:
        console(error=True).print(
            f"[red]The proof failed.[/red] {result.file} was written so that it can be examined; do not ship it."
        )


def say_verdict(verdict: Any, facts: list[tuple[str, str]], quiet: bool, report: str | None) -> None:
    from instep.report.document import facts_of_fault, headline, sentence, value_row
    from instep.report.terminal import console, values, verdict_panel

    screen = console()
    if quiet:
        screen.print(f"{headline(verdict)}  {facts[0][1]}", soft_wrap=True)
        return
    if report is not None:
        facts = [*facts, ("report", report)]
    screen.print(verdict_panel(headline(verdict), sentence(verdict), [*facts_of_fault(verdict), *facts]))
    if not verdict.ok and verdict.outputs:
        screen.print(values([value_row(r) for r in verdict.worst(5)], "Worst values"))


def say_notes(notes: Sequence[str]) -> None:
    from instep.report.terminal import console

    for note in notes:
        console(error=True).print(f"note: {note}", style="dim", markup=False)


@contextmanager
def telling(silent: bool) -> Iterator[Callable[[str, str], None]]:
    """A line on stderr that says what is going on; nothing where stderr is no terminal. Whoever tells stops at a Ctrl-C
    that a package on the way has swallowed."""
    if silent or not sys.stderr.isatty():
        yield lambda room, what: stop_if_asked()
    else:
        from instep.report.terminal import console

        screen: Console = console(error=True)
        with screen.status("starting", spinner="dots") as status:

            def tell(room: str, what: str) -> None:
                stop_if_asked()
                status.update(f"[bold]{room}[/bold]  {what}")

            yield tell
    stop_if_asked()
