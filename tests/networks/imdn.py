"""IMDN as the baseline of the NTIRE 2022 challenge on efficient super-resolution (Hui et al., arXiv 1909.11856)."""

from __future__ import annotations

import torch
from torch import nn

__all__ = ["IMDN"]

SLOPE = 0.05


class Distillation(nn.Module):
    """Three convolutions that each put a quarter of their channels aside; the pieces are joined again by a 1×1."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.kept, self.passed = channels // 4, channels - channels // 4
        self.conv1 = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1), nn.LeakyReLU(SLOPE))
        self.conv2 = nn.Sequential(nn.Conv2d(self.passed, channels, 3, padding=1), nn.LeakyReLU(SLOPE))
        self.conv3 = nn.Sequential(nn.Conv2d(self.passed, channels, 3, padding=1), nn.LeakyReLU(SLOPE))
        self.conv4 = nn.Conv2d(self.passed, self.kept, 3, padding=1)
        self.conv1x1 = nn.Conv2d(4 * self.kept, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        sizes = (self.kept, self.passed)
        kept1, rest = torch.split(self.conv1(x), sizes, dim=1)
        kept2, rest = torch.split(self.conv2(rest), sizes, dim=1)
        kept3, rest = torch.split(self.conv3(rest), sizes, dim=1)
        return x + self.conv1x1(torch.cat((kept1, kept2, kept3, self.conv4(rest)), dim=1))


class Residual(nn.Module):
    """x + sub(x)."""

    def __init__(self, sub: nn.Module) -> None:
        super().__init__()
        self.sub = sub

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.sub(x)


class IMDN(nn.Module):
    """conv, ``blocks`` distillation blocks and a conv inside a skip, conv, pixel shuffle. Images are 0–1."""

    def __init__(self, channels: int = 64, blocks: int = 8, scale: int = 4) -> None:
        super().__init__()
        body = [*(Distillation(channels) for _ in range(blocks)), nn.Conv2d(channels, channels, 3, padding=1)]
        self.model = nn.Sequential(
            nn.Conv2d(3, channels, 3, padding=1),
            Residual(nn.Sequential(*body)),
            nn.Conv2d(channels, 3 * scale**2, 3, padding=1),
            nn.PixelShuffle(scale),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.model(x)
