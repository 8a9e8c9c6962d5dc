"""VapSR, super-resolution with large-kernel pixel attention (Zhou et al., arXiv 2210.05960)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

__all__ = ["VapSR"]


class Attention(nn.Module):
    """x times (1×1, then depthwise 5×5, then depthwise 5×5 dilated by 3) of x."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.pointwise = nn.Conv2d(channels, channels, 1)
        self.depthwise = nn.Conv2d(channels, channels, 5, padding=2, groups=channels)
        self.depthwise_dilated = nn.Conv2d(channels, channels, 5, padding=6, dilation=3, groups=channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.depthwise_dilated(self.depthwise(self.pointwise(x)))


class Block(nn.Module):
    """1×1, GELU, attention, 1×1 with a skip, then LayerNorm over the channels of each pixel."""

    def __init__(self, channels: int, inside: int) -> None:
        super().__init__()
        self.proj_1 = nn.Conv2d(channels, inside, 1)
        self.atten_branch = Attention(inside)
        self.proj_2 = nn.Conv2d(inside, channels, 1)
        self.pixel_norm = nn.LayerNorm(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.proj_2(self.atten_branch(F.gelu(self.proj_1(x))))
        return self.pixel_norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class VapSR(nn.Module):
    """conv, ``blocks`` blocks, conv with a skip, upsampler: two pixel shuffles at ×4, one behind 56 channels else."""

    def __init__(self, channels: int = 48, blocks: int = 21, groups: int = 1, scale: int = 4) -> None:
        super().__init__()
        self.conv_first = nn.Conv2d(3, channels, 3, padding=1)
        self.body = nn.Sequential(*(Block(channels, 64) for _ in range(blocks)))
        self.conv_body = nn.Conv2d(channels, channels, 3, padding=1, groups=groups)
        if scale == 4:
            self.upsampler = nn.Sequential(
                nn.Conv2d(channels, 64, 3, padding=1),
                nn.PixelShuffle(2),
                nn.LeakyReLU(0.1),
                nn.Conv2d(16, 12, 3, padding=1),
                nn.PixelShuffle(2),
            )
        else:
            self.upsampler = nn.Sequential(
                nn.Conv2d(channels, 56, 3, padding=1),
                nn.LeakyReLU(0.1),
                nn.Conv2d(56, 3 * scale**2, 3, padding=1),
                nn.PixelShuffle(scale),
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv_first(x)
        return self.upsampler(self.conv_body(self.body(x)) + x)
