"""Blocks that lack steps of others are one struct with these, and come back with the names that they had."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

import instep
from test_text_roundtrip import round_trip


class Inverted(nn.Module):
    """MobileNetV2's block as it is usually written: the layers count from 0, whatever is there."""

    def __init__(self, cin: int, cout: int, stride: int, ratio: int) -> None:
        super().__init__()
        mid = cin * ratio
        layers: list[nn.Module] = [nn.Conv2d(cin, mid, 1), nn.BatchNorm2d(mid), nn.ReLU6()] if ratio > 1 else []
        layers += [nn.Conv2d(mid, mid, 3, stride, 1, groups=mid), nn.BatchNorm2d(mid), nn.ReLU6()]
        self.conv = nn.Sequential(*layers, nn.Conv2d(mid, cout, 1), nn.BatchNorm2d(cout))
        self.residual = stride == 1 and cin == cout

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.conv(x) if self.residual else self.conv(x)


class Squeeze(nn.Module):
    def __init__(self, channels: int, mid: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels, mid, 1)
        self.expand = nn.Conv2d(mid, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.sigmoid(self.expand(torch.relu(self.reduce(x.mean((2, 3), keepdim=True)))))


class Squeezed(nn.Module):
    """A block that may have a squeeze, whose width is nothing else's, and may have an activation."""

    def __init__(self, channels: int, squeeze: int, act: nn.Module | None) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm = nn.BatchNorm2d(channels)
        self.se = Squeeze(channels, squeeze) if squeeze else nn.Identity()
        self.last = nn.Conv2d(channels, channels, 1)
        self.act = act or nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.act(self.last(self.se(self.norm(self.conv(x)))))


class Shortcut(nn.Module):
    """A block whose shortcut may begin with pooling, and reads what came in long before."""

    def __init__(self, cin: int, cout: int, stride: int) -> None:
        super().__init__()
        pool = nn.AvgPool2d(stride) if stride > 1 else nn.Identity()
        self.conv = nn.Conv2d(cin, cout, 3, stride, 1)
        self.downsample = nn.Sequential(pool, nn.Conv2d(cin, cout, 1), nn.BatchNorm2d(cout))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.conv(x)) + self.downsample(x)


class Row(nn.Module):
    def __init__(self, count: int) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(Inverted(4, 4, 1, 3) for _ in range(count)))
        self.last = nn.Conv2d(4, 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.blocks(x))


class Several(nn.Module):
    def __init__(self, branches: list[nn.Module]) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([branch(x) for branch in self.branches], 1)


def text_of(module: nn.Module, folder: Path) -> str:
    return round_trip(instep.capture(module.eval(), inputs=[(1, 4, 16, 16)]).graph, folder)


def test_a_block_without_its_first_layers_is_one_struct_with_those_that_have_them(tmp_path: Path) -> None:
    rows = [(4, 6, 1, 1), (6, 8, 2, 6), (8, 8, 1, 6), (8, 10, 1, 6), (10, 10, 1, 6)]
    text = text_of(nn.Sequential(*(Inverted(*r) for r in rows)), tmp_path)
    assert text.count("body:") == 2, text  # one struct and the network
    assert "let: {n: 3 if expand else 0}" in text and "conv.{n + 3} = conv: {out: out, kernel: 1}" in text
    assert text.count(" = Inverted: {") == len(rows) and "0 = Inverted: {expand: false, out: 6, mid: 4}" in text


def test_a_number_that_an_absent_step_alone_needs_says_that_it_is_absent(tmp_path: Path) -> None:
    blocks = [
        Squeezed(4, 0, nn.ReLU()),
        Squeezed(4, 3, nn.ReLU()),
        Squeezed(4, 2, nn.ReLU()),
        Squeezed(4, 0, nn.ReLU()),
    ]
    text = text_of(nn.Sequential(*blocks), tmp_path)
    assert "args: {se: int = 0}" in text and "if se:" in text, text
    assert "for i, se in [[0, 0], [1, 3], [2, 2], [3, 0]]" in text


