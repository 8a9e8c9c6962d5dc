"""RFDN, winner of the AIM 2020 challenge on efficient super-resolution (Liu et al., arXiv 2009.11551)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from .attention import SpatialAttention

__all__ = ["RFDN"]


def bend(x: torch.Tensor) -> torch.Tensor:
    return F.leaky_relu(x, 0.05)


class Block(nn.Module):
    """Residual feature distillation: at each of three steps a 1×1 puts half of the channels aside."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.c1_d = nn.Conv2d(channels, half, 1)
        self.c1_r = nn.Conv2d(channels, channels, 3, padding=1)
        self.c2_d = nn.Conv2d(channels, half, 1)
        self.c2_r = nn.Conv2d(channels, channels, 3, padding=1)
        self.c3_d = nn.Conv2d(channels, half, 1)
        self.c3_r = nn.Conv2d(channels, channels, 3, padding=1)
        self.c4 = nn.Conv2d(channels, half, 3, padding=1)
        self.c5 = nn.Conv2d(4 * half, channels, 1)
        self.esa = SpatialAttention(channels, 12, deep=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        aside = []
        for distil, refine in ((self.c1_d, self.c1_r), (self.c2_d, self.c2_r), (self.c3_d, self.c3_r)):
            aside.append(bend(distil(x)))
            x = bend(refine(x) + x)
        return self.esa(self.c5(torch.cat((*aside, bend(self.c4(x))), dim=1)))


class RFDN(nn.Module):
    """conv, four blocks whose outputs a 1×1 joins, conv with a skip, conv, pixel shuffle. Images are 0–255."""

    def __init__(self, channels: int = 50, scale: int = 4) -> None:
        super().__init__()
        self.fea_conv = nn.Conv2d(3, channels, 3, padding=1)
        self.B1, self.B2, self.B3, self.B4 = (Block(channels) for _ in range(4))
        self.c = nn.Sequential(nn.Conv2d(4 * channels, channels, 1), nn.LeakyReLU(0.05))
        self.LR_conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.upsampler = nn.Sequential(nn.Conv2d(channels, 3 * scale**2, 3, padding=1), nn.PixelShuffle(scale))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = first = self.fea_conv(x)
        outputs = []
        for block in (self.B1, self.B2, self.B3, self.B4):
            x = block(x)
            outputs.append(x)
        return self.upsampler(self.LR_conv(self.c(torch.cat(outputs, dim=1))) + first)
