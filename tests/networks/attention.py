"""Enhanced spatial attention (ESA) of RFANet (Liu et al., CVPR 2020), as RFDN and RLFN use it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

__all__ = ["SpatialAttention"]


class SpatialAttention(nn.Module):
    """x · sigmoid(conv4(up(body(pool(conv2(conv1 x)))) + conv_f(conv1 x))).

    ``conv1`` narrows to ``width`` channels; a strided convolution without padding and a 7 / 3 max pool shrink the map.
    The ``deep`` body has three 3×3 convolutions (RFDN), the other one (RLFN).
    """

    def __init__(self, channels: int, width: int, *, deep: bool) -> None:
        super().__init__()
        self.deep = deep
        self.conv1 = nn.Conv2d(channels, width, 1)
        self.conv_f = nn.Conv2d(width, width, 1)
        self.conv2 = nn.Conv2d(width, width, 3, stride=2)
        self.conv3 = nn.Conv2d(width, width, 3, padding=1)
        if deep:
            self.conv_max = nn.Conv2d(width, width, 3, padding=1)
            self.conv3_ = nn.Conv2d(width, width, 3, padding=1)
        self.conv4 = nn.Conv2d(width, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        narrow = self.conv1(x)
        small = F.max_pool2d(self.conv2(narrow), kernel_size=7, stride=3)
        small = self.conv3_(F.relu(self.conv3(F.relu(self.conv_max(small))))) if self.deep else self.conv3(small)
        wide = F.interpolate(small, x.shape[2:], mode="bilinear", align_corners=False)
        return x * torch.sigmoid(self.conv4(wide + self.conv_f(narrow)))
