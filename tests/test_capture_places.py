"""Places that an operator finds (of maxima, in memory, in bags), and numbers bit by bit, captured from PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import instep
from capture_helpers import Function, agree
from instep.capture import CaptureError
from instep.runtime import run, tflite_info

X = (2, 4, 9, 10)


def _byte(x: torch.Tensor, dtype: torch.dtype = torch.uint8) -> torch.Tensor:
    return (x.abs() * 60).clamp(max=255).to(dtype)


def _int(x: torch.Tensor) -> torch.Tensor:
    return (x * 1e6).to(torch.int32)


PLACES: dict[str, Callable[[torch.Tensor], Any]] = {
    "max_pool": lambda x: F.max_pool2d(x, 2, return_indices=True),
    # relu makes ties, of which the first counts
    "max_pool_overlap": lambda x: F.max_pool2d(x.relu(), 3, 2, 1, return_indices=True),
    "max_pool_ceil": lambda x: F.max_pool2d(x, (3, 2), 2, ceil_mode=True, return_indices=True),
    "max_pool_dilated": lambda x: F.max_pool2d(x[0], 2, 1, 1, dilation=2, return_indices=True),
    "max_pool1d": lambda x: F.max_pool1d(x.flatten(2), 3, 2, 1, return_indices=True),
    "max_pool3d": lambda x: F.max_pool3d(x, 2, 2, (0, 1, 1), return_indices=True),
    "max_pool_places_alone": lambda x: F.max_pool2d(x, 2, return_indices=True)[1] + 1,
    "cummax": lambda x: torch.cummax(x.round(), 3),
    "cummin_places": lambda x: torch.cummin(x.round(), 1)[1],
    "as_strided": lambda x: x.relu().as_strided((1, 4, 3, 2), (384, 96, 16, 3), 5),
    "frames": lambda x: x.reshape(-1).as_strided((7, 5), (3, 1)),
    "repeats": lambda x: x.repeat_interleave(torch.tensor([1, 0, 3, 2]), 1),
    "repeats_of_all": lambda x: torch.repeat_interleave(x, torch.tensor([2]), dim=-1),
    "scatter_amax": lambda x: x.scatter_reduce(3, torch.tensor([1, 1, 4]).expand(2, 4, 9, 3), x[..., 5:8], "amax"),
    "scatter_amin": lambda x: x.scatter_reduce(
        3, torch.tensor([1, 1, 4]).expand(2, 4, 9, 3), x[..., 5:8], "amin", include_self=False
    ),
    "index_prod": lambda x: x.index_reduce(1, torch.tensor([1, 1, 0]), x[:, :3], "prod"),
    "and": lambda x: _int(x) & _int(x.flip(1)),
    "or": lambda x: _int(x) | _int(x.flip(1)),
    "xor": lambda x: _int(x) ^ _int(x.flip(1)),
    "xor_bytes": lambda x: _byte(x) ^ _byte(x.flip(1)),
    "and_short": lambda x: _int(x).to(torch.int16) & _int(x.flip(1)).to(torch.int16),
}


@pytest.mark.parametrize("name", PLACES)
def test_places_and_bits(name: str) -> None:
    agree(Function(PLACES[name]), [X])


def test_places_that_nobody_reads_cost_nothing() -> None:
    captured = agree(Function(lambda x: torch.cummax(F.max_pool2d(x, 2, return_indices=True)[0], 2)[0]), [X])
    assert not any(type(n.op).__name__ in ("ArgMax", "Equal") for n in captured.graph.nodes)


def test_as_strided_of_a_view_is_refused() -> None:
    with pytest.raises(CaptureError, match="view of another"):
        instep.capture(Function(lambda x: x.relu()[:, :2].as_strided((3,), (1,))), inputs=[torch.zeros(X)])


class Bags(torch.nn.Module):
    """Bags of words: rows of equal length, or one row with the offsets of its bags."""

    def __init__(self, mode: str, rows: bool = True, weighed: bool = False, **options: Any) -> None:
        super().__init__()
        self.bag = torch.nn.EmbeddingBag(5, 6, mode=mode, **options)
        self.rows, self.weighed = rows, weighed
        self.register_buffer("offsets", torch.tensor([0, 3, 3, 8]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        words, weights = (x.abs() * 2).long().clamp(0, 4), x if self.weighed else None
        if self.rows:
            return self.bag(words, per_sample_weights=weights)
        return self.bag(
            words.flatten(), self.offsets, per_sample_weights=None if weights is None else weights.flatten()
        )


BAGS: dict[str, dict[str, Any]] = {
    "sum": {"mode": "sum"},
    "mean_padded": {"mode": "mean", "padding_idx": 0},
    "max": {"mode": "max"},
    "max_padded_bags": {"mode": "max", "rows": False, "padding_idx": 1},
    "sum_bags": {"mode": "sum", "rows": False, "weighed": True},
    "mean_bags": {"mode": "mean", "rows": False},
    "last": {"mode": "sum", "rows": False, "include_last_offset": True},
}


@pytest.mark.parametrize("name", BAGS)
def test_embeddings_in_bags(name: str) -> None:
    agree(Bags(**BAGS[name]), [(2, 4)])


SMALL: dict[str, tuple[Callable[..., torch.Tensor], Callable[..., np.ndarray]]] = {
    "log1p": (torch.log1p, np.log1p), "asinh": (torch.asinh, np.arcsinh), "atanh": (torch.atanh, np.arctanh),
}  # fmt: skip


@pytest.mark.parametrize("engine", ["builtin", "xnnpack"])
@pytest.mark.parametrize("name", SMALL)
def test_logarithms_near_one_keep_their_digits(tmp_path: Path, name: str, engine: str) -> None:
    of_torch, of_numpy = SMALL[name]
    x = np.concatenate([s * np.geomspace(1e-9, 0.9, 32) for s in (-1.0, 1.0)]).astype(np.float32).reshape(1, 64)
    path = tmp_path / "net.tflite"
    instep.convert(Function(of_torch), path, inputs=[torch.from_numpy(x)], verify=False)
    result = run(path, [x], engine=engine)
    assert not result.failed, result.message
    np.testing.assert_allclose(result.outputs[0], of_numpy(x.astype(np.float64)), rtol=2e-6)


def test_log1p_of_an_exponential_is_a_softplus(tmp_path: Path) -> None:
    captured = instep.capture(Function(lambda x: torch.log1p(torch.exp(x))), inputs=[torch.zeros(X)])
    assert [type(n.op).__name__ for n in captured.graph.nodes] == ["Exp", "Add", "Log"]


COMPARED: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "isposinf": torch.isposinf, "isneginf": torch.isneginf, "isinf": torch.isinf, "isfinite": torch.isfinite,
}  # fmt: skip


@pytest.mark.parametrize("engine", ["builtin", "xnnpack"])
@pytest.mark.parametrize("name", COMPARED)
def test_infinity_is_known_where_kernels_clamp_it(tmp_path: Path, name: str, engine: str) -> None:
    net = Function(lambda x: COMPARED[name](1 / x).float())
    x = np.array([[0.0, 2.0, -3.0, -0.0, 1e-3]], np.float32)
    path = tmp_path / "net.tflite"
    instep.convert(net, path, inputs=[torch.from_numpy(x)], verify=False)
    result = run(path, [x], engine=engine)
    assert not result.failed, result.message
    assert tflite_info(path).histogram
    np.testing.assert_array_equal(result.outputs[0], net(torch.from_numpy(x)).numpy())


@pytest.mark.parametrize("kind", [torch.nn.LSTM, torch.nn.GRU, torch.nn.RNN])
def test_a_recurrent_layer_reshapes_no_step(tmp_path: Path, kind: type[torch.nn.Module]) -> None:
    path = tmp_path / "net.tflite"
    converted = instep.convert(kind(6, 5), path, inputs=[(9, 2, 6)])
    assert converted.ok
    assert tflite_info(path).histogram.get("RESHAPE", 0) <= 2
