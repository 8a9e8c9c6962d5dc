"""What acts on each element between a reshape and its inverse needs neither."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn as nn

import instep
from instep.runtime import tflite_info

SHAPE = (2, 8, 12, 10)


class Bands(nn.Module):
    """A batch norm of bands of rows, as channels of their own (sub-spectral normalisation)."""

    def __init__(self, bands: int, behind: nn.Module | None = None) -> None:
        super().__init__()
        self.before, self.norm = nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8 * bands)
        self.bands, self.behind, self.after = bands, behind or nn.Identity(), nn.Conv2d(8, 4, 3)
        for vector in self.norm.state_dict().values():
            if vector.is_floating_point():
                nn.init.uniform_(vector, 0.5, 1.5)

    def forward(self, x: torch.Tensor) -> Any:
        n, c, h, w = x.shape
        y = self.norm(self.before(x).view(n, c * self.bands, h // self.bands, w))
        return self.after(self.behind(y).view(n, c, h, w))


class Read(Bands):
    """The mean of the bands is an output too."""

    def forward(self, x: torch.Tensor) -> Any:
        n, c, h, w = x.shape
        y = self.norm(self.before(x).view(n, c * self.bands, h // self.bands, w))
        return self.after(y.tanh().view(n, c, h, w)), y.mean((2, 3))


def operators(net: nn.Module, folder: Path) -> Counter[str]:
    path = folder / "net.tflite"
    assert instep.convert(net.eval(), path, inputs=[SHAPE]).ok
    return Counter(tflite_info(path).histogram)


@pytest.mark.parametrize("bands", [1, 2, 4, 6])
@pytest.mark.parametrize("behind", [None, nn.Tanh(), nn.Hardswish()])
def test_bands_of_rows_are_scaled_where_they_lie(tmp_path: Path, bands: int, behind: nn.Module | None) -> None:
    assert not operators(Bands(bands, behind), tmp_path).keys() & {"TRANSPOSE", "RESHAPE"}


def test_what_mixes_elements_stays_between_its_reshapes(tmp_path: Path) -> None:
    assert operators(Bands(2, nn.Softmax(2)), tmp_path)["RESHAPE"] >= 2


def test_bands_that_others_read_too_are_kept(tmp_path: Path) -> None:
    assert operators(Read(2), tmp_path)["RESHAPE"] >= 1
