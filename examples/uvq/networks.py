"""UVQ 1.5's networks in PyTorch, as sources for the command line: ``instep convert examples/uvq/networks.py:NAME``.

A frame of 1080×1920 is seen twice: ContentNet looks at all of it, reduced to 256×256; DistortionNet at nine patches of
360×640 in full resolution. AggregationNet makes a score between 1 and 5 of the features of both. Networks that run on
devices read and write channel-last (NHWC). Architecture: google/uvq, uvq1p5_pytorch.
"""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .blocks import TRUNK, BlockSpec, ConvNormAct, MBConv, trunk
from .pictures import CAT, cut, with_statistics

__all__ = [
    "AggregationNetCore",
    "ContentNet",
    "ContentNetCore",
    "DistortionNet",
    "DistortionNetCore",
    "Scorer",
    "SingleBlock",
    "aggregate",
    "aggregation_net",
    "content_net",
    "distortion_medium",
    "distortion_minimal",
    "distortion_net",
    "distortion_no_depthwise",
    "distortion_single",
    "scorer",
]

Size = tuple[int, int]
Core = TypeVar("Core", "ContentNetCore", "DistortionNet", "DistortionPatches")


def aggregate(patches: Tensor, rows: int = 3, columns: int = 3) -> Tensor:
    """Features of patches [rows·columns, h, w, C] as one map [1, rows·h, columns·w, C], in four dimensions.

    A patch's columns and channels travel together (w·C), so that only its rows and the patches of a row change places.
    """
    _, height, width, channels = patches.shape
    lines = patches.reshape(rows, columns, height, width * channels)
    return lines.permute(0, 2, 1, 3).reshape(1, rows * height, columns * width, channels)


class DistortionNetCore(nn.Module):
    """RGB patches in [-1, 1], [N, 3, 360, 640] → features [N, 8, 8, 128]: 18 layers, max pool, channel-last.

    ``blocks`` shortens the trunk, ``pool`` is the window that makes 8×8 of the 12×20 of a full-size patch.
    """

    def __init__(self, blocks: tuple[BlockSpec, ...] = TRUNK, pool: Size = (5, 13), *, depthwise: bool = True) -> None:
        super().__init__()
        self.features = trunk(blocks, depthwise=depthwise)
        self.avgpool = nn.MaxPool2d(pool, stride=1)  # a maximum, whatever its published name says

    def forward(self, patches: Tensor) -> Tensor:
        return self.avgpool(self.features(patches)).permute(0, 2, 3, 1)


class DistortionNet(DistortionNetCore):
    """The core for devices: nine patches [9, 360, 640, 3] → one map of features [1, 24, 24, 128]."""

    example_inputs = ((9, 360, 640, 3),)

    def forward(self, patches: Tensor) -> Tensor:
        return aggregate(super().forward(patches.permute(0, 3, 1, 2)))


class DistortionPatches(DistortionNetCore):
    """The core for devices, patch by patch: [N, 360, 640, 3] → [N, h, w, 128]."""

    example_inputs = ((9, 360, 640, 3),)

    def forward(self, patches: Tensor) -> Tensor:
        return super().forward(patches.permute(0, 3, 1, 2))


class ContentNetCore(nn.Module):
    """A frame [N, 3, H, W] in [-1, 1] of any size, reduced to ``size``×``size`` → features [N, 128, 8, 8]."""

    def __init__(self, size: int = 256) -> None:
        super().__init__()
        self.size = size
        self.features = trunk(momentum=0.99)

    def forward(self, frame: Tensor) -> Tensor:
        seen = F.interpolate(frame, size=(self.size, self.size), mode="bilinear", align_corners=False)
        return self.features(seen)


