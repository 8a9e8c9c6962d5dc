"""RLFN, winner of the NTIRE 2022 challenge on efficient super-resolution (Kong et al., arXiv 2205.07514)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from .attention import SpatialAttention

__all__ = ["RLFN"]


class Block(nn.Module):
    """Three 3×3 convolutions with leaky ReLU and a skip, a 1×1 convolution, spatial attention."""

    def __init__(self, channels: int, middle: int) -> None:
        super().__init__()
        self.c1_r = nn.Conv2d(channels, middle, 3, padding=1)
        self.c2_r = nn.Conv2d(middle, middle, 3, padding=1)
        self.c3_r = nn.Conv2d(middle, channels, 3, padding=1)
        self.c5 = nn.Conv2d(channels, channels, 1)
        self.esa = SpatialAttention(channels, 16, deep=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x
        for conv in (self.c1_r, self.c2_r, self.c3_r):
            y = F.leaky_relu(conv(y), 0.05)
        return self.esa(self.c5(y + x))


class RLFN(nn.Module):
    """conv, ``blocks`` residual local feature blocks, conv with a skip, conv, pixel shuffle.

    RLFN: 52 channels, 6 blocks; RLFN-S: 48 channels; the challenge's: 46 channels, 48 inside, 4 blocks.
    """

    def __init__(self, channels: int = 52, middle: int | None = None, blocks: int = 6, scale: int = 4) -> None:
        super().__init__()
        self.conv_1 = nn.Conv2d(3, channels, 3, padding=1)
        self.blocks = [f"block_{i + 1}" for i in range(blocks)]
        for name in self.blocks:
            self.add_module(name, Block(channels, middle or channels))
        self.conv_2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.upsampler = nn.Sequential(nn.Conv2d(channels, 3 * scale**2, 3, padding=1), nn.PixelShuffle(scale))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = first = self.conv_1(x)
        for name in self.blocks:
            x = getattr(self, name)(x)
        return self.upsampler(self.conv_2(x) + first)
