"""The command line: convert, verify, show, bench. Every verb is a function of the same name in ``instep.api``."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from instep.collector import one_command

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

# Nothing heavier than typer is imported up here: `instep --help` answers at once.

__all__ = ["app", "main"]

app = typer.Typer(
    name="instep",
    help="PyTorch networks to TFLite, proved value by value.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

#: exit statuses: all is well; a verdict or a run that fails; the user can put it right
OK, FAILED, USAGE = 0, 1, 2

SOURCE_HELP = "package.module:factory, file.py:factory, timm:NAME, zoo:NAME, a .pt2, .tflite or .yaml file."

Weights = Annotated[
    str | None, typer.Option("--weights", metavar="FILE", help="a .safetensors or plain-tensor .pth file")
]
Inputs = Annotated[
    list[str] | None,
    typer.Option("--input", metavar="SHAPE", help="1,3,224,224 (or name=1,3,224,224); once for each input"),
]
Args = Annotated[
    list[str] | None, typer.Option("--arg", metavar="KEY=VALUE", help="an argument of the factory; repeatable")
]
Images = Annotated[str | None, typer.Option("--images", metavar="PATH", help="a picture or folder to prove on as well")]
PixelMax = Annotated[float, typer.Option("--pixel-max", help="what a white pixel of a picture is as input: 1 or 255")]
Mean = Annotated[str, typer.Option("--mean", metavar="R,G,B", help="subtracted from pictures, per channel")]
Std = Annotated[str, typer.Option("--std", metavar="R,G,B", help="pictures are divided by it, per channel")]
Report = Annotated[str | None, typer.Option("--report", metavar="FILE", help="write an HTML report")]
Least = Annotated[
    list[str] | None,
    typer.Option("--min", metavar="FIGURE=NUMBER", help="judge a lossy result: sqnr psnr ssim correlation top1 top5"),
]
On = Annotated[
    str, typer.Option("--on", metavar="ENGINE", help="the engine to run on: xnnpack builtin litert-gpu litert-gpu-fp16")
]
Seed = Annotated[int, typer.Option("--seed", help="for random weights and random inputs")]
Json = Annotated[bool, typer.Option("--json", help="print one JSON object on stdout and nothing else")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="print the verdict alone")]
Debug = Annotated[bool, typer.Option("--debug", help="show the traceback of an error")]


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
    """PyTorch networks to TFLite, proved value by value.

    Exit status: 0 in step; 1 a verdict or a run that fails; 2 something to put right.
    """


@app.command(epilog="Example: instep convert model.py:net --weights net.safetensors --input 1,3,64,64 -o net.tflite")
def convert(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help=SOURCE_HELP)],
    out: Annotated[str, typer.Option("--out", "-o", metavar="FILE", help="the TFLite file to write")],
    weights: Weights = None,
    input: Inputs = None,
    arg: Args = None,
    images: Images = None,
    pixel_max: PixelMax = 1.0,
    mean: Mean = "0",
    std: Std = "1",
    io: Annotated[str, typer.Option("--io", metavar="nhwc|nchw", help="layout of inputs and outputs")] = "nhwc",
    tune: Annotated[str, typer.Option("--tune", metavar="avx512", help="lay out for one kind of processor only")] = "",
    target: Annotated[
        str | None, typer.Option("--target", "-t", metavar="NAME", help="make it acceptable to a target (or .yaml)")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="write even what the target does not accept")] = False,
    fp16: Annotated[bool, typer.Option("--fp16", help="store the weights as float16")] = False,
    prove_each: Annotated[bool, typer.Option("--prove-each", help="run every rewrite under proof")] = False,
    verify: Annotated[bool, typer.Option("--verify/--no-verify", help="prove the file against the source")] = True,
    report: Report = None,
    least: Least = None,
    seed: Seed = 0,
    as_json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Convert a PyTorch network to a TFLite file and prove the file value by value."""
    with _errors(debug, as_json), _progress(as_json or quiet) as progress:
        from instep import api

        result = api.convert(
            source, out, weights=weights, inputs=_shapes(input), args=_arguments(arg), images=images,
            picture=_picture(pixel_max, mean, std), io=io, tune=tune, target=target, force=force, half=fp16,
            report=report, prove_each=prove_each, verify=verify, thresholds=_thresholds(least), seed=seed,
            progress=progress,
        )  # fmt: skip
    if as_json:
        _print_json(result)
    else:
        _say_conversion(result, quiet)
    raise typer.Exit(OK if result.ok else FAILED)


