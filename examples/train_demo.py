"""Trains the demonstration network and writes ``small_sr.safetensors``: one CPU thread, about ten minutes.

    python examples/train_demo.py --images FOLDER --test SET5 --minutes 10

The shipped weights were trained on the 24 low-resolution pictures DIV2K 0901–0924 (Agustsson and Timofte, 2017; made
available for academic research), which served as *high*-resolution targets; the inputs are their ×1/4 bicubic
reductions. No picture of DIV2K is part of this project.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save_file

from super_resolution import SmallSR, small_sr

SCALE = 4


def pair(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """(small, large) uint8 H×W×3: the picture cropped to a multiple of the scale, and its bicubic reduction."""
    image = Image.open(path).convert("RGB")
    width, height = (side // SCALE * SCALE for side in image.size)
    image = image.crop((0, 0, width, height))
    return np.asarray(image.resize((width // SCALE, height // SCALE), Image.Resampling.BICUBIC)), np.asarray(image)


def tensor(image: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float() / 255


def luma_psnr(a: np.ndarray, b: np.ndarray) -> float:
    """PSNR in dB on the BT.601 luma of two uint8 pictures, without a border of SCALE pixels (the field's custom)."""
    weights = np.array([65.481, 128.553, 24.966]) / 255
    cut = slice(SCALE, -SCALE)
    difference = (a[cut, cut].astype(np.float64) - b[cut, cut]) @ weights
    return 10 * math.log10(255**2 / float(np.mean(difference**2)))


def score(network: SmallSR, folder: Path) -> tuple[float, float]:
    """Mean PSNR over a folder: (this network, bicubic enlargement)."""
    ours, bicubic = [], []
    for path in sorted(folder.glob("*.png")):
        small, large = pair(path)
        with torch.no_grad():
            made = network(tensor(small))[0].permute(1, 2, 0).mul(255).round().clamp(0, 255).byte().numpy()
        plain = Image.fromarray(small).resize((large.shape[1], large.shape[0]), Image.Resampling.BICUBIC)
        ours.append(luma_psnr(made, large))
        bicubic.append(luma_psnr(np.asarray(plain), large))
    return float(np.mean(ours)), float(np.mean(bicubic))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True, help="a folder of PNG pictures to learn from")
    parser.add_argument("--test", type=Path, required=True, help="a folder of PNG pictures to measure on")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--patch", type=int, default=32, help="side of the small crops")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--out", type=Path, default=Path(__file__).with_name("small_sr.safetensors"))
    options = parser.parse_args()

    torch.set_num_threads(1)
    torch.manual_seed(options.seed)
    rng = np.random.default_rng(options.seed)
    pictures = [pair(path) for path in sorted(options.images.glob("*.png"))]
    if not pictures:
        parser.error(f"no PNG picture in {options.images}")

    def batch() -> tuple[torch.Tensor, torch.Tensor]:
        inputs, targets = [], []
        for _ in range(options.batch):
            small, large = pictures[rng.integers(len(pictures))]
            p = options.patch
            y, x = rng.integers(small.shape[0] - p + 1), rng.integers(small.shape[1] - p + 1)
            a = small[y : y + p, x : x + p]
            b = large[y * SCALE : (y + p) * SCALE, x * SCALE : (x + p) * SCALE]
            turns, mirrored = int(rng.integers(4)), int(rng.integers(2))
            a, b = (np.rot90(i, turns)[:, :: -1 if mirrored else 1] for i in (a, b))
            inputs.append(tensor(a))
            targets.append(tensor(b))
        return torch.cat(inputs), torch.cat(targets)

    network = small_sr().train()
    torch.nn.init.zeros_(network.tail.weight)  # begin as the plain enlargement
    adam = torch.optim.Adam(network.parameters(), lr=2e-3)
    start, step, mean = time.monotonic(), 0, 0.0
    while (share := (time.monotonic() - start) / (60 * options.minutes)) < 1:
        adam.param_groups[0]["lr"] = 1e-5 + 2e-3 * 0.5 * (1 + math.cos(math.pi * share))
        inputs, targets = batch()
        loss = F.l1_loss(network(inputs), targets)
        adam.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 0.5)
        adam.step()
        mean += (loss.item() - mean) * max(0.01, 1 / (step + 1))
        if step % 250 == 0:
            ours, bicubic = score(network, options.test)
            seconds = time.monotonic() - start
            line = f"{seconds:5.0f} s  step {step:5d}  L1 {mean:.5f}  PSNR {ours:.2f} dB, bicubic {bicubic:.2f}"
            print(line, flush=True)
        step += 1

    network.eval()
    ours, bicubic = score(network, options.test)
    parameters = sum(p.numel() for p in network.parameters())
    print(f"{step} steps, {parameters} parameters: PSNR {ours:.2f} dB, bicubic {bicubic:.2f} dB")
    save_file(
        {name: value.contiguous() for name, value in network.state_dict().items()},
        options.out,
        metadata={"psnr_set5_y": f"{ours:.2f}", "bicubic_set5_y": f"{bicubic:.2f}", "steps": str(step)},
    )
    print(f"wrote {options.out}")


if __name__ == "__main__":
    main()
