"""`make demo`: convert a trained super-resolution network, prove it on a real picture, and use the file."""

from __future__ import annotations

import math
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

HERE = Path(__file__).resolve().parent
OUT = HERE.parent / "demo-out"
SCALE = 4


def instep(*arguments: str) -> int:
    """Run the command line as a user would, from the repository's root; its output is ours."""
    return subprocess.run([sys.executable, "-m", "instep", *arguments], cwd=HERE.parent).returncode


def say(text: str = "") -> None:
    print(text, flush=True)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """In dB on the BT.601 luma of two uint8 pictures, without a border of SCALE pixels."""
    cut = slice(SCALE, -SCALE)
    difference = (a[cut, cut].astype(np.float64) - b[cut, cut]) @ (np.array([65.481, 128.553, 24.966]) / 255)
    return 10 * math.log10(255**2 / float(np.mean(difference**2)))


def enlarge(file: Path, picture: Path) -> np.ndarray:
    """The picture (uint8 H×W×3) as the TFLite file enlarges it."""
    from instep.runtime import run

    pixels = np.asarray(Image.open(picture).convert("RGB"), np.float32)[None] / 255
    result = run(file, [pixels])
    if result.failed:
        raise SystemExit(f"{file}: {result.message}")
    return (result.outputs[0][0].clip(0, 1) * 255).round().astype(np.uint8)


def main() -> int:
    OUT.mkdir(exist_ok=True)
    network = ["examples/super_resolution.py:small_sr", "--weights", "examples/small_sr.safetensors"]
    shape = ["--input", "1,3,72,112", "--images", "examples/images"]
    convert = [*network, *shape, "-o", "demo-out/small_sr.tflite", "--report", "demo-out/report.html"]
    status = instep("convert", *convert)
    if status:
        return status
    say(f"\nThat was: instep convert {shlex.join(convert)}")

    picture, original = HERE / "images" / "cat.png", np.asarray(Image.open(HERE / "cat_original.jpg"))
    made = enlarge(OUT / "small_sr.tflite", picture)
    Image.fromarray(made).save(OUT / "cat_x4.png")
    small = Image.open(picture).convert("RGB")
    plain = np.asarray(small.resize((small.width * SCALE, small.height * SCALE), Image.Resampling.BICUBIC))
    say(
        f"The file enlarged {picture.name} from {small.width}×{small.height} to {made.shape[1]}×{made.shape[0]}: "
        f"{psnr(made, original):.2f} dB against the original, bicubic {psnr(plain, original):.2f} dB "
        "(demo-out/cat_x4.png)."
    )

    say("\nNow the same file against a network that differs in one word, align_corners=True:")
    status = instep(
        "verify", network[0], "demo-out/small_sr.tflite", *network[1:], *shape, "--arg", "align_corners=True"
    )
    if status != 1:
        say("the proof should have failed here (exit status 1), and did not")
        return 1
    say("It is found, as it should be. Open demo-out/report.html in a browser for the whole story of the first one.")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
