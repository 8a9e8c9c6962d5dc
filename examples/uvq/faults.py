"""What went wrong, or could, when UVQ 1.5 was brought to a device; the examples of docs/debugging-a-device.md."""

from __future__ import annotations

from torch import Tensor, nn

from .blocks import SameConv2d
from .networks import DistortionPatches, SingleBlock, distortion_minimal, distortion_single

__all__ = ["Corners", "grouped", "symmetric"]


class Corners(nn.Module):
    """Nine patches' features as one map, as it is thought, in six dimensions; a pixel of each patch, by lists."""

    example_inputs = ((9, 8, 8, 128),)

    def forward(self, patches: Tensor) -> Tensor:
        grid = patches.reshape(1, 3, 3, 8, 8, 128).permute(0, 1, 3, 2, 4, 5)
        return grid.reshape(1, 24, 24, 128)[:, [[0], [8], [16]], [0, 8, 16]]


def symmetric() -> DistortionPatches:
    """``distortion_minimal`` whose strided depthwise convolution pads (1, 1), PyTorch's way, where SAME is (0, 1)."""
    network = distortion_minimal()
    depthwise = network.get_submodule("features.2.block.1.0")
    assert isinstance(depthwise, SameConv2d)
    depthwise.conv.padding = (1, 1)
    network.set_submodule("features.2.block.1.0", depthwise.conv)
    return network


def grouped() -> SingleBlock:
    """``distortion_single`` with 16 groups of 6 channels in place of the depthwise convolution."""
    network = distortion_single()
    network.set_submodule("block.block.1.0.conv", nn.Conv2d(96, 96, 3, groups=16, bias=False))
    return network
