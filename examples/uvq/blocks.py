"""What UVQ's networks are made of: TensorFlow's SAME padding, inverted residual blocks, the trunk.

Parameters have the names of the published state_dicts, so that those load with ``--weights``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["TRUNK", "BlockSpec", "ConvNormAct", "MBConv", "SameConv2d", "same_pads", "trunk"]


class BlockSpec(NamedTuple):
    """One inverted residual block: how much it expands, channels in and out, kernel, stride."""

    expand: int
    inputs: int
    outputs: int
    kernel: int
    stride: int


#: Layers 1 to 16 of DistortionNet and ContentNet: those of EfficientNet-B0.
TRUNK = (
    BlockSpec(1, 32, 16, 3, 1),
    BlockSpec(6, 16, 24, 3, 2),
    BlockSpec(6, 24, 24, 3, 1),
    BlockSpec(6, 24, 40, 5, 2),
    BlockSpec(6, 40, 40, 5, 1),
    BlockSpec(6, 40, 80, 3, 2),
    BlockSpec(6, 80, 80, 3, 1),
    BlockSpec(6, 80, 80, 3, 1),
    BlockSpec(6, 80, 112, 5, 1),
    BlockSpec(6, 112, 112, 5, 1),
    BlockSpec(6, 112, 112, 5, 1),
    BlockSpec(6, 112, 192, 5, 2),
    BlockSpec(6, 192, 192, 5, 1),
    BlockSpec(6, 192, 192, 5, 1),
    BlockSpec(6, 192, 192, 5, 1),
    BlockSpec(6, 192, 320, 3, 1),
)


def same_pads(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """TensorFlow's SAME padding (before, after) along one axis; the odd pixel goes to the end.

    PyTorch's ``padding=kernel // 2`` gives maps of the same size with other values: at stride 2 on an even size
    TensorFlow pads (0, 1) where PyTorch pads (1, 1).
    """
    total = max((math.ceil(size / stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


class SameConv2d(nn.Module):
    """A convolution with TensorFlow's SAME padding: [N, C, H, W] → [N, K, ⌈H/stride⌉, ⌈W/stride⌉]."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, groups=groups, bias=False)
        self.kernel, self.stride = kernel, stride

    def forward(self, x: Tensor) -> Tensor:
        top, bottom = same_pads(x.shape[2], self.kernel, self.stride)
        left, right = same_pads(x.shape[3], self.kernel, self.stride)
        return self.conv(F.pad(x, (left, right, top, bottom)))


class ConvNormAct(nn.Sequential):
    """Convolution, batch norm (epsilon 1e-3) and, unless it projects, SiLU."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1, momentum: float = 0.0,
        act: bool = True,
    ) -> None:  # fmt: skip
        norm = nn.BatchNorm2d(outputs, eps=1e-3, momentum=momentum)
        super().__init__(SameConv2d(inputs, outputs, kernel, stride, groups), norm, *([nn.SiLU()] if act else []))


class SqueezeExcitation(nn.Module):
    """Each channel times the sigmoid of what two 1×1 convolutions make of all channels' means."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc1 = nn.Conv2d(channels, squeezed, 1)
        self.activation = nn.SiLU()
        self.fc2 = nn.Conv2d(squeezed, channels, 1)
        self.scale_activation = nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        scale = self.fc2(self.activation(self.fc1(self.avgpool(x))))
        return x * self.scale_activation(scale)


class MBConv(nn.Module):
    """Expand (1×1), depthwise k×k, squeeze and excite, project (1×1); plus the input where the shapes agree.

    The squeeze counts from the block's *input* channels. ``depthwise=False`` computes the middle convolution densely.
    Stochastic depth, which acts in training only, is left out.
    """

    def __init__(self, spec: BlockSpec, momentum: float = 0.0, depthwise: bool = True) -> None:
        super().__init__()
        wide = spec.inputs * spec.expand
        layers: list[nn.Module] = []
        if spec.expand > 1:
            layers.append(ConvNormAct(spec.inputs, wide, 1, momentum=momentum))
        groups = wide if depthwise else 1
        layers.append(ConvNormAct(wide, wide, spec.kernel, spec.stride, groups, momentum))
        layers.append(SqueezeExcitation(wide, max(1, spec.inputs // 4)))
        layers.append(ConvNormAct(wide, spec.outputs, 1, momentum=momentum, act=False))
        self.block = nn.Sequential(*layers)
        self.residual = spec.stride == 1 and spec.inputs == spec.outputs

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x) + x if self.residual else self.block(x)


def trunk(
    blocks: Sequence[BlockSpec] = TRUNK, *, features: int = 128, momentum: float = 0.0, depthwise: bool = True
) -> nn.Sequential:
    """Stem 3→32 at stride 2, ``blocks``, and a 2×2 convolution to ``features`` channels without norm or activation."""
    return nn.Sequential(
        ConvNormAct(3, 32, 3, 2, momentum=momentum),
        *(MBConv(spec, momentum, depthwise) for spec in blocks),
        SameConv2d(blocks[-1].outputs, features, 2),
    )
