"""The demonstration network: ×4 super-resolution in 67 thousand parameters, in plain PyTorch."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["SmallSR", "small_sr"]


class SpatialAttention(nn.Module):
    """Where to look: a mask from a strided, pooled and re-enlarged view of the features (after RFANet's ESA)."""

    def __init__(self, channels: int, reduced: int, align_corners: bool) -> None:
        super().__init__()
        self.align_corners = align_corners
        self.squeeze = nn.Conv2d(channels, reduced, 1)
        self.stride = nn.Conv2d(reduced, reduced, 3, stride=2)
        self.wide = nn.Conv2d(reduced, reduced, 3, padding=1)
        self.skip = nn.Conv2d(reduced, reduced, 1)
        self.expand = nn.Conv2d(reduced, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        squeezed = self.squeeze(x)
        seen = F.max_pool2d(self.stride(squeezed), kernel_size=7, stride=3)
        seen = F.interpolate(self.wide(seen), size=x.shape[-2:], mode="bilinear", align_corners=self.align_corners)
        return x * torch.sigmoid(self.expand(seen + self.skip(squeezed)))


class Block(nn.Module):
    """Two 3×3 convolutions with leaky ReLUs around a residual, mixed by a 1×1 convolution, then attention."""

    def __init__(self, channels: int, align_corners: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.mix = nn.Conv2d(channels, channels, 1)
        self.attention = SpatialAttention(channels, channels // 3, align_corners)

    def forward(self, x: Tensor) -> Tensor:
        y = F.leaky_relu(self.conv1(x), 0.05)
        y = F.leaky_relu(self.conv2(y), 0.05) + x
        return self.attention(self.mix(y))


class SmallSR(nn.Module):
    """RGB in [0, 1], N×3×H×W → N×3×4H×4W (H, W ≥ 15): blocks, a long skip, PixelShuffle, plus the enlarged input."""

    def __init__(self, channels: int = 24, blocks: int = 4, scale: int = 4, align_corners: bool = False) -> None:
        super().__init__()
        self.scale = scale
        self.head = nn.Conv2d(3, channels, 3, padding=1)
        self.blocks = nn.ModuleList(Block(channels, align_corners) for _ in range(blocks))
        self.fuse = nn.Conv2d(channels, channels, 3, padding=1)
        self.tail = nn.Conv2d(channels, 3 * scale * scale, 3, padding=1)
        self.shuffle = nn.PixelShuffle(scale)

    def forward(self, image: Tensor) -> Tensor:
        first = self.head(image)
        x = first
        for block in self.blocks:
            x = block(x)
        x = self.fuse(x) + first
        enlarged = F.interpolate(image, scale_factor=self.scale, mode="bilinear", align_corners=False)
        return enlarged + self.shuffle(self.tail(x))


def small_sr(align_corners: bool = False) -> SmallSR:
    """The network with fresh weights; the trained ones (``align_corners=False``) are in ``small_sr.safetensors``."""
    return SmallSR(align_corners=align_corners).eval()
