"""ELSR, the six-convolution mobile video super-resolution network of MVideoSR (arXiv 2208.14600)."""

from __future__ import annotations

import torch
from torch import nn

__all__ = ["ELSR"]


class ELSR(nn.Module):
    """conv 3→c; conv, PReLU, conv with a skip around them; conv c→3·r²; pixel shuffle r. Images are 0–255."""

    def __init__(self, channels: int = 6, scale: int = 4) -> None:
        super().__init__()
        self.head = nn.Conv2d(3, channels, 3, padding=1)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.act = nn.PReLU()
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.tail = nn.Conv2d(channels, 3 * scale**2, 3, padding=1)
        self.shuffle = nn.PixelShuffle(scale)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.head(x)
        x = x + self.conv2(self.act(self.conv1(x)))
        return self.shuffle(self.tail(x))
