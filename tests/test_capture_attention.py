"""Rows of attention that see nothing: 0 where PyTorch's fused operator says so, NaN where its softmax does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import instep
from capture_helpers import Function, agree
from instep.capture import capture
from instep.runtime import run

Q, K, V = (1, 2, 4, 8), (1, 2, 5, 8), (1, 2, 5, 6)
SOME = torch.tensor([[1, 0, 1, 1, 0], [0, 0, 0, 0, 0], [1, 1, 0, 0, 0], [1, 1, 1, 1, 1]], dtype=torch.bool)
CAUSAL = torch.ones(4, 5, dtype=torch.bool).tril()
INFINITE = torch.zeros(4, 5).masked_fill(~SOME, -torch.inf)


def drawn(*shapes: tuple[int, ...]) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.standard_normal(s).astype(np.float32) for s in shapes]


def operators(module: torch.nn.Module, *shapes: tuple[int, ...]) -> list[str]:
    return [n.op.name for n in capture(module, inputs=list(shapes)).graph.nodes]


def added(bias: torch.Tensor | None) -> Function:
    held = [] if bias is None else [bias]
    return Function(lambda q, k, v, *m: F.scaled_dot_product_attention(q, k, v, *m), *held)


class Held(torch.nn.Module):
    """Attention with a mask that no input has a say in."""

    mask: torch.Tensor

    def __init__(self, mask: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("mask", mask)

    def forward(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=self.mask)


@pytest.mark.parametrize(
    "mask", [SOME, INFINITE, SOME.expand(2, 4, 5), SOME[:, 1:2]], ids=["truth", "added", "heads", "one for all"]
)
def test_rows_of_a_held_mask_that_see_nothing_are_zero(mask: torch.Tensor) -> None:
    captured = agree(Held(mask), [Q, K, V], rtol=1e-6)
    (y,) = captured.graph.run(drawn(Q, K, V), keep=[]).values()
    assert np.all(y[:, :, 1] == 0) and np.all(y[:, :, 3] != 0)


def test_infinities_of_a_trained_bias_are_known_too() -> None:
    agree(added(INFINITE), [Q, K, V], rtol=1e-6)


@pytest.mark.parametrize("name", ["truth", "kept away", "added"])
def test_rows_of_a_computed_mask_that_see_nothing_are_zero(name: str, tmp_path: Path) -> None:
    """As PyTorch computes them, in the graph and in the file: no NaN comes of them on the way."""
    masks: dict[str, Any] = {
        "truth": lambda m: m > 0,
        "kept away": lambda m: (m * 2).masked_fill(m <= 0, -torch.inf),
        "added": torch.log,
    }
    module = Function(lambda q, k, v, m: F.scaled_dot_product_attention(q, k, v, masks[name](m)))
    arrays = [*drawn(Q, K, V), SOME.numpy().astype(np.float32)]
    agree(module, [Q, K, V, (4, 5)], rtol=1e-6, arrays=arrays)
    path = tmp_path / "attention.tflite"
    instep.convert(module, path, inputs=[Q, K, V, (4, 5)], verify=False)
    (given,) = run(path, arrays).outputs
    truth = module(*map(torch.from_numpy, arrays)).numpy()
    np.testing.assert_allclose(given, truth, atol=1e-5)
    assert np.all(given[:, :, 1] == 0)


def test_padding_of_keys_may_hide_a_row_of_multihead_attention() -> None:
    torch.manual_seed(0)
    torch.backends.mha.set_fastpath_enabled(False)
    layer = torch.nn.MultiheadAttention(8, 2, batch_first=True)
    causal = torch.ones(5, 5, dtype=torch.bool).triu(1)

    def padded(x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        return layer(x, x, x, attn_mask=causal, key_padding_mask=lengths > 0, need_weights=False)[0]

    arrays = [*drawn((2, 5, 8)), np.array([[1, 1, 0, 0, 0], [0, 0, 0, 0, 1]], np.float32)]
    graph = capture(Function(padded), inputs=[(2, 5, 8), (2, 5)]).graph
    (given,) = graph.run(arrays, keep=[]).values()
    with torch.no_grad():
        truth = padded(*map(torch.from_numpy, arrays)).numpy()
    assert np.isfinite(truth).all()
    np.testing.assert_allclose(given, truth, atol=1e-5)


@pytest.mark.parametrize(
    "mask",
    [None, CAUSAL, torch.zeros(4, 5).masked_fill(~CAUSAL, -torch.inf)],
    ids=["none", "truth", "infinite"],
)
def test_a_row_that_always_sees_something_costs_nothing(mask: torch.Tensor | None) -> None:
    module = added(None) if mask is None else Held(mask)
    assert operators(module, Q, K, V) == ["Mul", "MatMul", *(["Add"] if mask is not None else []), "Softmax", "MatMul"]


def test_a_bias_that_cannot_be_infinite_costs_nothing() -> None:
    """Learned, or a product of something computed (Swin V2, BEiT, gates)."""
    plain = ["Mul", "MatMul", "Add", "Softmax", "MatMul"]
    assert operators(added(torch.randn(4, 5)), Q, K, V) == plain
    shapes = (Q, K, V, (4, 3), (3, 5))
    gated = Function(lambda q, k, v, m, n: F.scaled_dot_product_attention(q, k, v, m @ n))
    assert sorted(operators(gated, *shapes)) == sorted([*plain, "MatMul"])
    faded = Function(lambda q, k, v, m: F.scaled_dot_product_attention(q, k, v, (1 - m) * -1e4))
    assert sorted(operators(faded, Q, K, V, (4, 5))) == sorted([*plain, "Sub", "Mul"])


def test_safe_softmax_gives_zeros_and_softmax_no_numbers() -> None:
    rows = [INFINITE.numpy()]
    agree(Function(lambda x: torch.ops.aten._safe_softmax.default(x, -1)), [(4, 5)], arrays=rows)
    agree(Function(lambda x: torch.ops.aten._safe_softmax.default(x, 0)), [(4, 5)], arrays=rows)
    agree(Function(lambda x: F.softmax(x, -1)), [(4, 5)], arrays=rows)
    finite: Any = Function(lambda x, y: torch.ops.aten._safe_softmax.default(x @ y, -1))
    assert operators(finite, (4, 5), (5, 3)) == ["MatMul", "Softmax"]
