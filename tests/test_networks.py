"""Our own networks are the published ones: parameter counts, strict loading, and image quality above bicubic."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
torch = pytest.importorskip("torch")

from tests.networks.checkpoints import CHECKPOINTS, Checkpoint, data_dir, load  # noqa: E402
from tests.networks.elsr import ELSR  # noqa: E402
from tests.networks.images import high_resolution, psnr, reduced  # noqa: E402


def count(network: torch.nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def test_elsr_has_3468_convolution_parameters_and_one_slope() -> None:
    assert count(ELSR()) == 3469
    assert ELSR()(torch.zeros(1, 3, 6, 8)).shape == (1, 3, 24, 32)


@pytest.mark.parametrize("entry", CHECKPOINTS, ids=lambda e: e.name)
def test_parameter_count_is_the_published_one(entry: Checkpoint) -> None:
    assert count(entry.make()) == entry.parameters


@pytest.mark.skipif(data_dir() is None, reason="no data folder")
@pytest.mark.parametrize("entry", CHECKPOINTS, ids=lambda e: e.name)
def test_trained_weights_beat_bicubic_by_a_decibel_on_a_real_image(entry: Checkpoint) -> None:
    path = next(p for p in high_resolution("set5") if p.stem == "butterfly")
    low, high = reduced(path, entry.scale)
    low = low[16:48, 16:48]
    s = entry.scale
    high = high[16 * s : 48 * s, 16 * s : 48 * s]
    x = torch.from_numpy(low.astype(np.float32) * (entry.data_range / 255)).permute(2, 0, 1)[None]
    with torch.no_grad():
        y = load(entry)(x)[0].permute(1, 2, 0).numpy() * (255 / entry.data_range)
    bicubic = np.asarray(Image.fromarray(low).resize((32 * s, 32 * s), Image.Resampling.BICUBIC))
    assert psnr(y.clip(0, 255), high, 2 * s) > psnr(bicubic, high, 2 * s) + 1.0