class ContentNet(ContentNetCore):
    """The core for devices: a frame [N, H, W, 3] → features [N, 8, 8, 128]."""

    example_inputs = ((1, 1080, 1920, 3),)

    def forward(self, frame: Tensor) -> Tensor:
        return super().forward(frame.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class ContentNetReduced(ContentNetCore):
    """As ContentNet, of a frame that is 256×256 already: no resize in the network."""

    example_inputs = ((1, 256, 256, 3),)

    def forward(self, frame: Tensor) -> Tensor:
        return self.features(frame.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class AggregationNetCore(nn.Module):
    """Content [N, 8, 8, 128] and distortion [N, 24, 24, 128] → score [N, 1] between 1 and 5."""

    example_inputs = ((1, 8, 8, 128), (1, 24, 24, 128))

    def __init__(self) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(4)
        self.conv1 = nn.Conv2d(256, 256, 1)
        self.ln1 = nn.LayerNorm([256, 4, 4], eps=1e-3)
        self.maxpool1 = nn.MaxPool2d(4)
        self.dropout = nn.Dropout(0.2)
        self.linear1 = nn.Linear(256, 1)

    def forward(self, content: Tensor, distortion: Tensor) -> Tensor:
        seen = [self.pool(features.permute(0, 3, 1, 2)) for features in (content, distortion)]
        x = torch.relu(self.ln1(self.conv1(torch.cat(seen, dim=1))))
        x = self.dropout(self.maxpool1(x).flatten(1))
        return torch.tanh(self.linear1(x)) * 2 + 3


class Scorer(nn.Module):
    """All of UVQ 1.5 in one network: a frame [1, H, W, 3] in [-1, 1] → its score [1, 1]."""

    example_inputs = ((1, 1080, 1920, 3),)

    def __init__(self, content: nn.Module, distortion: nn.Module, aggregation: nn.Module) -> None:
        super().__init__()
        self.content, self.distortion, self.aggregation = content, distortion, aggregation

    def forward(self, frame: Tensor) -> Tensor:
        return self.aggregation(self.content(frame), self.distortion(cut(frame)))


class SingleBlock(nn.Module):
    """The smallest network that still holds a depthwise convolution: one block, perhaps behind the stem.

    ``layout="NCHW"`` reads and writes channel-first, "NHWC" writes channel-last; behind the stem both are.
    """

    def __init__(self, stem: bool = False, layout: str = "NCHW") -> None:
        super().__init__()
        self.layout = layout
        self.example_inputs = ((9, 360, 640, 3),) if stem else ((1, 16, 180, 320),)
        self.stem = ConvNormAct(3, 32, 3, 2) if stem else None
        self.block = MBConv(BlockSpec(6, 32 if stem else 16, 24, 3, 1))

    def forward(self, x: Tensor) -> Tensor:
        if self.stem is not None:
            x = self.stem(x.permute(0, 3, 1, 2))
        x = self.block(x)
        return x.permute(0, 2, 3, 1) if self.layout == "NHWC" else x


# -- factories ---------------------------------------------------------------------------------------------------
def distortion_net(picture: str | Path = CAT) -> DistortionNet:
    """DistortionNet for devices, 9×360×640×3 → 1×24×24×128; random weights, the statistics of ``picture``."""
    return _ready(DistortionNet(), picture)


def content_net(reduced: bool = True, picture: str | Path = CAT) -> ContentNetCore:
    """ContentNet for devices, 1×256×256×3 → 1×8×8×128; ``reduced=False``: from the frame, 1×1080×1920×3."""
    return _ready(ContentNetReduced() if reduced else ContentNet(), picture)


def aggregation_net() -> AggregationNetCore:
    """AggregationNet, 1×8×8×128 and 1×24×24×128 → 1×1; its published weights load with ``--weights``."""
    return AggregationNetCore().eval()


def scorer(picture: str | Path = CAT, aggregation: str = "") -> Scorer:
    """The whole scorer, 1×1080×1920×3 → 1×1; ``aggregation`` names AggregationNet's published weights."""
    last = aggregation_net()
    if aggregation:
        last.load_state_dict(torch.load(aggregation, map_location="cpu", weights_only=True))
    return Scorer(content_net(False, picture), distortion_net(picture), last).eval()


def distortion_single(version: str = "nchw", picture: str | Path = CAT) -> SingleBlock:
    """One block: "nchw" and "nhwc" (output channel-last) read 1×16×180×320 features, "stem" reads 9×360×640×3."""
    if version not in ("nchw", "nhwc", "stem"):
        raise ValueError(f"version must be 'nchw', 'nhwc' or 'stem', got {version!r}")
    network = SingleBlock(version == "stem", "NCHW" if version == "nchw" else "NHWC")
    # without its stem the block reads features: what DistortionNet's first two layers make of the picture
    before = [network.stem] if network.stem is not None else list(trunk())[:2]
    with_statistics(nn.Sequential(*before, network.block), picture)
    return network.eval()


def distortion_minimal(picture: str | Path = CAT) -> DistortionPatches:
    """Layers 0 to 3 and the final convolution, 9×360×640×3 → 9×86×148×128."""
    return _ready(DistortionPatches(TRUNK[:3]), picture)


def distortion_medium(picture: str | Path = CAT) -> DistortionPatches:
    """Layers 0 to 8 and the final convolution, 9×360×640×3 → 9×19×28×128."""
    return _ready(DistortionPatches(TRUNK[:8]), picture)


def distortion_no_depthwise(picture: str | Path = CAT) -> DistortionNet:
    """DistortionNet with every depthwise convolution made dense: 43 times the parameters."""
    return _ready(DistortionNet(depthwise=False), picture)


def _ready(network: Core, picture: str | Path) -> Core:
    with_statistics(network.features, picture)
    return network.eval()