@app.command(epilog="Example: instep verify model.py:net net.tflite --weights net.safetensors --images pictures/")
def verify(
    source: Annotated[str, typer.Argument(metavar="A", help=SOURCE_HELP)],
    file: Annotated[str, typer.Argument(metavar="B", help="the TFLite file on trial, made by any tool")],
    weights: Weights = None,
    input: Inputs = None,
    arg: Args = None,
    images: Images = None,
    pixel_max: PixelMax = 1.0,
    mean: Mean = "0",
    std: Std = "1",
    report: Report = None,
    least: Least = None,
    on: On = "",
    seed: Seed = 0,
    as_json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Prove that a TFLite file computes the same function as its source; if not, say where and why."""
    with _errors(debug), _progress(as_json or quiet) as progress:
        from instep import api

        result = api.verify(
            source, file, weights=weights, inputs=_shapes(input), args=_arguments(arg), images=images,
            picture=_picture(pixel_max, mean, std), report=report, thresholds=_thresholds(least), on=on,
            seed=seed, progress=progress,
        )  # fmt: skip
    if as_json:
        _print_json(result)
    else:
        _say_verdict(result.verdict, [("file", result.file), ("source", result.source)], quiet, result.report)
        _say_notes([] if quiet else [*result.notes, *result.verdict.notes])
    raise typer.Exit(OK if result.ok else FAILED)


@app.command(epilog="Example: instep show timm:resnet18 --depth 2")
def show(
    source: Annotated[str, typer.Argument(metavar="FILE", help=SOURCE_HELP)],
    weights: Weights = None,
    input: Inputs = None,
    arg: Args = None,
    depth: Annotated[int | None, typer.Option("--depth", min=1, help="how many levels of scopes")] = None,
    seed: Seed = 0,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Print a network as the tree of its scopes: operators, shapes, parameters, multiply-accumulates."""
    with _errors(debug), _progress(as_json) as progress:
        from instep import api

        progress("capture", source)
        table = api.show(source, weights=weights, inputs=_shapes(input), args=_arguments(arg), seed=seed)
    if as_json:
        _print_json(table)
        return
    from instep.report.terminal import console, tree

    console().print(tree(table, depth))


@app.command(epilog="Example: instep bench mine.tflite theirs.tflite --repeats 30")
def bench(
    files: Annotated[list[str], typer.Argument(metavar="FILE...", help="TFLite files; the first is what others meet")],
    repeats: Annotated[int, typer.Option("--repeats", min=1, help="interleaved rounds")] = 15,
    threads: Annotated[int, typer.Option("--threads", min=1, help="XNNPACK threads")] = 1,
    on: On = "xnnpack",
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Time TFLite files on one engine, in turn, and print the medians."""
    with _errors(debug), _progress(as_json) as progress:
        from instep import api

        progress("bench", f"{len(files)} files, {repeats} rounds")
        result = api.bench(files, repeats=repeats, threads=threads, on=on)
    if as_json:
        _print_json(result)
    else:
        from instep.report.terminal import bench_table, console

        rows = [(f, result.median_ms.get(f), result.bytes[f], result.failed.get(f, "")) for f in result.files]
        console().print(bench_table(rows))
    raise typer.Exit(OK if result.ok else FAILED)


# -- what is typed ---------------------------------------------------------------------------------------------------
def _shapes(texts: Sequence[str] | None) -> list[list[int]] | dict[str, list[int]] | None:
    """``["1,3,64,64"]`` → ``[[1, 3, 64, 64]]``; ``["x=1,3"]`` → ``{"x": [1, 3]}``."""
    if not texts:
        return None

    def shape(text: str, whole: str) -> list[int]:
        try:
            sizes = [int(part) for part in text.replace("x", ",").split(",")]
        except ValueError:
            sizes = []
        if not sizes or min(sizes) < 1:
            _stop(f"--input {whole}: a shape is positive whole numbers with commas, e.g. --input 1,3,224,224")
        return sizes

    named = [text.partition("=") for text in texts if "=" in text]
    if not named:
        return [shape(text, text) for text in texts]
    if len(named) != len(texts):
        _stop("--input: name all inputs (--input x=1,3,64,64) or none")
    return {name: shape(sizes, f"{name}={sizes}") for name, _, sizes in named}


def _arguments(texts: Sequence[str] | None) -> dict[str, Any] | None:
    """``["scale=4", "act=relu"]`` → ``{"scale": 4, "act": "relu"}``: Python literals, else text."""
    if not texts:
        return None
    import ast

    found: dict[str, Any] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key.isidentifier():
            _stop(f"--arg {text}: write --arg KEY=VALUE, e.g. --arg scale=4")
        try:
            found[key] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            found[key] = value
    return found


def _thresholds(texts: Sequence[str] | None) -> dict[str, float] | None:
    """``["sqnr=50"]`` → ``{"sqnr": 50.0}``."""
    found: dict[str, float] = {}
    for text in texts or ():
        key, _, value = text.partition("=")
        try:
            found[key] = float(value)
        except ValueError:
            _stop(f"--min {text}: write --min FIGURE=NUMBER, e.g. --min sqnr=50")
    return found or None


def _picture(pixel_max: float, mean: str, std: str) -> Any:
    """How pictures become inputs, or None for plain pixels in [0, 1]."""
    if (pixel_max, mean, std) == (1.0, "0", "1"):
        return None
    from instep.verify.inputs import Picture

    numbers: list[tuple[float, ...]] = []
    for option, text in (("--mean", mean), ("--std", std)):
        try:
            numbers.append(tuple(float(part) for part in text.split(",")))
        except ValueError:
            _stop(f"{option} {text}: write one number or one per channel, e.g. {option} 0.485,0.456,0.406")
    if not all(numbers[1]) or len(numbers[0]) not in (1, 3) or len(numbers[1]) not in (1, 3):
        _stop("--mean and --std take one number or three, and no --std may be 0")
    return Picture(pixel_max, *numbers)


# -- what is printed -------------------------------------------------------------------------------------------------
def _print_json(result: Any) -> None:
    print(json.dumps(result.to_json(), ensure_ascii=False, allow_nan=False, default=str))


def _say_conversion(result: Any, quiet: bool) -> None:
    from instep.report.document import facts_of
    from instep.report.terminal import console, op_counts

    if result.verdict is None:
        from instep.report.terminal import verdict_panel

        console().print(verdict_panel("not proved", "", [("file", result.file), *facts_of(result)]))
    else:
        _say_verdict(result.verdict, [("file", result.file), *facts_of(result)], quiet, result.report)
    if quiet:
        return
    console().print(op_counts(result.ops_captured, result.ops))
    if result.target is not None:
        from instep.report.targets import left

        console().print(left(result.target, result.violations))
    _say_notes([*result.notes, *(result.verdict.notes if result.verdict else [])])
    for step in result.unfaithful:
        console(error=True).print(f"rewrite {step.name!r} moved an output by {step.proof:.3g} × its noise", style="red")
    if not result.ok:
        console(error=True).print(
            f"[red]The proof failed.[/red] {result.file} was written so that it can be examined; do not ship it."
        )


def _say_verdict(verdict: Any, facts: list[tuple[str, str]], quiet: bool, report: str | None) -> None:
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


def _say_notes(notes: Sequence[str]) -> None:
    from instep.report.terminal import console

    for note in notes:
        console(error=True).print(f"note: {note}", style="dim", markup=False)


@contextmanager
def _progress(silent: bool) -> Iterator[Callable[[str, str], None]]:
    """A line on stderr that says what is going on; nothing where stderr is no terminal."""
    if silent or not sys.stderr.isatty():
        yield lambda room, what: None
        return
    from instep.report.terminal import console

    screen: Console = console(error=True)
    with screen.status("starting", spinner="dots") as status:
        yield lambda room, what: status.update(f"[bold]{room}[/bold]  {what}")


# -- what goes wrong -------------------------------------------------------------------------------------------------
def _stop(message: str) -> None:
    print(f"error: {message}", file=sys.stderr)
    raise typer.Exit(USAGE)


@contextmanager
def _errors(debug: bool, as_json: bool = False) -> Iterator[None]:
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
            _print_json(error)
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


def main() -> int:
    """The entry point: the exit status. Ctrl-C gives 130 and leaves nothing behind."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        with one_command():
            status = app(standalone_mode=False)
    except KeyboardInterrupt:
        print("interrupted; nothing was written", file=sys.stderr)
        return 130
    except typer.Abort:
        return 130
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
    return status if isinstance(status, int) else OK


# they add their commands to ``app``, which has to be there first
from instep import cli_debug, cli_targets, cli_text  # noqa: E402, F401
