"""Published weights in the networks of the zoo: is each file what was trained, and how good are its pictures?"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.report import add_arguments, deliver, table

__all__ = ["main"]


@dataclass(frozen=True)
class Case:
    """A checkpoint below ``checkpoints/`` and the entry that it belongs to."""

    file: str
    entry: str
    args: dict[str, Any] = field(default_factory=dict)
    scale: int = 4
    #: a file that the authors shipped, which has to be in step too; its picture's height and width
    shipped: str = ""
    size: tuple[int, int] = (0, 0)

    @property
    def name(self) -> str:
        return " ".join([self.entry, *(f"{k}={v}" for k, v in self.args.items())])


CASES = [
    Case("vapsr/VapSR_X4.pth", "vapsr"),
    Case("vapsr/VapSR_X3.pth", "vapsr", {"blocks": 20, "scale": 3}, 3),
    Case("vapsr/VapSR_X2.pth", "vapsr", {"blocks": 20, "scale": 2}, 2),
    Case("vapsr/VapSR-S.pth", "vapsr_s"),
    Case("rlfn/rlfn_x4.pth", "rlfn"),
    Case("rlfn/rlfn_x2.pth", "rlfn", {"scale": 2}, 2),
    Case("rlfn/rlfn_s_x4.pth", "rlfn_s"),
    Case("rlfn/rlfn_s_x2.pth", "rlfn_s", {"scale": 2}, 2),
    Case("rlfn/rlfn_ntire_x4.pth", "rlfn_ntire"),
    Case("esr_baselines/imdn_baseline.pth", "imdn"),
    Case("esr_baselines/rfdn_baseline.pth", "rfdn"),
    Case("abpn/saved_model", "abpn", scale=3),
    Case("swrn/ckpt-98.index", "swrn"),
    Case("mobile_rrn/mobile_rrn_16/ckpt-150.index", "mobile_rrn", shipped="mobile_rrn/mobile_rrn_16/rrn_16.tflite",
         size=(320, 180)),
    Case("mobile_rrn/mobile_rrn_32/ckpt-150.index", "mobile_rrn_32", shipped="mobile_rrn/mobile_rrn_32/rrn_32.tflite",
         size=(320, 180)),
    Case("uvq/aggregation_net.pth", "aggregation_net", scale=0, shipped="uvq/aggregation_net.tflite"),
]  # fmt: skip


def frames(data: Path, scale: int, count: int, height: int, width: int) -> tuple[list[np.ndarray], np.ndarray]:
    """A camera pans over Set5's butterfly: ``count`` small uint8 frames, and the middle one as it ought to become."""
    from PIL import Image

    picture = Image.open(data / "sr" / "set5" / "butterfly.png").convert("RGB")
    crops = []
    for i in range(count):
        x, y = 2 * scale * i, scale * i
        crops.append(picture.crop((x, y, x + scale * width, y + scale * height)))
    small = [np.asarray(c.resize((width, height), Image.Resampling.BICUBIC)) for c in crops]
    return small, np.asarray(crops[count // 2])


def judged(case: Case, data: Path, folder: Path) -> dict[str, Any]:
    """Verdicts on our file and the shipped one, and the pictures' quality."""
    import instep
    from instep.graph.text import parse
    from instep.zoo import path_of

    weights = data / "checkpoints" / case.file
    out = folder / "network.tflite"
    graph = parse(path_of(case.entry), args=case.args, initial=False)
    count = graph.inputs[0].shape[1] // 3 if case.scale else 0
    height, width = (48, 52) if case.scale else (0, 0)
    args = dict(case.args) | ({"H": height, "W": width} if case.scale else {})
    made = instep.convert(f"zoo:{case.entry}", out, args=args, weights=str(weights))
    assert made.verdict is not None
    found: dict[str, Any] = {
        "checkpoint": case.file, "entry": case.name, "parameters": made.parameters, "verdict": made.verdict.verdict,
        "noise_ratio": made.verdict.noise_ratio,
    }  # fmt: skip
    if case.shipped:
        sizes = {"H": case.size[0], "W": case.size[1]} if case.scale else {}
        shipped = data / "checkpoints" / case.shipped
        verdict = instep.verify(f"zoo:{case.entry}", shipped, args=case.args | sizes, weights=str(weights)).verdict
        found |= {"shipped": verdict.verdict, "shipped_ratio": verdict.noise_ratio}
    if case.scale:
        high = float(graph.meta["range"][1])
        found |= quality(out, *frames(data, case.scale, count + 2, height, width), case.scale, high, count)
    return found


def quality(
    file: Path, small: list[np.ndarray], truth: np.ndarray, scale: int, high: float, window: int
) -> dict[str, Any]:
    """PSNR of the middle frame in dB, of the file's picture and of the bicubic one; a state runs through the frames."""
    from PIL import Image
    from tests.networks.images import psnr

    from instep.runtime import run

    state: list[np.ndarray] = []
    middle, picture = len(small) // 2, small[0]
    for i in range(len(small) - window + 1):
        x = np.concatenate(small[i : i + window], -1)[None].astype(np.float32) * (high / 255)
        result = run(file, [x, *state] if state else _with_state(file, x))
        if result.failed:
            raise RuntimeError(f"{file}: {result.message}")
        picture, *state = result.outputs
        # the network's frame is its last but for a window of three, whose middle it is
        if i + window // 2 == middle:
            break
    height, width, _ = truth.shape
    bicubic = np.asarray(Image.fromarray(small[middle]).resize((width, height), Image.Resampling.BICUBIC))
    made = np.clip(picture[0] * (255 / high), 0, 255)
    return {"psnr": psnr(made, truth, scale), "bicubic": psnr(bicubic, truth, scale)}


def _with_state(file: Path, x: np.ndarray) -> list[np.ndarray]:
    """The first call's inputs: states are zero."""
    from instep.runtime import tflite_info

    info = tflite_info(file)
    return [x, *(np.zeros(info.tensors[i].shape, np.float32) for i in info.inputs[1:])]


def tables(results: Sequence[dict[str, Any]]) -> str:
    def ratio(r: dict[str, Any], verdict: str, number: str) -> str | None:
        return f"{r[verdict]}, {r[number]:.2g}×" if verdict in r else None

    def decibels(r: dict[str, Any], key: str) -> str | None:
        return f"{r[key]:.2f}" if key in r else None

    rows = [
        [r["checkpoint"], f"zoo:{r['entry']}", f"{r['parameters']:,}", ratio(r, "verdict", "noise_ratio"),
         ratio(r, "shipped", "shipped_ratio"), decibels(r, "psnr"), decibels(r, "bicubic")] for r in results
    ]  # fmt: skip
    good = sum(r["verdict"] == "in step" and r.get("shipped", "in step") == "in step" for r in results)
    head = ("checkpoint", "entry", "parameters", "our file", "shipped file", "PSNR", "bicubic")
    return f"{good} of {len(results)} checkpoints are in step.\n\n{table(head, rows)}"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.zoo_checkpoints", description=__doc__)
    parser.add_argument("--only", nargs="+", help="entries of the zoo")
    add_arguments(parser)
    options = parser.parse_args()
    if "OPENBLAS_NUM_THREADS" not in os.environ:
        os.environ["OPENBLAS_NUM_THREADS"] = "1"
        os.execv(sys.executable, [sys.executable, "-m", "benchmarks.zoo_checkpoints", *sys.argv[1:]])
    warnings.filterwarnings("ignore")
    from tests.networks.checkpoints import data_dir

    data = data_dir()
    if data is None:
        print("the data folder is not there; set INSTEP_DATA to it", file=sys.stderr)
        return 1
    results = []
    for case in CASES:
        if options.only and case.entry not in options.only:
            continue
        with tempfile.TemporaryDirectory() as folder:
            results.append(judged(case, data, Path(folder)))
        print(results[-1], file=sys.stderr, flush=True)
    deliver(options, "zoo-checkpoints", tables(results), {"checkpoints": results})
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