def test_an_activation_that_is_absent_is_none(tmp_path: Path) -> None:
    acts = [nn.ReLU(), nn.SiLU(), None, nn.Hardswish()]
    text = text_of(nn.Sequential(*(Squeezed(4, 3, act) for act in acts)), tmp_path)
    assert "2 = Squeezed: {act: none}" in text and "if act" not in text, text


def test_rows_of_one_block_are_not_one_with_longer_rows(tmp_path: Path) -> None:
    text = text_of(nn.Sequential(Row(2), Row(3), Row(2), Row(3)), tmp_path)
    assert "    - if " not in text, text


def test_what_comes_out_is_out_and_what_lies_between_is_mid(tmp_path: Path) -> None:
    def block(mid: int, out: int) -> nn.Module:
        return nn.Sequential(nn.Conv2d(4, mid, 1), nn.ReLU(), nn.Conv2d(mid, out, 1), nn.BatchNorm2d(out))

    text = text_of(nn.Sequential(block(5, 4), nn.ReLU(), block(6, 4), nn.Tanh(), block(9, 4)), tmp_path)
    assert "conv: {out: mid, kernel: 1}" in text and "conv: {out: 4, kernel: 1}" in text, text
    several = Several([block(5, 7), block(6, 11), block(9, 13)])
    text = text_of(several, tmp_path)
    assert "args: {out: int, mid: int}" in text and "{out: 11, mid: 6}" in text, text


def test_a_first_step_that_may_be_missing_leaves_the_next_one_its_input(tmp_path: Path) -> None:
    rows = [(4, 6, 1), (6, 8, 2), (8, 10, 1), (10, 12, 2)]
    text = text_of(nn.Sequential(*(Shortcut(*r) for r in rows)), tmp_path)
    assert "downsample = Downsample(x): {avg_pool: avg_pool, out: out}" in text and "  - if avg_pool:" in text, text


class Window(nn.Module):
    """Attention whose scores may have a mask added."""

    def __init__(self, masked: bool) -> None:
        super().__init__()
        self.qk = nn.Linear(6, 12)
        self.register_buffer("mask", torch.randn(16, 16).round() if masked else None, persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k = self.qk(x).chunk(2, -1)
        scores = q @ k.transpose(1, 2)
        return torch.softmax(scores if self.mask is None else scores + self.mask, -1) @ x


class Shifted(nn.Module):
    """A block that rolls what it reads, and back, where its attention has a mask."""

    def __init__(self, shift: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(6)
        self.attn = Window(shift > 0)
        self.last = nn.Linear(6, 6)
        self.shift = shift

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm(x)
        y = self.attn(y.roll(-self.shift, 1) if self.shift else y)
        return torch.relu(self.last(y.roll(self.shift, 1) if self.shift else y))


class Fused(nn.Module):
    """A block that may have a layer with what lies about it, and may add what it read."""

    def __init__(self, deep: bool, adds: bool) -> None:
        super().__init__()
        self.first = nn.Conv2d(4, 4, 1)
        self.deep = nn.Conv2d(4, 4, 3, padding=1) if deep else nn.Identity()
        self.bn = nn.BatchNorm2d(4) if deep else nn.Identity()
        self.last = nn.Conv2d(4, 4, 1)
        self.adds = adds

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.last(torch.tanh(self.bn(self.deep(torch.relu(self.first(x))))))
        return y + x if self.adds else y


def test_conditions_that_always_agree_are_one_named_after_what_it_turns_on(tmp_path: Path) -> None:
    network = nn.Sequential(*(Shifted(shift) for shift in (0, 3, 0, 3))).eval()
    text = round_trip(instep.capture(network, inputs=[(2, 16, 6)]).graph, tmp_path)
    assert "attn = Window: {mask: roll}" in text and text.count("- if roll:") == 2, text
    assert "residual" not in text and "args: {roll: bool = false}" in text


def test_a_condition_is_named_after_the_first_layer_that_it_turns_on(tmp_path: Path) -> None:
    kinds = [(True, True), (False, True), (True, False), (True, True), (False, False)]
    text = text_of(nn.Sequential(*(Fused(*kind) for kind in kinds)), tmp_path)
    assert "- if deep:\n          - deep = conv" in text and "- if residual:\n          - add" in text, text
