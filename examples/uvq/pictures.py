"""Pictures as UVQ's networks see them, and statistics for untrained networks from pictures."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

__all__ = ["CAT", "cut", "frame_of", "with_statistics"]

#: The picture that statistics come from unless another is named.
CAT = Path(__file__).resolve().parent.parent / "cat_original.jpg"


def frame_of(picture: str | os.PathLike[str], height: int = 1080, width: int = 1920) -> Tensor:
    """A picture enlarged or reduced to a frame [1, height, width, 3], RGB in [-1, 1]."""
    with Image.open(picture) as image:
        pixels = np.asarray(image.convert("RGB").resize((width, height), Image.Resampling.BICUBIC), np.float32)
    return torch.from_numpy((pixels / 255 - 0.5) * 2)[None]


def cut(frame: Tensor, rows: int = 3, columns: int = 3) -> Tensor:
    """A frame [1, H, W, 3] as patches [rows·columns, H/rows, W/columns, 3], row after row."""
    _, height, width, channels = frame.shape
    tiles = frame.reshape(rows, height // rows, columns, width // columns, channels)
    return tiles.permute(0, 2, 1, 3, 4).reshape(rows * columns, height // rows, width // columns, channels)


@torch.no_grad()
def with_statistics(layers: nn.Module, picture: str | os.PathLike[str] = CAT) -> None:
    """Give every batch norm in ``layers`` (which reads RGB pictures) the statistics that ``picture`` shows there.

    An untrained network's activations fade away or grow layer by layer; with real statistics they are scaled like a
    trained one's. Scales and shifts are drawn too: a converter that drops a shift of zero would not be found out.
    """
    norms = [m for m in layers.modules() if isinstance(m, nn.BatchNorm2d)]
    momenta = [m.momentum for m in norms]
    for norm in norms:
        nn.init.uniform_(norm.weight, 0.75, 1.25)
        nn.init.normal_(norm.bias, 0.0, 0.25)
        norm.momentum = 1.0  # the running statistics become those of the one batch
        norm.train()
    layers(frame_of(picture, 288, 448).permute(0, 3, 1, 2))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        norm.eval()
