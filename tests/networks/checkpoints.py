"""The trained checkpoints of the data folder, each with the network it belongs to."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from .imdn import IMDN
from .rfdn import RFDN
from .rlfn import RLFN
from .vapsr import VapSR

__all__ = ["CHECKPOINTS", "Checkpoint", "data_dir", "find", "load"]


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint: its file below ``checkpoints/``, its network, its number of parameters, its pixel range."""

    name: str
    file: str
    make: Callable[[], torch.nn.Module]
    parameters: int
    data_range: float
    scale: int


CHECKPOINTS = [
    Checkpoint("vapsr-x4", "vapsr/VapSR_X4.pth", lambda: VapSR(), 342_220, 1.0, 4),
    Checkpoint("vapsr-x3", "vapsr/VapSR_X3.pth", lambda: VapSR(blocks=20, scale=3), 336_811, 1.0, 3),
    Checkpoint("vapsr-x2", "vapsr/VapSR_X2.pth", lambda: VapSR(blocks=20, scale=2), 329_236, 1.0, 2),
    Checkpoint("vapsr-s", "vapsr/VapSR-S.pth", lambda: VapSR(32, 11, 2), 154_956, 1.0, 4),
    Checkpoint("rlfn-x4", "rlfn/rlfn_x4.pth", lambda: RLFN(), 543_740, 255.0, 4),
    Checkpoint("rlfn-x2", "rlfn/rlfn_x2.pth", lambda: RLFN(scale=2), 526_856, 255.0, 2),
    Checkpoint("rlfn-s-x4", "rlfn/rlfn_s_x4.pth", lambda: RLFN(48), 470_208, 255.0, 4),
    Checkpoint("rlfn-s-x2", "rlfn/rlfn_s_x2.pth", lambda: RLFN(48, scale=2), 454_620, 255.0, 2),
    Checkpoint("rlfn-ntire", "rlfn/rlfn_ntire_x4.pth", lambda: RLFN(46, 48, 4), 317_218, 255.0, 4),
    Checkpoint("imdn", "esr_baselines/imdn_baseline.pth", lambda: IMDN(), 893_936, 1.0, 4),
    Checkpoint("rfdn", "esr_baselines/rfdn_baseline.pth", lambda: RFDN(), 433_448, 255.0, 4),
]


def data_dir() -> Path | None:
    """The folder of real images and trained weights: $INSTEP_DATA, or ../shared/data beside the project."""
    root = Path(__file__).resolve().parent.parent.parent
    place = Path(os.environ.get("INSTEP_DATA", root.parent / "shared" / "data"))
    return place if place.is_dir() else None


def find(name: str) -> Checkpoint:
    """The checkpoint called ``name``. KeyError when there is none."""
    return {entry.name: entry for entry in CHECKPOINTS}[name]


def load(entry: Checkpoint) -> torch.nn.Module:
    """The network with its trained weights, in evaluation mode; every key must fit.

    FileNotFoundError without the data folder.
    """
    folder = data_dir()
    if folder is None:
        raise FileNotFoundError(f"checkpoint {entry.file} is in the data folder; set INSTEP_DATA to it")
    state = torch.load(folder / "checkpoints" / entry.file, map_location="cpu", weights_only=True)
    for wrapping in ("params_ema", "params"):
        state = state.get(wrapping, state)
    network = entry.make()
    network.load_state_dict(state, strict=True)
    return network.eval()
