"""Every ATen handler means in numpy what PyTorch computes, over attributes of all kinds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn as nn
import torch.nn.functional as F

import instep
from capture_helpers import Function, agree, tolerance
from instep.capture import CaptureError
from instep.runtime import run

torch.set_num_threads(1)
X = (2, 4, 9, 10)  # an ordinary image batch
T = (2, 5, 6)  # tokens

ACTIVATIONS = {
    "relu": F.relu,
    "relu6": F.relu6,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "silu": F.silu,
    "mish": F.mish,
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "hardswish": F.hardswish,
    "hardsigmoid": F.hardsigmoid,
    "hardtanh": lambda x: F.hardtanh(x, -0.5, 0.75),
    "selu": F.selu,
    "elu": lambda x: F.elu(x, 0.5),
    "celu": lambda x: F.celu(x, 0.5),
    "leaky": lambda x: F.leaky_relu(x, 0.125),
    "rrelu": F.rrelu,
    "softplus": lambda x: F.softplus(x, 2.0, 1.5),
    "softsign": F.softsign,
    "softshrink": lambda x: F.softshrink(x, 0.25),
    "hardshrink": lambda x: F.hardshrink(x, 0.25),
    "tanhshrink": F.tanhshrink,
    "logsigmoid": F.logsigmoid,
    "threshold": lambda x: F.threshold(x, 0.25, -2.0),
    "glu": lambda x: F.glu(x, 1),
    "softmin": lambda x: F.softmin(x, -1),
    "softmax": lambda x: F.softmax(x, 1),
    "log_softmax": lambda x: F.log_softmax(x, -2),
    "clamp": lambda x: x.clamp(-0.5, 1),
    "clamp_min": lambda x: x.clamp(min=0.5),
    "clamp_max": lambda x: x.clamp_max(0.5),
    "clamp_tensor": lambda x: torch.clamp(x, min=x.mean(), max=x[0, 0, 0, 0] + 1),
    "sqrt": lambda x: x.abs().sqrt(),
    "rsqrt": lambda x: (x.abs() + 1).rsqrt(),
    "exp": torch.exp,
    "expm1": torch.expm1,
    "log": lambda x: (x.abs() + 1).log(),
    "log1p": lambda x: x.abs().log1p(),
    "log2": lambda x: (x.abs() + 1).log2(),
    "log10": lambda x: (x.abs() + 1).log10(),
    "exp2": torch.exp2,
    "sin": torch.sin,
    "cos": torch.cos,
    "tan": torch.tan,
    "sinh": torch.sinh,
    "cosh": torch.cosh,
    "atan": torch.atan,
    "asin": lambda x: torch.asin(x.tanh()),
    "acos": lambda x: torch.acos(x.tanh()),
    "erf": torch.erf,
    "erfc": torch.erfc,
    "floor": torch.floor,
    "ceil": torch.ceil,
    "round": torch.round,
    "round2": lambda x: torch.round(x, decimals=1),
    "trunc": torch.trunc,
    "frac": torch.frac,
    "sign": torch.sign,
    "abs": torch.abs,
    "neg": torch.neg,
    "square": torch.square,
    "reciprocal": lambda x: torch.reciprocal(x.abs() + 1),
    "logit": lambda x: torch.logit(x, 0.25),
    "nan_to_num": lambda x: torch.nan_to_num(x, nan=1.0, posinf=2.0, neginf=-2.0),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_functions_of_one_tensor(name: str) -> None:
    agree(Function(ACTIVATIONS[name]), [X], rtol=tolerance(name))


def test_prelu_has_one_slope_or_one_per_channel() -> None:
    agree(nn.Sequential(nn.PReLU(), nn.PReLU(4)), [X])
    agree(nn.PReLU(4), [(2, 4)])
    agree(nn.PReLU(4), [(2, 4, 3)])


PAIRS = {
    "add": lambda x, y: x + y,
    "sub_alpha": lambda x, y: torch.sub(x, y, alpha=2),
    "add_alpha": lambda x, y: torch.add(x, y, alpha=0.5),
    "rsub": lambda x, y: 2 - x,
    "mul": lambda x, y: x * y,
    "div": lambda x, y: x / (y.abs() + 1),
    "floor_div": lambda x, y: torch.div(x, y.abs() + 1, rounding_mode="floor"),
    "trunc_div": lambda x, y: torch.div(x, y.abs() + 1, rounding_mode="trunc"),
    "floordiv": lambda x, y: x // 0.5,
    "remainder": lambda x, y: x % 0.75,
    "fmod": lambda x, y: torch.fmod(x, 0.75),
    "fmod_whole": lambda x, y: torch.fmod((8 * x).int(), 3),
    "fmod_whole_both": lambda x, y: torch.fmod((8 * x).int(), (8 * y).int() - 100),
    "trunc_div_whole": lambda x, y: torch.div((8 * x).int(), 3, rounding_mode="trunc"),
    "rounding_whole": lambda x, y: (8 * x).int().floor() + (8 * y).int().ceil().round().trunc(),
    "maximum": torch.maximum,
    "minimum": torch.minimum,
    "max_other": lambda x, y: torch.max(x, y),
    "pow": lambda x, y: x.abs() ** y,
    "pow2": lambda x, y: x**2,
    "pow3": lambda x, y: x**3,
    "pow_half": lambda x, y: x.abs() ** 0.5,
    "pow_frac": lambda x, y: (x.abs() + 1) ** 1.5,
    "pow_neg": lambda x, y: (x.abs() + 1) ** -1,
    "scalar_pow": lambda x, y: 2**x,
    "atan2": torch.atan2,
    "hypot": torch.hypot,
    "isfinite": lambda x, y: torch.isfinite(x / y.round()),
    "cross": lambda x, y: torch.linalg.cross(x[:, :3], y[:, :3], dim=1),
    "fake_quantize": lambda x, y: torch.fake_quantize_per_tensor_affine(x + y, 0.25, 3, -8, 7),
    "fake_quantize_channels": lambda x, y: torch.fake_quantize_per_channel_affine(
        x + y, torch.tensor([0.5, 0.25, 1.0, 0.125]), torch.tensor([0, 1, -2, 0], dtype=torch.int32), 1, -8, 7
    ),
    "bucketize": lambda x, y: torch.bucketize(x.round(), torch.tensor([-1.0, 0, 1, 2])),
    "bucketize_right": lambda x, y: torch.bucketize(x.round(), torch.tensor([-1.0, 0, 1, 2]), right=True),
    "one_hot": lambda x, y: F.one_hot(x.argmax(1), 4),
    "lerp": lambda x, y: torch.lerp(x, y, 0.25),
    "addcmul": lambda x, y: torch.addcmul(x, x, y, value=0.5),
    "addcdiv": lambda x, y: torch.addcdiv(x, x, y.abs() + 1, value=0.5),
    "eq": lambda x, y: x.round() == y.round(),
    "ne": lambda x, y: x.round() != 1,
    "lt": lambda x, y: x < y,
    "le": lambda x, y: x <= 0,
    "gt": lambda x, y: x > y,
    "ge": lambda x, y: x >= 0.5,
    "and": lambda x, y: (x > 0) & (y > 0),
    "or": lambda x, y: (x > 0) | (y > 0),
    "xor": lambda x, y: (x > 0) ^ (y > 0),
    "not": lambda x, y: ~(x > 0),
    "and_whole": lambda x, y: ((8 * x).int() & 6) + ((8 * y).int() & -3) + (13 & (8 * y).int()),
    "or_whole": lambda x, y: (8 * x).long() | 5,
    "xor_whole": lambda x, y: (8 * x).int() ^ torch.tensor(-6, dtype=torch.int32),
    "and_bytes": lambda x, y: (8 * x.abs()).to(torch.uint8) & 0b10110,
    "and_nothing": lambda x, y: (8 * x).int() & 0,
    "not_whole": lambda x, y: ~(8 * x).int(),
    "shifts": lambda x, y: ((8 * x).int() << 2, (8 * y).int() >> 1, torch.bitwise_right_shift((8 * x).long(), 3)),
    "logical": lambda x, y: torch.logical_and(x.round(), y > 0),
    "where": lambda x, y: torch.where(x > 0, x, y),
    "where_scalar": lambda x, y: torch.where(x > 0, x, 0.0),
    "where_both": lambda x, y: torch.where(x > 0, 1.0, 0.5),
    "masked_fill": lambda x, y: x.masked_fill(y > 0, 0.5),
    "masked_inf": lambda x, y: x.masked_fill(y > 0, float("-inf")).softmax(-1),
    "isnan": lambda x, y: torch.isnan(x.sqrt()),
    "broadcast": lambda x, y: x[:, :1] + y[:1],
    "zero_dim": lambda x, y: x * y.sum(),
    "cosine": lambda x, y: F.cosine_similarity(x, y, 1),
    "cosine_one_to_many": lambda x, y: F.cosine_similarity(x[:, :1], y, 1),
    "cosine_ranks": lambda x, y: F.cosine_similarity(x[0, 0, 0], y[..., :1], -1),
    "pairwise": lambda x, y: F.pairwise_distance(x[:, 0, 0], y[:, 0, 0], eps=0.125),
    "cdist": lambda x, y: torch.cdist(x[0], y[0], compute_mode="donot_use_mm_for_euclid_dist"),
    "pow2_whole": lambda x, y: ((8 * x).int() ** 2 + (8 * y).int() ** 3 + (8 * x).int().square()).float(),
    "isclose": lambda x, y: torch.isclose(x, y, rtol=0.25, atol=0.125),
    "isclose_infinite": lambda x, y: torch.isclose(x / x.round(), y / y.round(), equal_nan=True),
    "signbit": lambda x, y: torch.signbit(torch.stack([x, x.round() * 0 * y])) | torch.signbit((8 * y).int()),
    "copysign": torch.copysign,
    "copysign_number": lambda x, y: torch.copysign(x, -2.0),
    "ldexp": lambda x, y: torch.ldexp(x, y.round().int()),
    "dist": torch.dist,
    "dist1": lambda x, y: torch.dist(x, y, 1),
    "searchsorted": lambda x, y: torch.searchsorted(torch.tensor([-1.0, 0, 1, 2]), x.round(), side="right"),
    "searchsorted_rows": lambda x, y: torch.searchsorted(x.sort(-1)[0], y[..., :3].contiguous(), out_int32=True),
}


@pytest.mark.parametrize("name", PAIRS)
def test_functions_of_two_tensors(name: str) -> None:
    agree(Function(PAIRS[name]), [X, X])


PROMOTIONS = {
    "int_tensor_by_float": lambda i, f: i * 0.5,
    "int_true_division": lambda i, f: i / 2,
    "int_plus_float_tensor": lambda i, f: i + f,
    "int_floor": lambda i, f: i // 2,
    "bool_arithmetic": lambda i, f: (f > 0) * f,
    "bool_sum": lambda i, f: (f > 0).sum(-1),
    "bool_mean": lambda i, f: (f > 0).float().mean(),
    "compare_int_float": lambda i, f: i > 1.5,
    "to_int": lambda i, f: (f * 4).to(torch.int64),
    "int_min": lambda i, f: i.clamp(1, 3),
    "zero_dim_double": lambda i, f: f + torch.tensor(0.5, dtype=torch.float64),
    "long_exp": lambda i, f: i.exp(),
    "int32": lambda i, f: i.to(torch.int32) + i,
    "bool_product": lambda i, f: (f > 0) * (i > 1),
    "bool_or_add": lambda i, f: (f > 0) + (i > 1),
    "half": lambda i, f: f.half().float(),
    "cumsum_bool": lambda i, f: (f > 0).cumsum(-1),
    "eq_int": lambda i, f: (i == 2).float() - f,
    "double_island": lambda i, f: (f.double() * 1.5 + i).float(),
}


#: Operators that are read by PyTorch's own decomposition, and those of prefixes.
SPELLED = {
    "sinc": torch.sinc,
    "deg2rad": torch.deg2rad,
    "logaddexp": lambda x: torch.logaddexp(x, x.roll(1, 1)),
    "xlogy": lambda x: torch.xlogy(x.abs(), x.abs() + 1),
    "block_diag": lambda x: torch.block_diag(x[0, 0], x[0, 1]),
    "renorm": lambda x: torch.renorm(x, 2, 1, 1.0),
    "trace": lambda x: torch.trace(x[0, 0]),
    "isin": lambda x: torch.isin(x.round(), torch.tensor([0.0, 1.0])),
    "cartesian_prod": lambda x: torch.cartesian_prod(x[0, 0, 0], x[0, 0, 1]),
    "cross_entropy": lambda x: F.binary_cross_entropy_with_logits(x, torch.sigmoid(x * 2)),
    "index_add": lambda x: torch.zeros_like(x).index_add(1, torch.tensor([0, 0, 1, 0]), x),
    "put_twice": lambda x: x.index_put((torch.tensor([0, 0, 1]),), x[[0, 1, 1]] * 2, accumulate=True),
    "cumprod": lambda x: torch.cumprod(torch.sigmoid(x), 2),
    "cummax": lambda x: torch.cummax(x, 3)[0],
    "cummin": lambda x: torch.cummin(x, -2)[0],
    "logcumsumexp": lambda x: torch.logcumsumexp(x * 9, 1),
    "asinh": torch.asinh,
    "acosh": lambda x: torch.acosh(x.abs() + 1.25),
    "atanh": lambda x: torch.atanh(torch.tanh(x)),
    "pdist": lambda x: torch.pdist(x[0, 0]),
    "pdist1": lambda x: torch.pdist(x[0, 0], 1),
    "nanmean": lambda x: torch.where(x > 1, float("nan"), x).nanmean(1),
    "put": lambda x: x.put(torch.tensor([[3, -1]]), x[0, 0, :1, :2]),
    "put_add": lambda x: x.put(torch.tensor([3, 3]), x[0, 0, 0, :2], accumulate=True),
    "scatter_sum": lambda x: x.scatter_reduce(3, torch.tensor([1, 1, 4]).expand(2, 4, 9, 3), x[..., 5:8], "sum"),
    "scatter_mean": lambda x: x.scatter_reduce(
        3, torch.tensor([1, 1, 4]).expand(2, 4, 9, 3), x[..., 5:8], "mean", include_self=False
    ),
    "median_all": lambda x: x.median(),
    "masked_scatter": lambda x: x.masked_scatter(x[0, 0] > 0, x.flip(0)),
}


@pytest.mark.parametrize("name", SPELLED)
def test_functions_that_are_composed(name: str) -> None:
    agree(Function(SPELLED[name]), [X], rtol=tolerance(name))


def test_one_place_is_added_to_so_many_times_only() -> None:
    many = torch.zeros(70, dtype=torch.long)
    with pytest.raises(CaptureError, match="writes one place 70 times"):
        instep.capture(Function(lambda x: torch.zeros(5).index_add(0, many, x)), inputs=[torch.zeros(70)])


def test_an_operator_without_other_words_is_named() -> None:
    with pytest.raises(CaptureError, match=r"uses the operator aten\.linalg_qr.*, which Instep does not know") as told:
        instep.capture(Function(lambda x: torch.linalg.qr(x[..., :4, :4])), inputs=[torch.zeros(X)])
    assert str(told.value).count("replace it in the network") == 1


@pytest.mark.parametrize("name", PROMOTIONS)
def test_dtype_promotion_is_explicit(name: str) -> None:
    inputs = [torch.zeros(3, 4, dtype=torch.int64), torch.zeros(3, 4)]
    agree(Function(PROMOTIONS[name]), inputs, rtol=1e-3 if name == "half" else 1e-9)


SHAPES = {
    "view": lambda x: x.view(2, -1),
    "flatten": lambda x: x.flatten(2),
    "unflatten": lambda x: x.unflatten(1, (2, 2)),
    "permute": lambda x: x.permute(0, 2, 3, -3),
    "transpose": lambda x: x.transpose(1, -1),
    "mT": lambda x: x.mT,
    "movedim": lambda x: x.movedim((0, 1), (-1, 0)),
    "squeeze": lambda x: x[:1].squeeze(0).unsqueeze(-1),
    "expand": lambda x: x[:, :1].expand(-1, 3, -1, -1),
    "expand_new": lambda x: x[0, 0].expand(3, 9, 10),
    "repeat": lambda x: x.repeat(1, 2, 3, 1),
    "tile": lambda x: x.tile((2, 1)),
    "repeat_new": lambda x: x[0, 0].repeat(2, 1, 1),
    "repeat_interleave": lambda x: x.repeat_interleave(3, 1),
    "repeat_interleave_flat": lambda x: x.repeat_interleave(2),
    "cat": lambda x: torch.cat([x, x[:, :1]], 1),
    "cat_mixed": lambda x: torch.cat([x > 0, x], -1),
    "stack": lambda x: torch.stack([x, x + 1], -1),
    "hstack": lambda x: torch.hstack([x, x]),
    "chunk": lambda x: x.chunk(3, 3),
    "split": lambda x: x.split([1, 3], 1),
    "split_size": lambda x: torch.split(x, 4, -1),
    "unbind": lambda x: x.unbind(1),
    "tensor_split": lambda x: x.tensor_split(4, 2),
    "slice_negative": lambda x: x[:, -3:-1, 1:],
    "slice_step": lambda x: x[..., 1::3],
    "slice_far": lambda x: x[:, 1:100],
    "select": lambda x: x[:, -1],
    "narrow": lambda x: x.narrow(2, 1, 5),
    "ellipsis": lambda x: x[..., None, 2],
    "flip": lambda x: x.flip(-1, 1),
    "rot90": lambda x: torch.rot90(x, 1, (2, 3)),
    "rot180": lambda x: torch.rot90(x, 2, (2, 3)),
    "rot270": lambda x: torch.rot90(x, 3, (2, 3)),
    "roll": lambda x: torch.roll(x, (1, -2), (2, 3)),
    "roll_flat": lambda x: torch.roll(x, 3),
    "pad": lambda x: F.pad(x, (1, 2, 0, 3)),
    "pad_value": lambda x: F.pad(x, (1, 0), value=0.5),
    "pad_channels": lambda x: F.pad(x, (0, 0, 0, 0, 1, 2)),
    "pad_negative": lambda x: F.pad(x, (-1, 2, 1, -3)),
    "pad_reflect": lambda x: F.pad(x, (1, 2, 3, 0), mode="reflect"),
    "pad_replicate": lambda x: F.pad(x, (1, 2, 3, 0), mode="replicate"),
    "pad_circular": lambda x: F.pad(x, (1, 2, 3, 0), mode="circular"),
    "pad_reflect_line": lambda x: F.pad(x[0], (1, 2), mode="reflect"),
    "pixel_shuffle": lambda x: F.pixel_shuffle(x, 2),
    "pixel_shuffle_5d": lambda x: F.pixel_shuffle(x[None], 2),
    "pixel_unshuffle": lambda x: F.pixel_unshuffle(x[..., :8, :], 2),
    "channel_shuffle": lambda x: F.channel_shuffle(x, 2),
    "unfold": lambda x: F.unfold(x, (2, 3), (2, 1), (1, 0), (1, 2)),
    "fold": lambda x: F.fold(F.unfold(x, 3, padding=1, stride=2), (9, 10), 3, padding=1, stride=2),
    "tensor_unfold": lambda x: x.unfold(2, 3, 2).unfold(3, 2, 2),
    "tril": lambda x: x.tril(1),
    "triu": lambda x: x.triu(-1),
    "triu_bool": lambda x: (x > 0).triu(),
    "diagonal": lambda x: x.diagonal(1, 2, 3),
    "diag_embed": lambda x: torch.diag_embed(x[0, 0]),
    "diag_embed_above": lambda x: torch.diag_embed(x[0, 0], 2),
    "diag_embed_axes": lambda x: torch.diag_embed(x[0, 0], -1, 2, 0),
    "broadcast_tensors": lambda x: torch.broadcast_tensors(x, x[:1, :1]),
    "meshgrid": lambda x: torch.meshgrid(x[0, 0, 0], x[0, 0, :, 0], indexing="xy"),
    "like": lambda x: (
        torch.zeros_like(x) + torch.ones_like(x) + torch.full_like(x, 0.5) + x.new_zeros(10) + x.new_full((9, 1), 2.0)
    ),
    "numbers": lambda x: (
        torch.where(x > 0, x, x.new_zeros(())),
        torch.maximum(x, x.new_full((), 2.0)) * x.new_ones([]),
        x.mean() + torch.ones_like(x.mean()),
    ),
    "arange": lambda x: x + torch.arange(10) * torch.linspace(0, 1, 10),
    "window_partition": lambda x: x[..., :8, :8].reshape(2, 4, 2, 4, 2, 4).permute(0, 2, 4, 3, 5, 1).reshape(-1, 16, 4),
    "einops": lambda x: x.view(2, 2, 2, 9, 10).transpose(1, 2).flatten(1, 2),
}


@pytest.mark.parametrize("name", SHAPES)
def test_views_and_moves(name: str) -> None:
    agree(Function(SHAPES[name]), [X])


def _put(x: torch.Tensor) -> torch.Tensor:
    y = x.clone()
    y[:, 1:3] = 0
    y[:, :, 2] += 1
    y[0, 0, ::2] = x[1, 0, ::2]
    return y


def _views_see_changes(x: torch.Tensor) -> Any:
    y = x * 1
    first, rest = y.split([1, 3], 1)
    flat = y.view(2, -1)
    rest.mul_(2)
    first.transpose(2, 3).add_(1)
    return flat + 0, y, rest.relu_(), flat


def _filled(x: torch.Tensor) -> Any:
    """``out=``: into a fresh tensor, into one of its own arguments, into a view, into an empty one, several at once."""
    larger, twice, padded, joined = torch.empty_like(x), x * 1, torch.zeros(2, 6, *x.shape[2:]), torch.empty(0)
    torch.maximum(x, x * 2 - 1, out=larger)
    torch.add(twice, x, out=twice)
    torch.mul(x, 3, out=padded[:, 1:5])
    torch.cat([twice, larger], 1, out=joined)
    values, indices = torch.empty(0), torch.empty(0, dtype=torch.int64)
    torch.max(x, 1, out=(values, indices))
    return larger, twice, padded, joined, values, indices


def _hue(x: torch.Tensor) -> torch.Tensor:
    """As RGB is turned into hue: what a mask picks goes through arithmetic and back through the same mask."""
    value, low = x.max(1)[0], x.min(1)[0]
    hue = torch.empty(x.shape[0], *x.shape[2:])
    hue[x[:, 2] == value] = 4.0 + ((x[:, 0] - x[:, 1]) / (value - low))[x[:, 2] == value]
    hue[x[:, 1] == value] = (2.0 + (x[:, 2] / 3)[x[:, 1] == value]) % 6
    hue[x[:, 0] == value] = -x[:, 0][x[:, 0] == value].abs()
    hue[x[:, 3] == value] = 0.5
    hue[low > 0] *= 2
    return hue


def _bool_put_behind(x: torch.Tensor) -> torch.Tensor:
    y = x.clone()
    y[:, x[0] > 0] = 0.25
    y[..., x[0, 0, 0] > 0] = x[0, 0, 0].mean()
    return y


def _fixed_mask_written(x: torch.Tensor) -> torch.Tensor:
    y, mask = x.clone(), torch.arange(10) % 4 == 0
    y[..., mask] = x[..., mask] * x[..., mask].shape[-1]
    part = y[:, :, torch.arange(9) > 5]
    part.view(2, 4, -1)[:, :2] += 1
    return part


def _mask_grows(x: torch.Tensor) -> torch.Tensor:
    """Picked vectors take another one, and a number, from all; the mask stands behind a whole axis."""
    y, mask = x.clone(), x[0, :, :, 0] > 0
    picked = x[:, mask]
    picked += 1
    picked = torch.maximum(picked, x[0, 0, 0]) * x.mean()
    y[:, mask] = picked.to(torch.float64).float()
    return y


INDEXING = {
    "list": lambda x: x[:, [2, 0, -1]],
    "two": lambda x: x[:, [0, 1], [2, 3]],
    "apart": lambda x: x[:, [0, 1], :, [2, 3]],
    "grid": lambda x: x[:, :, torch.tensor([[0], [2]]), torch.tensor([1, 3])],
    "index_select": lambda x: x.index_select(-1, torch.tensor([3, 1])),
    "take": lambda x: x.take(torch.tensor([[3, -1]])),
    "gather": lambda x: x.gather(1, x[:, :2].argmax(1, keepdim=True)),
    "take_along": lambda x: torch.take_along_dim(x, x.argmax(1, keepdim=True)[:1], 1),
    "take_along_all": lambda x: torch.take_along_dim(x, x.argmax()),
    "gather_constant": lambda x: torch.gather(x, 3, torch.tensor([2, 0]).expand(2, 4, 9, 2)),
    "computed": lambda x: x[:, x[0, :, 0, 0].argsort()],
    "computed_two": lambda x: x[0, 0][x[0, 0, 0].argsort()[:3].clamp(max=8), x[1, 0, 0].argsort()[:3]],
    "put": _put,
    "views_see_changes": _views_see_changes,
    "filled": _filled,
    "index_put": lambda x: x.index_put((torch.tensor([0, 1]), torch.tensor([2, 3])), torch.tensor(0.5)),
    "index_put_add": lambda x: x.index_put((torch.tensor([1]),), x[0], accumulate=True),
    "mask_put": lambda x: torch.where(x > 0, x, x).masked_fill_(x > 1, 0.0),
    "bool_put": lambda x: x.clone().index_put_((x > 0,), torch.tensor(0.25)),
    "bool_put_row": lambda x: x.clone().index_put_((x[..., 0] > 0,), x.mean()),
    "bool_put_behind": _bool_put_behind,
    "bool_put_vector": lambda x: x.clone().index_put_((x[:, :, :, 0] > 0,), torch.arange(10.0)),
    "mask_written_back": _hue,
    "mask_grows": _mask_grows,
    "slice_scatter": lambda x: x.slice_scatter(x[:, :2] * 2, 1, 0, 4, 2),
    "select_scatter": lambda x: x.select_scatter(x[:, 0] * 2, 1, -1),
    "diagonal_scatter": lambda x: x[0, 0, :, :9].diagonal_scatter(torch.zeros(9)),
    "scatter": lambda x: x.scatter(1, torch.zeros(2, 1, 9, 10, dtype=torch.int64), 0.5),
    "scatter_source": lambda x: x.scatter(3, torch.tensor([1, 4]).expand(2, 4, 9, 2), x[..., 5:]),
    "one_hot_by_scatter": lambda x: torch.zeros_like(x).scatter_(1, x.argmax(1, keepdim=True), 1.0),
    "scatter_two": lambda x: x.scatter(1, x.topk(2, 1)[1], x[:, 1:3]),
    "scatter_add_computed": lambda x: x.scatter_add(-1, x.topk(3, -1)[1], x[..., :3]),
    "fixed_mask": lambda x: x[:, torch.arange(4) % 3 == 0].transpose(0, 1).mul_(2).reshape(4, -1) + 1,
    "fixed_mask_in_the_middle": lambda x: x[:, :, (torch.arange(90) % 4 == 1).reshape(9, 10)].relu().unbind(1)[1],
    "fixed_mask_written": _fixed_mask_written,
    "fixed_places": lambda x: x.flatten(2)[..., torch.ones(9, 10).triu().flatten().nonzero().squeeze(1)].flatten(1),
    "empty_parts": lambda x: torch.cat([x, x.new_empty(2, 0, 9, 10), torch.empty(0), x * 2], 1),
    "index_fill": lambda x: x.index_fill(1, torch.tensor([0, 3]), 0.5),
    "index_copy": lambda x: x.index_copy(1, torch.tensor([3, 0]), x[:, 1:3]),
    "copy": lambda x: (x * 1).copy_(x[:1]),
    "zero": lambda x: (x * 1).zero_() + x.clone().fill_(0.5),
    "embedding": lambda x: F.embedding(x[0, 0].argmax(-1), x[1, 0, :, :].repeat(2, 1)),
}


@pytest.mark.parametrize("name", INDEXING)
def test_indexing_and_writing(name: str) -> None:
    agree(Function(INDEXING[name]), [X])


REDUCTIONS = {
    "sum": lambda x: x.sum(),
    "sum_dims": lambda x: x.sum((1, -1)),
    "mean": lambda x: x.mean((2, 3), keepdim=True),
    "prod": lambda x: x.prod(2),
    "amax": lambda x: x.amax((1, 2)),
    "amin": lambda x: x.amin(-1, keepdim=True),
    "max": lambda x: x.max(),
    "max_dim": lambda x: x.max(1),
    "min_dim": lambda x: x.min(-1, keepdim=True),
    "any": lambda x: (x > 1).any(1),
    "all": lambda x: (x > -1).all(-1),
    "argmax": lambda x: x.argmax(1),
    "argmax_all": lambda x: x.argmax(),
    "argmin": lambda x: x.argmin(-1, keepdim=True),
    "aminmax": lambda x: torch.aminmax(x, dim=1),
    "cumsum": lambda x: x.cumsum(1),
    "topk": lambda x: x.topk(3),
    "topk_dim": lambda x: x.topk(2, 1, largest=False),
    "sort": lambda x: x.sort(-1),
    "sort_down": lambda x: x.sort(2, descending=True),
    "argsort": lambda x: x.argsort(1),
    "topk_any_order": lambda x: x.topk(4, sorted=False)[0].sort(-1)[0],
    "sort_bool": lambda x: torch.sort(x > 0, stable=True, dim=1)[0],
    "kthvalue": lambda x: x.kthvalue(2, 1),
    "median": lambda x: x.median(-1, keepdim=True),
    "quantile": lambda x: x.quantile(0.3, 1),
    "quantile_all": lambda x: x.quantile(0.5),
    "quantiles": lambda x: x.quantile(torch.tensor([0.1, 0.5, 0.8], dtype=x.dtype), -1, keepdim=True),
    "quantile_higher": lambda x: x.quantile(0.3, 2, interpolation="higher"),
    "norm": lambda x: x.norm(dim=1),
    "norm_all": lambda x: x.norm(),
    "norm1": lambda x: torch.linalg.vector_norm(x, 1, -1),
    "norm_inf": lambda x: torch.linalg.norm(x[0, 0, 0], float("inf")),
    "norm3": lambda x: torch.linalg.vector_norm(x, 3, (1, 2), True),
    "normalize": lambda x: F.normalize(x, dim=1),
    "normalize1": lambda x: F.normalize(x, p=1, dim=-1),
    "fro": lambda x: torch.linalg.norm(x, dim=(2, 3)),
    "matrix_norm": lambda x: torch.linalg.matrix_norm(x),
    "matrix_norm_1": lambda x: torch.linalg.norm(x[0, 0], 1),
    "matrix_norm_rows": lambda x: torch.linalg.matrix_norm(x, float("inf"), (3, 1), keepdim=True),
    "matrix_norm_least": lambda x: torch.linalg.matrix_norm(x, -1),
    "var": lambda x: x.var(),
    "var_dim": lambda x: x.var(1),
    "var_biased": lambda x: x.var((2, 3), unbiased=False, keepdim=True),
    "std": lambda x: x.std(-1),
    "std_correction": lambda x: torch.std(x, 1, correction=2),
    "var_mean": lambda x: torch.var_mean(x, (1, 2)),
    "std_mean": lambda x: torch.std_mean(x, -1, keepdim=True),
    "logsumexp": lambda x: x.logsumexp((1, 2)),
    "count_nonzero": lambda x: (x > 0).count_nonzero(1),
    "mean_dtype": lambda x: (x > 0).sum(1, dtype=torch.float32),
}


@pytest.mark.parametrize("name", REDUCTIONS)
def test_reductions(name: str) -> None:
    agree(Function(REDUCTIONS[name]), [X], rtol=tolerance(name))


MATRICES = {
    "matmul": lambda x, y: x @ y.transpose(1, 2),
    "matmul_vector": lambda x, y: x @ y[0, 0],
    "vector_matmul": lambda x, y: x[0, 0] @ y[0].T,
    "vector_batch": lambda x, y: x[0, 0] @ y.transpose(1, 2),
    "dot": lambda x, y: torch.dot(x[0, 0], y[0, 0]),
    "broadcast": lambda x, y: x[:, None] @ y[:1].mT,
    "mm": lambda x, y: torch.mm(x[0], y[0].T),
    "bmm": lambda x, y: torch.bmm(x, y.mT),
    "mv": lambda x, y: torch.mv(x[0], y[0, 0]),
    "addmm": lambda x, y: torch.addmm(x[0, :, :5], x[0], y[0].T, beta=0.5, alpha=2),
    "baddbmm": lambda x, y: torch.baddbmm(x[..., :5], x, y.mT, beta=0, alpha=0.5),
    "outer": lambda x, y: torch.outer(x[0, 0], y[0, 0]),
    "linear_functional": lambda x, y: F.linear(x, y[0], y[0, :, 0]),
    "linear_vector": lambda x, y: F.linear(x[0, 0], y[0]),
    "tensordot": lambda x, y: torch.tensordot(x, y, dims=([2], [2])),
    "kron": lambda x, y: torch.kron(x[0, :2, :2].contiguous(), y[0, :2, :2].contiguous()),
    "inner": lambda x, y: torch.inner(x[0, 0], y[0, 0]),
    "inner_tensors": lambda x, y: torch.inner(x, y[0]),
    "inner_number": lambda x, y: torch.inner(x, y.sum()),
    "chain": lambda x, y: torch.linalg.multi_dot([x[0], y[0].T, x[1]]),
}


def _regular(x: torch.Tensor, n: int) -> torch.Tensor:
    """n x n matrices that are far from singular."""
    return x[:, :n, :n] / 4 + torch.eye(n) * 2


SMALL = {
    "det": torch.linalg.det,
    "slogdet": lambda m: torch.linalg.slogdet(-m),
    "logdet": torch.logdet,
    "inv": torch.linalg.inv,
    "inv_ex": torch.linalg.inv_ex,
    "inverse": torch.inverse,
    "solve": lambda m: torch.linalg.solve(m, m.mT[..., :1]),
    "solve_vector": lambda m: torch.linalg.solve(m, m[..., 0]),
    "solve_right": lambda m: torch.linalg.solve(m, m.mT, left=False),
    "cholesky": lambda m: torch.linalg.cholesky(m @ m.mT),
    "cholesky_upper": lambda m: torch.linalg.cholesky(m @ m.mT, upper=True),
    "triangular": lambda m: torch.linalg.solve_triangular(m, m.mT, upper=False),
    "triangular_right": lambda m: torch.linalg.solve_triangular(m, m.mT, upper=True, left=False, unitriangular=True),
}


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("name", SMALL)
def test_small_matrices_are_solved_by_hand(name: str, size: int) -> None:
    agree(Function(lambda x: SMALL[name](_regular(x, size))), [T])


@pytest.mark.parametrize("name", ["det", "inv", "solve", "cholesky", "triangular"])
def test_larger_matrices_are_refused(name: str) -> None:
    with pytest.raises(CaptureError, match=r"not supported here: the .* of 4x4 matrices; up to 3x3 it is written out"):
        instep.capture(Function(lambda x: SMALL[name](_regular(x, 4))), inputs=[T])


@pytest.mark.parametrize("order", [2, -2, "nuc"])
def test_norms_of_singular_values_are_refused(order: Any) -> None:
    """A spectral norm is no Frobenius norm."""
    with pytest.raises(CaptureError, match=r"linalg_(matrix_)?norm"):
        instep.capture(Function(lambda x: torch.linalg.norm(x[0], order)), inputs=[T])


@pytest.mark.parametrize("name", MATRICES)
def test_matrix_products(name: str) -> None:
    agree(Function(MATRICES[name]), [T, T])


@pytest.mark.parametrize("shape", [(6,), (3, 6), (2, 3, 6), (2, 2, 3, 6)], ids=str)
def test_linear_takes_any_rank(shape: tuple[int, ...]) -> None:
    agree(nn.Sequential(nn.Linear(6, 4), nn.Linear(4, 3, bias=False)), [shape])


EINSUMS = {
    "bij,bkj->bik": (T, T),
    "bij,bij->b": (T, T),
    "bij,bij->": (T, T),
    "bij,bkl->bijkl": (T, T),
    "ij,jk": ((3, 4), (4, 5)),
    "bhid,bhjd->bhij": ((2, 3, 4, 5), (2, 3, 6, 5)),
    "bhij,bhjd->bhid": ((2, 3, 4, 6), (2, 3, 6, 5)),
    "nchw,cd->ndhw": (X, (4, 3)),
    "...ij,...jk->...ik": ((2, 3, 4), (4, 5)),
    "...c,dc->...d": (T, (3, 6)),
    "bij->bji": (T,),
    "bij->b": (T,),
    "ijk": (T,),
    "bij,b,bj->ij": (T, (2,), (2, 6)),
    "a,b->ab": ((3,), (4,)),
    "bhwqc,hkc->bhwqk": ((2, 3, 4, 4, 5), (3, 6, 5)),
    "b...c,b...c->b...": (T, T),
    "bij , bjk -> bk": ((2, 3, 4), (2, 4, 5)),
    "bct,bcs->bts": ((2, 3, 4), (2, 3, 5)),
    "bii->bi": ((2, 3, 3),),
    "bii": ((2, 3, 3),),
    "bii,bij->bj": ((2, 3, 3), (2, 3, 4)),
    "ijij->ji": ((2, 3, 2, 3),),
    "iii->i": ((3, 3, 3),),
}


@pytest.mark.parametrize("equation", EINSUMS)
def test_einsum(equation: str) -> None:
    agree(Function(lambda *tensors: torch.einsum(equation, *tensors)), list(EINSUMS[equation]))


class Places(nn.Module):
    """Rows and columns of the highest values, as detectors compute them from flat indices."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        places = x.flatten(1).topk(6, dim=1)[1] - 40
        rows = torch.div(places, 9, rounding_mode="trunc")
        return torch.fmod(places, 9).float(), rows.floor().float(), torch.fmod(places, -5).float(), (places % 9).float()


def test_whole_numbers_are_divided_in_the_file_as_in_pytorch(tmp_path: Path) -> None:
    path = tmp_path / "places.tflite"
    instep.convert(Places(), path, inputs=[(1, 2, 6, 9)], verify=False)
    x = np.random.default_rng(0).permutation(108).reshape(1, 2, 6, 9).astype(np.float32)
    outputs = run(path, [x]).outputs
    for ours, theirs in zip(outputs, Places()(torch.from_numpy(x)), strict=True):
        np.testing.assert_array_equal(ours, theirs.numpy())


def test_constants_may_be_computed_in_any_number_of_steps() -> None:
    """Tables that forward() fills element by element, and sums in a loop, are chains deeper than Python's stack."""

    def filled(x: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        table = torch.zeros(2, 60)
        for i in range(60):
            table[i % 2, i] = i
        for i in range(400):
            scale = scale + i * 1e-3
        return x * table + scale

    agree(Function(filled, torch.linspace(0, 1, 60)), [[2, 60]], rtol=1e-7)
