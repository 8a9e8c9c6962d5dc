"""Choices between elements that only rounding tells apart, within an operator of the source: either is legal."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from instep.api import convert
from instep.verify.jumps import Jumps


class Unpooled(torch.nn.Module):
    """Four sums of the same terms in other orders lie side by side; the largest goes back to its place."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.orders = [torch.randperm(48, generator=generator).tolist() for _ in range(4)]
        self.sums = torch.nn.Parameter(torch.randn(4, 48, 1, 1, generator=generator))
        self.behind = torch.nn.Parameter(torch.randn(4, 4, 3, 3, generator=generator))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        terms = [x[:, i : i + 1] * self.sums[None, :, i, 0, 0, None, None] for i in range(48)]
        sums = torch.stack([sum(terms[i] for i in order) for order in self.orders], 2)  # type: ignore[arg-type]
        pooled, places = F.max_pool2d(F.pixel_shuffle(sums.flatten(1, 2), 2), 2, return_indices=True)
        return F.conv2d(F.max_unpool2d(pooled, places, (2, 2)), self.behind, padding=1)


def test_a_maximum_among_equals_may_go_to_either_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []
    legal = Jumps._legal

    def watched(self, *rest):  # type: ignore[no-untyped-def]
        tried.append(legal(self, *rest))
        return tried[-1]

    monkeypatch.setattr(Jumps, "_legal", watched)
    torch.manual_seed(0)
    verdict = convert(Unpooled().eval(), tmp_path / "net.tflite", inputs=[(1, 48, 16, 16)]).verdict
    assert verdict is not None
    assert verdict.verdict == "in step", verdict.summary()
    assert tried and all(tried), "no choice differed: the test says nothing"
