"""The options that commands share, and what is typed there as values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from instep.cli.errors import stop

SOURCE_HELP = (
    "package.module:factory, file.py:factory, timm:NAME, zoo:NAME, exported code (.py), a .pt2, .keras, .h5, .tflite "
    "or .yaml file."
)

Weights = Annotated[
    str | None, typer.Option("--weights", metavar="FILE", help="a .safetensors or plain-tensor .pth file")
]
Inputs = Annotated[
    list[str] | None,
    typer.Option("--input", metavar="SHAPE", help="1,3,224,224; name=1,3,224,224; int64:1,77 (token ids); repeatable"),
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
    str,
    typer.Option(
        "--on",
        metavar="ENGINE",
        help="the engine to run on: xnnpack builtin litert-gpu litert-gpu-fp16; torch keras-tensorflow keras-jax jax",
    ),
]
Timeout = Annotated[
    float, typer.Option("--timeout", help="seconds that one file may take on an engine, all inputs together")
]
Seed = Annotated[int, typer.Option("--seed", help="for random weights and random inputs")]
Json = Annotated[bool, typer.Option("--json", help="print one JSON object on stdout and nothing else")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="print the verdict alone")]
Debug = Annotated[bool, typer.Option("--debug", help="show the traceback of an error")]


def shapes(texts: Sequence[str] | None) -> list[Any] | dict[str, Any] | None:
    """The shapes that ``texts`` say, by name where they say names."""
    if not texts:
        return None
    from instep.capture import CaptureError
    from instep.capture.shapes import shapes_of

    try:
        return shapes_of(list(texts), "--input")
    except CaptureError as error:
        stop(str(error))


def arguments(texts: Sequence[str] | None) -> dict[str, Any] | None:
    """``["scale=4", "act=relu"]`` → ``{"scale": 4, "act": "relu"}``: Python literals, else text."""
    if not texts:
        return None
    import ast

    found: dict[str, Any] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key.isidentifier():
            stop(f"--arg {text}: write --arg KEY=VALUE, e.g. --arg scale=4")
        try:
            found[key] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            found[key] = value
    return found


def thresholds(texts: Sequence[str] | None) -> dict[str, float] | None:
    """``["sqnr=50"]`` → ``{"sqnr": 50.0}``."""
    found: dict[str, float] = {}
    for text in texts or ():
        key, _, value = text.partition("=")
        try:
            found[key] = float(value)
        except ValueError:
            stop(f"--min {text}: write --min FIGURE=NUMBER, e.g. --min sqnr=50")
    return found or None


def picture(pixel_max: float, mean: str, std: str) -> Any:
    """How pictures become inputs, or None for plain pixels in [0, 1]."""
    if (pixel_max, mean, std) == (1.0, "0", "1"):
        return None
    from instep.verify.inputs import Picture

    numbers: list[tuple[float, ...]] = []
    for option, text in (("--mean", mean), ("--std", std)):
        try:
            numbers.append(tuple(float(part) for part in text.split(",")))
        except ValueError:
            stop(f"{option} {text}: write one number or one per channel, e.g. {option} 0.485,0.456,0.406")
    if not all(numbers[1]) or len(numbers[0]) not in (1, 3) or len(numbers[1]) not in (1, 3):
        stop("--mean and --std take one number or three, and no --std may be 0")
    return Picture(pixel_max, *numbers)
