"""Every ATen handler means in numpy what PyTorch computes, over attributes of all kinds."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn as nn
import torch.nn.functional as F
from capture_helpers import Function, agree

torch.set_num_threads(1)
X = (2, 4, 9, 10)  # an ordinary image batch
T = (2, 5, 6)  # tokens

#: These hold a constant that float32 rounds (log 2, n / (n - 1), √(1/8), …): float64 sees that rounding.
ROUNDED = {
    "log2", "log10", "exp2", "round2", "avg_divisor", "avg_volume_divisor", "norm3", "var", "var_dim", "std", "std_correction",
    "var_mean", "std_mean", "local", "plain", "causal", "bool_mask", "float_mask", "head_mask", "inf_mask",
}  # fmt: skip


def _tolerance(name: str) -> float:
    return 1e-6 if name in ROUNDED else 1e-9


ACTIVATIONS = {
    "relu": F.relu, "relu6": F.relu6, "sigmoid": torch.sigmoid, "tanh": torch.tanh, "silu": F.silu, "mish": F.mish,
    "gelu": F.gelu, "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"), "hardswish": F.hardswish,
    "hardsigmoid": F.hardsigmoid, "hardtanh": lambda x: F.hardtanh(x, -0.5, 0.75), "selu": F.selu,
    "elu": lambda x: F.elu(x, 0.5), "celu": lambda x: F.celu(x, 0.5), "leaky": lambda x: F.leaky_relu(x, 0.125),
    "rrelu": F.rrelu, "softplus": lambda x: F.softplus(x, 2.0, 1.5), "softsign": F.softsign,
    "softshrink": lambda x: F.softshrink(x, 0.25), "hardshrink": lambda x: F.hardshrink(x, 0.25),
    "tanhshrink": F.tanhshrink, "logsigmoid": F.logsigmoid, "threshold": lambda x: F.threshold(x, 0.25, -2.0),
    "glu": lambda x: F.glu(x, 1), "softmin": lambda x: F.softmin(x, -1), "softmax": lambda x: F.softmax(x, 1),
    "log_softmax": lambda x: F.log_softmax(x, -2), "clamp": lambda x: x.clamp(-0.5, 1), "clamp_min": lambda x: x.clamp(min=0.5),
    "clamp_max": lambda x: x.clamp_max(0.5), "clamp_tensor": lambda x: torch.clamp(x, min=x.mean(), max=x[0, 0, 0, 0] + 1),
    "sqrt": lambda x: x.abs().sqrt(), "rsqrt": lambda x: (x.abs() + 1).rsqrt(), "exp": torch.exp, "expm1": torch.expm1,
    "log": lambda x: (x.abs() + 1).log(), "log1p": lambda x: x.abs().log1p(), "log2": lambda x: (x.abs() + 1).log2(),
    "log10": lambda x: (x.abs() + 1).log10(), "exp2": torch.exp2, "sin": torch.sin, "cos": torch.cos, "tan": torch.tan,
    "sinh": torch.sinh, "cosh": torch.cosh, "atan": torch.atan, "asin": lambda x: torch.asin(x.tanh()),
    "acos": lambda x: torch.acos(x.tanh()), "erf": torch.erf, "erfc": torch.erfc, "floor": torch.floor,
    "ceil": torch.ceil, "round": torch.round, "round2": lambda x: torch.round(x, decimals=1), "trunc": torch.trunc,
    "frac": torch.frac, "sign": torch.sign, "abs": torch.abs, "neg": torch.neg, "square": torch.square,
    "reciprocal": lambda x: torch.reciprocal(x.abs() + 1), "logit": lambda x: torch.logit(x, 0.25),
    "nan_to_num": lambda x: torch.nan_to_num(x, nan=1.0, posinf=2.0, neginf=-2.0),
}  # fmt: skip


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_functions_of_one_tensor(name: str) -> None:
    agree(Function(ACTIVATIONS[name]), [X], rtol=_tolerance(name))


def test_prelu_has_one_slope_or_one_per_channel() -> None:
    agree(nn.Sequential(nn.PReLU(), nn.PReLU(4)), [X])
    agree(nn.PReLU(4), [(2, 4)])
    agree(nn.PReLU(4), [(2, 4, 3)])


PAIRS = {
    "add": lambda x, y: x + y, "sub_alpha": lambda x, y: torch.sub(x, y, alpha=2), "add_alpha": lambda x, y: torch.add(x, y, alpha=0.5),
    "rsub": lambda x, y: 2 - x, "mul": lambda x, y: x * y, "div": lambda x, y: x / (y.abs() + 1),
    "floor_div": lambda x, y: torch.div(x, y.abs() + 1, rounding_mode="floor"),
    "trunc_div": lambda x, y: torch.div(x, y.abs() + 1, rounding_mode="trunc"), "floordiv": lambda x, y: x // 0.5,
    "remainder": lambda x, y: x % 0.75, "fmod": lambda x, y: torch.fmod(x, 0.75), "maximum": torch.maximum,
    "minimum": torch.minimum, "max_other": lambda x, y: torch.max(x, y), "pow": lambda x, y: x.abs() ** y,
    "pow2": lambda x, y: x**2, "pow3": lambda x, y: x**3, "pow_half": lambda x, y: x.abs() ** 0.5,
    "pow_frac": lambda x, y: (x.abs() + 1) ** 1.5, "pow_neg": lambda x, y: (x.abs() + 1) ** -1, "scalar_pow": lambda x, y: 2**x,
    "atan2": torch.atan2, "hypot": torch.hypot, "lerp": lambda x, y: torch.lerp(x, y, 0.25), "addcmul": lambda x, y: torch.addcmul(x, x, y, value=0.5),
    "addcdiv": lambda x, y: torch.addcdiv(x, x, y.abs() + 1, value=0.5), "eq": lambda x, y: x.round() == y.round(), "ne": lambda x, y: x.round() != 1,
    "lt": lambda x, y: x < y, "le": lambda x, y: x <= 0, "gt": lambda x, y: x > y, "ge": lambda x, y: x >= 0.5,
    "and": lambda x, y: (x > 0) & (y > 0), "or": lambda x, y: (x > 0) | (y > 0), "xor": lambda x, y: (x > 0) ^ (y > 0), "not": lambda x, y: ~(x > 0),
    "logical": lambda x, y: torch.logical_and(x.round(), y > 0), "where": lambda x, y: torch.where(x > 0, x, y),
    "where_scalar": lambda x, y: torch.where(x > 0, x, 0.0), "where_both": lambda x, y: torch.where(x > 0, 1.0, 0.5), "masked_fill": lambda x, y: x.masked_fill(y > 0, 0.5),
    "masked_inf": lambda x, y: x.masked_fill(y > 0, float("-inf")).softmax(-1), "isnan": lambda x, y: torch.isnan(x.sqrt()),
    "broadcast": lambda x, y: x[:, :1] + y[:1], "zero_dim": lambda x, y: x * y.sum(), "cosine": lambda x, y: F.cosine_similarity(x, y, 1),
    "pairwise": lambda x, y: F.pairwise_distance(x[:, 0, 0], y[:, 0, 0], eps=0.125), "cdist": lambda x, y: torch.cdist(x[0], y[0], compute_mode="donot_use_mm_for_euclid_dist"),
}  # fmt: skip


@pytest.mark.parametrize("name", PAIRS)
def test_functions_of_two_tensors(name: str) -> None:
    agree(Function(PAIRS[name]), [X, X])


PROMOTIONS = {
    "int_tensor_by_float": lambda i, f: i * 0.5, "int_true_division": lambda i, f: i / 2, "int_plus_float_tensor": lambda i, f: i + f,
    "int_floor": lambda i, f: i // 2, "bool_arithmetic": lambda i, f: (f > 0) * f, "bool_sum": lambda i, f: (f > 0).sum(-1),
    "bool_mean": lambda i, f: (f > 0).float().mean(), "compare_int_float": lambda i, f: i > 1.5, "to_int": lambda i, f: (f * 4).to(torch.int64),
    "int_min": lambda i, f: i.clamp(1, 3), "zero_dim_double": lambda i, f: f + torch.tensor(0.5, dtype=torch.float64),
    "long_exp": lambda i, f: i.exp(), "int32": lambda i, f: i.to(torch.int32) + i, "bool_or_add": lambda i, f: (f > 0) + (i > 1),
    "half": lambda i, f: f.half().float(), "cumsum_bool": lambda i, f: (f > 0).cumsum(-1), "eq_int": lambda i, f: (i == 2).float() - f,
}  # fmt: skip


@pytest.mark.parametrize("name", PROMOTIONS)
def test_dtype_promotion_is_explicit(name: str) -> None:
    inputs = [torch.zeros(3, 4, dtype=torch.int64), torch.zeros(3, 4)]
    agree(Function(PROMOTIONS[name]), inputs, rtol=1e-3 if name == "half" else 1e-9)


CONVOLUTIONS = {
    "plain": (nn.Conv2d(4, 6, 3), X), "strided": (nn.Conv2d(4, 6, (3, 5), (2, 1), (1, 2), bias=False), X),
    "dilated": (nn.Conv2d(4, 6, 3, dilation=(2, 1), padding=2), X), "grouped": (nn.Conv2d(4, 6, 3, groups=2), X),
    "depthwise": (nn.Conv2d(4, 8, 3, groups=4, padding="same"), X), "same_even": (nn.Conv2d(4, 6, (4, 2), padding="same"), X),
    "same_dilated": (nn.Conv2d(4, 6, (4, 3), padding="same", dilation=(3, 2)), X), "valid": (nn.Conv2d(4, 6, 3, padding="valid"), X),
    "reflect": (nn.Conv2d(4, 6, 3, padding=1, padding_mode="reflect"), X), "circular": (nn.Conv2d(4, 6, 3, padding=(1, 2), padding_mode="circular"), X),
    "replicate": (nn.Conv2d(4, 6, 3, padding=1, padding_mode="replicate"), X), "unbatched": (nn.Conv2d(4, 6, 3), (4, 8, 8)),
    "line": (nn.Conv1d(4, 6, 3, 2, 1, groups=2), (2, 4, 11)), "line_same": (nn.Conv1d(4, 6, 4, padding="same", dilation=2), (2, 4, 11)),
    "volume": (nn.Conv3d(4, 6, (2, 3, 3), (1, 2, 1), (0, 1, 1), (2, 1, 1), 2), (1, 4, 6, 7, 8)),
    "up": (nn.ConvTranspose2d(4, 6, 3, 2), X), "up_output_padding": (nn.ConvTranspose2d(4, 6, (3, 4), (3, 2), (1, 2), (2, 1)), X),
    "up_grouped": (nn.ConvTranspose2d(4, 6, 3, 2, 1, 1, groups=2, dilation=2, bias=False), X), "up_line": (nn.ConvTranspose1d(4, 6, 4, 2, 1, 1), (2, 4, 7)),
    "up_volume": (nn.ConvTranspose3d(4, 6, (2, 3, 3), (2, 1, 2), (0, 1, 1), (1, 0, 1), 2), (1, 4, 3, 4, 5)),
}  # fmt: skip


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolutions(name: str) -> None:
    agree(CONVOLUTIONS[name][0], [CONVOLUTIONS[name][1]])


POOLS = {
    "max": (nn.MaxPool2d(3, 2, 1), X), "max_ceil": (nn.MaxPool2d(3, 2, ceil_mode=True), X), "max_ceil_pad": (nn.MaxPool2d((2, 4), (3, 3), (1, 2), ceil_mode=True), X),
    "max_dilated": (nn.MaxPool2d(3, 1, 1, 2), X), "max_default_stride": (nn.MaxPool2d(2), X), "max_line": (nn.MaxPool1d(3, 2, 1, ceil_mode=True), (2, 4, 10)),
    "max_volume": (nn.MaxPool3d((2, 3, 2), (1, 2, 2), (1, 1, 0), ceil_mode=True), (1, 3, 5, 6, 7)), "avg": (nn.AvgPool2d(3, 2, 1), X),
    "avg_exclude": (nn.AvgPool2d(3, 2, 1, count_include_pad=False), X), "avg_ceil": (nn.AvgPool2d(3, 2, 1, ceil_mode=True), X),
    "avg_ceil_exclude": (nn.AvgPool2d((2, 4), (3, 3), (1, 2), ceil_mode=True, count_include_pad=False), X),
    "avg_divisor": (nn.AvgPool2d(3, 2, 1, divisor_override=5), X), "avg_divisor_ceil": (nn.AvgPool2d(3, 2, 0, ceil_mode=True, divisor_override=4), X),
    "avg_line": (nn.AvgPool1d(3, 2, 1, ceil_mode=True), (2, 4, 10)), "avg_line_exclude": (nn.AvgPool1d(3, 2, 1, count_include_pad=False), (2, 4, 10)),
    "avg_volume": (nn.AvgPool3d((2, 3, 2), (1, 2, 2), (1, 1, 0), ceil_mode=True, count_include_pad=False), (1, 3, 5, 6, 7)),
    "avg_volume_divisor": (nn.AvgPool3d(2, 2, 1, divisor_override=3), (1, 3, 5, 6, 7)), "adaptive_one": (nn.AdaptiveAvgPool2d(1), X),
    "adaptive_odd": (nn.AdaptiveAvgPool2d((4, 3)), X), "adaptive_none": (nn.AdaptiveAvgPool2d((None, 3)), X), "adaptive_more": (nn.AdaptiveAvgPool2d((13, 11)), X),
    "adaptive_max": (nn.AdaptiveMaxPool2d((4, 3)), X), "adaptive_max_one": (nn.AdaptiveMaxPool2d(1), X), "adaptive_line": (nn.AdaptiveAvgPool1d(4), (2, 4, 10)),
    "adaptive_max_line": (nn.AdaptiveMaxPool1d(4), (2, 4, 10)), "adaptive_volume": (nn.AdaptiveAvgPool3d((2, 3, 4)), (1, 3, 5, 6, 7)),
    "adaptive_max_volume": (nn.AdaptiveMaxPool3d((2, 3, 4)), (1, 3, 5, 6, 7)), "lp": (nn.LPPool2d(2, 2), X), "unbatched": (nn.MaxPool2d(2), (4, 8, 8)),
}  # fmt: skip


@pytest.mark.parametrize("name", POOLS)
def test_pools(name: str) -> None:
    agree(POOLS[name][0], [POOLS[name][1]], rtol=_tolerance(name))


RESIZES: list[dict[str, Any]] = [
    *({"mode": m, "size": s, **a} for m in ("bilinear", "bicubic") for s in ((18, 20), (5, 13), (4, 3), (1, 1))
      for a in ({}, {"align_corners": True}, {"antialias": True})),
    *({"mode": m, "scale_factor": s} for m in ("nearest", "nearest-exact", "bilinear", "bicubic") for s in (2, 2.5, (0.7, 1.3))),
    *({"mode": m, "size": s} for m in ("nearest", "nearest-exact", "area") for s in ((18, 20), (5, 13), (4, 3))),
    {"mode": "bilinear", "scale_factor": 1.7, "recompute_scale_factor": True}, {"mode": "area", "scale_factor": 0.5},
    {"mode": "bilinear", "scale_factor": (0.7, 1.3), "antialias": True},
]  # fmt: skip


@pytest.mark.parametrize("arguments", RESIZES, ids=str)
def test_interpolate(arguments: dict[str, Any]) -> None:
    agree(Function(lambda x: F.interpolate(x, **arguments)), [X])


@pytest.mark.parametrize("mode", ["nearest", "nearest-exact", "linear"])
@pytest.mark.parametrize("extent", [{"size": 7}, {"scale_factor": 2}, {"scale_factor": 1.3}], ids=str)
def test_interpolate_lines(mode: str, extent: dict[str, Any]) -> None:
    agree(Function(lambda x: F.interpolate(x, mode=mode, **extent)), [(2, 3, 11)])
    if mode == "linear":
        agree(Function(lambda x: F.interpolate(x, mode=mode, align_corners=True, **extent)), [(2, 3, 11)])


@pytest.mark.parametrize("mode", ["nearest", "nearest-exact", "trilinear"])
def test_interpolate_volumes(mode: str) -> None:
    agree(Function(lambda x: F.interpolate(x, mode=mode, size=(4, 9, 5))), [(1, 2, 3, 6, 7)])
    agree(Function(lambda x: F.interpolate(x, mode=mode, scale_factor=(2, 1.5, 1))), [(1, 2, 3, 6, 7)])


SHAPES = {
    "view": lambda x: x.view(2, -1), "flatten": lambda x: x.flatten(2), "unflatten": lambda x: x.unflatten(1, (2, 2)), "permute": lambda x: x.permute(0, 2, 3, -3),
    "transpose": lambda x: x.transpose(1, -1), "mT": lambda x: x.mT, "movedim": lambda x: x.movedim((0, 1), (-1, 0)), "squeeze": lambda x: x[:1].squeeze(0).unsqueeze(-1),
    "expand": lambda x: x[:, :1].expand(-1, 3, -1, -1), "expand_new": lambda x: x[0, 0].expand(3, 9, 10), "repeat": lambda x: x.repeat(1, 2, 3, 1), "tile": lambda x: x.tile((2, 1)),
    "repeat_new": lambda x: x[0, 0].repeat(2, 1, 1), "repeat_interleave": lambda x: x.repeat_interleave(3, 1), "repeat_interleave_flat": lambda x: x.repeat_interleave(2),
    "cat": lambda x: torch.cat([x, x[:, :1]], 1), "cat_mixed": lambda x: torch.cat([x > 0, x], -1), "stack": lambda x: torch.stack([x, x + 1], -1), "hstack": lambda x: torch.hstack([x, x]),
    "chunk": lambda x: x.chunk(3, 3), "split": lambda x: x.split([1, 3], 1), "split_size": lambda x: torch.split(x, 4, -1), "unbind": lambda x: x.unbind(1), "tensor_split": lambda x: x.tensor_split(4, 2),
    "slice_negative": lambda x: x[:, -3:-1, 1:], "slice_step": lambda x: x[..., 1::3], "slice_far": lambda x: x[:, 1:100], "select": lambda x: x[:, -1], "narrow": lambda x: x.narrow(2, 1, 5),
    "ellipsis": lambda x: x[..., None, 2], "flip": lambda x: x.flip(-1, 1), "rot90": lambda x: torch.rot90(x, 1, (2, 3)), "rot180": lambda x: torch.rot90(x, 2, (2, 3)), "rot270": lambda x: torch.rot90(x, 3, (2, 3)),
    "roll": lambda x: torch.roll(x, (1, -2), (2, 3)), "roll_flat": lambda x: torch.roll(x, 3), "pad": lambda x: F.pad(x, (1, 2, 0, 3)), "pad_value": lambda x: F.pad(x, (1, 0), value=0.5), "pad_channels": lambda x: F.pad(x, (0, 0, 0, 0, 1, 2)),
    "pad_negative": lambda x: F.pad(x, (-1, 2, 1, -3)), "pad_reflect": lambda x: F.pad(x, (1, 2, 3, 0), mode="reflect"), "pad_replicate": lambda x: F.pad(x, (1, 2, 3, 0), mode="replicate"), "pad_circular": lambda x: F.pad(x, (1, 2, 3, 0), mode="circular"),
    "pad_reflect_line": lambda x: F.pad(x[0], (1, 2), mode="reflect"), "pixel_shuffle": lambda x: F.pixel_shuffle(x, 2), "pixel_shuffle_5d": lambda x: F.pixel_shuffle(x[None], 2), "pixel_unshuffle": lambda x: F.pixel_unshuffle(x[..., :8, :], 2), "channel_shuffle": lambda x: F.channel_shuffle(x, 2),
    "unfold": lambda x: F.unfold(x, (2, 3), (2, 1), (1, 0), (1, 2)), "fold": lambda x: F.fold(F.unfold(x, 3, padding=1, stride=2), (9, 10), 3, padding=1, stride=2), "tensor_unfold": lambda x: x.unfold(2, 3, 2).unfold(3, 2, 2),
    "tril": lambda x: x.tril(1), "triu": lambda x: x.triu(-1), "triu_bool": lambda x: (x > 0).triu(), "diagonal": lambda x: x.diagonal(1, 2, 3), "diag_embed": lambda x: torch.diag_embed(x[0, 0]), "broadcast_tensors": lambda x: torch.broadcast_tensors(x, x[:1, :1]),
    "meshgrid": lambda x: torch.meshgrid(x[0, 0, 0], x[0, 0, :, 0], indexing="xy"), "like": lambda x: torch.zeros_like(x) + torch.ones_like(x) + torch.full_like(x, 0.5) + x.new_zeros(10) + x.new_full((9, 1), 2.0), "arange": lambda x: x + torch.arange(10) * torch.linspace(0, 1, 10),
    "window_partition": lambda x: x[..., :8, :8].reshape(2, 4, 2, 4, 2, 4).permute(0, 2, 4, 3, 5, 1).reshape(-1, 16, 4), "einops": lambda x: x.view(2, 2, 2, 9, 10).transpose(1, 2).flatten(1, 2),
}  # fmt: skip


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


INDEXING = {
    "list": lambda x: x[:, [2, 0, -1]], "two": lambda x: x[:, [0, 1], [2, 3]], "apart": lambda x: x[:, [0, 1], :, [2, 3]], "grid": lambda x: x[:, :, torch.tensor([[0], [2]]), torch.tensor([1, 3])],
    "index_select": lambda x: x.index_select(-1, torch.tensor([3, 1])), "take": lambda x: x.take(torch.tensor([[3, -1]])), "gather": lambda x: x.gather(1, x[:, :2].argmax(1, keepdim=True)),
    "gather_constant": lambda x: torch.gather(x, 3, torch.tensor([2, 0]).expand(2, 4, 9, 2)), "computed": lambda x: x[:, x[0, :, 0, 0].argsort()], "computed_two": lambda x: x[0, 0][x[0, 0, 0].argsort()[:3].clamp(max=8), x[1, 0, 0].argsort()[:3]],
    "put": _put, "views_see_changes": _views_see_changes, "index_put": lambda x: x.index_put((torch.tensor([0, 1]), torch.tensor([2, 3])), torch.tensor(0.5)), "index_put_add": lambda x: x.index_put((torch.tensor([1]),), x[0], accumulate=True),
    "mask_put": lambda x: torch.where(x > 0, x, x).masked_fill_(x > 1, 0.0), "bool_put": lambda x: x.clone().index_put_((x > 0,), torch.tensor(0.25)), "slice_scatter": lambda x: x.slice_scatter(x[:, :2] * 2, 1, 0, 4, 2), "select_scatter": lambda x: x.select_scatter(x[:, 0] * 2, 1, -1),
    "diagonal_scatter": lambda x: x[0, 0, :, :9].diagonal_scatter(torch.zeros(9)), "scatter": lambda x: x.scatter(1, torch.zeros(2, 1, 9, 10, dtype=torch.int64), 0.5), "scatter_source": lambda x: x.scatter(3, torch.tensor([1, 4]).expand(2, 4, 9, 2), x[..., 5:]),
    "index_fill": lambda x: x.index_fill(1, torch.tensor([0, 3]), 0.5), "index_copy": lambda x: x.index_copy(1, torch.tensor([3, 0]), x[:, 1:3]), "copy": lambda x: (x * 1).copy_(x[:1]), "zero": lambda x: (x * 1).zero_() + x.clone().fill_(0.5), "embedding": lambda x: F.embedding(x[0, 0].argmax(-1), x[1, 0, :, :].repeat(2, 1)),
}  # fmt: skip


@pytest.mark.parametrize("name", INDEXING)
def test_indexing_and_writing(name: str) -> None:
    agree(Function(INDEXING[name]), [X])


REDUCTIONS = {
    "sum": lambda x: x.sum(), "sum_dims": lambda x: x.sum((1, -1)), "mean": lambda x: x.mean((2, 3), keepdim=True), "prod": lambda x: x.prod(2), "amax": lambda x: x.amax((1, 2)), "amin": lambda x: x.amin(-1, keepdim=True), "max": lambda x: x.max(), "max_dim": lambda x: x.max(1), "min_dim": lambda x: x.min(-1, keepdim=True),
    "any": lambda x: (x > 1).any(1), "all": lambda x: (x > -1).all(-1), "argmax": lambda x: x.argmax(1), "argmax_all": lambda x: x.argmax(), "argmin": lambda x: x.argmin(-1, keepdim=True), "aminmax": lambda x: torch.aminmax(x, dim=1), "cumsum": lambda x: x.cumsum(1), "topk": lambda x: x.topk(3), "topk_dim": lambda x: x.topk(2, 1, largest=False),
    "sort": lambda x: x.sort(-1), "sort_down": lambda x: x.sort(2, descending=True), "argsort": lambda x: x.argsort(1), "kthvalue": lambda x: x.kthvalue(2, 1).values, "median": lambda x: x.median(-1).values, "norm": lambda x: x.norm(dim=1), "norm_all": lambda x: x.norm(), "norm1": lambda x: torch.linalg.vector_norm(x, 1, -1),
    "norm_inf": lambda x: torch.linalg.norm(x[0, 0, 0], float("inf")), "norm3": lambda x: torch.linalg.vector_norm(x, 3, (1, 2), True), "normalize": lambda x: F.normalize(x, dim=1), "normalize1": lambda x: F.normalize(x, p=1, dim=-1), "fro": lambda x: torch.linalg.norm(x, dim=(2, 3)), "matrix_norm": lambda x: torch.linalg.matrix_norm(x),
    "var": lambda x: x.var(), "var_dim": lambda x: x.var(1), "var_biased": lambda x: x.var((2, 3), unbiased=False, keepdim=True), "std": lambda x: x.std(-1), "std_correction": lambda x: torch.std(x, 1, correction=2), "var_mean": lambda x: torch.var_mean(x, (1, 2)), "std_mean": lambda x: torch.std_mean(x, -1, keepdim=True), "logsumexp": lambda x: x.logsumexp((1, 2)),
    "count_nonzero": lambda x: (x > 0).count_nonzero(1), "mean_dtype": lambda x: (x > 0).sum(1, dtype=torch.float32),
}  # fmt: skip


@pytest.mark.parametrize("name", REDUCTIONS)
def test_reductions(name: str) -> None:
    agree(Function(REDUCTIONS[name]), [X], rtol=_tolerance(name))


NORMS = {
    "batch": (nn.BatchNorm2d(4), X), "batch_line": (nn.BatchNorm1d(5), T), "batch_flat": (nn.BatchNorm1d(5), (3, 5)), "batch_plain": (nn.BatchNorm2d(4, affine=False, eps=0.5), X), "batch_no_statistics": (nn.BatchNorm2d(4, track_running_stats=False), X),
    "group": (nn.GroupNorm(2, 4, eps=0.25), X), "group_plain": (nn.GroupNorm(4, 4, affine=False), X), "group_tokens": (nn.GroupNorm(1, 5), T), "instance": (nn.InstanceNorm2d(4), X), "instance_affine": (nn.InstanceNorm2d(4, affine=True), X), "instance_tracked": (nn.InstanceNorm2d(4, affine=True, track_running_stats=True), X), "instance_line": (nn.InstanceNorm1d(5), T),
    "layer": (nn.LayerNorm(6), T), "layer_two": (nn.LayerNorm((5, 6), eps=0.25), T), "layer_plain": (nn.LayerNorm(6, elementwise_affine=False), T), "layer_no_bias": (nn.LayerNorm(6, bias=False), T), "rms": (nn.RMSNorm(6, eps=0.25), T), "local": (nn.LocalResponseNorm(3, k=2.0), X),
}  # fmt: skip


@pytest.mark.parametrize("name", NORMS)
def test_normalisations(name: str) -> None:
    torch.manual_seed(0)
    module, shape = NORMS[name]
    for tensor in (*module.parameters(), *module.buffers()):
        if tensor.is_floating_point():
            tensor.data.uniform_(0.5, 1.5)
    agree(module, [shape], rtol=_tolerance(name))


def test_rms_norm_without_epsilon_takes_the_machine_epsilon_of_its_dtype() -> None:
    # float64 has another epsilon than float32: the two agree only as far as these differ
    agree(nn.RMSNorm(6), [T], rtol=1e-6)


MATRICES = {
    "matmul": lambda x, y: x @ y.transpose(1, 2), "matmul_vector": lambda x, y: x @ y[0, 0], "vector_matmul": lambda x, y: x[0, 0] @ y[0].T, "vector_batch": lambda x, y: x[0, 0] @ y.transpose(1, 2), "dot": lambda x, y: torch.dot(x[0, 0], y[0, 0]), "broadcast": lambda x, y: x[:, None] @ y[:1].mT, "mm": lambda x, y: torch.mm(x[0], y[0].T), "bmm": lambda x, y: torch.bmm(x, y.mT), "mv": lambda x, y: torch.mv(x[0], y[0, 0]),
    "addmm": lambda x, y: torch.addmm(x[0, :, :5], x[0], y[0].T, beta=0.5, alpha=2), "baddbmm": lambda x, y: torch.baddbmm(x[..., :5], x, y.mT, beta=0, alpha=0.5), "outer": lambda x, y: torch.outer(x[0, 0], y[0, 0]), "linear_functional": lambda x, y: F.linear(x, y[0], y[0, :, 0]), "linear_vector": lambda x, y: F.linear(x[0, 0], y[0]),
    "tensordot": lambda x, y: torch.tensordot(x, y, dims=([2], [2])), "kron": lambda x, y: torch.kron(x[0, :2, :2].contiguous(), y[0, :2, :2].contiguous()), "inner": lambda x, y: torch.inner(x[0, 0], y[0, 0]), "chain": lambda x, y: torch.linalg.multi_dot([x[0], y[0].T, x[1]]),
}  # fmt: skip


@pytest.mark.parametrize("name", MATRICES)
def test_matrix_products(name: str) -> None:
    agree(Function(MATRICES[name]), [T, T])


@pytest.mark.parametrize("shape", [(6,), (3, 6), (2, 3, 6), (2, 2, 3, 6)], ids=str)
def test_linear_takes_any_rank(shape: tuple[int, ...]) -> None:
    agree(nn.Sequential(nn.Linear(6, 4), nn.Linear(4, 3, bias=False)), [shape])


EINSUMS = {
    "bij,bkj->bik": (T, T), "bij,bij->b": (T, T), "bij,bij->": (T, T), "bij,bkl->bijkl": (T, T), "ij,jk": ((3, 4), (4, 5)), "bhid,bhjd->bhij": ((2, 3, 4, 5), (2, 3, 6, 5)), "bhij,bhjd->bhid": ((2, 3, 4, 6), (2, 3, 6, 5)), "nchw,cd->ndhw": (X, (4, 3)), "...ij,...jk->...ik": ((2, 3, 4), (4, 5)), "...c,dc->...d": (T, (3, 6)),
    "bij->bji": (T,), "bij->b": (T,), "ijk": (T,), "bij,b,bj->ij": (T, (2,), (2, 6)), "a,b->ab": ((3,), (4,)), "bhwqc,hkc->bhwqk": ((2, 3, 4, 4, 5), (3, 6, 5)), "b...c,b...c->b...": (T, T), "bij , bjk -> bk": ((2, 3, 4), (2, 4, 5)), "bct,bcs->bts": ((2, 3, 4), (2, 3, 5)),
}  # fmt: skip


@pytest.mark.parametrize("equation", EINSUMS)
def test_einsum(equation: str) -> None:
    agree(Function(lambda *tensors: torch.einsum(equation, *tensors)), list(EINSUMS[equation]))


ATTENTION: dict[str, dict[str, Any]] = {
    "plain": {}, "causal": {"is_causal": True}, "scale": {"scale": 0.25}, "bool_mask": {"attn_mask": torch.ones(5, 7, dtype=torch.bool).tril(2)}, "float_mask": {"attn_mask": torch.linspace(-1, 1, 35).reshape(5, 7)},
    "head_mask": {"attn_mask": torch.linspace(-1, 1, 140).reshape(4, 5, 7)}, "inf_mask": {"attn_mask": torch.zeros(5, 7).masked_fill(torch.ones(5, 7).triu(3) > 0, float("-inf"))},
}  # fmt: skip


@pytest.mark.parametrize("name", ATTENTION)
def test_scaled_dot_product_attention(name: str) -> None:
    shapes = [(2, 4, 5, 8), (2, 4, 7, 8), (2, 4, 7, 6)]
    agree(Function(lambda q, k, v: F.scaled_dot_product_attention(q, k, v, **ATTENTION[name])), shapes, rtol=_tolerance(name))


def test_grouped_query_attention_repeats_heads() -> None:
    shapes = [(2, 4, 5, 8), (2, 2, 7, 8), (2, 2, 7, 8)]
    agree(Function(lambda q, k, v: F.scaled_dot_product_attention(q, k, v, enable_gqa=True)), shapes, rtol=1e-6)


def test_multihead_attention_and_transformer_layers() -> None:
    agree(Function(nn.MultiheadAttention(6, 2, batch_first=True)), [T, T, T], rtol=1e-6)
    torch.backends.mha.set_fastpath_enabled(False)  # its fused kernel rounds in another order than the layers do
    agree(nn.TransformerEncoderLayer(6, 2, 8, batch_first=True), [T], rtol=1e-6)
    agree(nn.TransformerDecoderLayer(6, 2, 8, batch_first=True, norm_first=True), [T, T], rtol=1e-6)


RECURRENT = [
    (kind, {"num_layers": layers, "bidirectional": both, "batch_first": first, "bias": bias})
    for kind, layers, both, first, bias in (
        (nn.LSTM, 1, False, False, True), (nn.LSTM, 2, True, True, True), (nn.LSTM, 1, True, True, False),
        (nn.GRU, 1, False, True, True), (nn.GRU, 2, True, False, True), (nn.RNN, 2, True, True, True), (nn.RNN, 1, False, True, False),
    )
]  # fmt: skip


@pytest.mark.parametrize(("kind", "arguments"), RECURRENT, ids=lambda v: str(getattr(v, "__name__", v)))
def test_recurrent_layers_unroll(kind: Any, arguments: dict[str, Any]) -> None:
    agree(kind(6, 3, **arguments), [T])


def test_recurrent_layers_take_states_and_single_sequences() -> None:
    agree(nn.GRU(6, 3), [(5, 6)])
    agree(nn.RNN(6, 3, nonlinearity="relu"), [T])
    lstm, cell, gru = nn.LSTM(6, 3), nn.LSTMCell(6, 3), nn.GRUCell(6, 3)

    class Steps(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm, self.cell, self.gru = lstm, cell, gru

        def forward(self, x: torch.Tensor, h: torch.Tensor) -> Any:
            y, state = self.lstm(x, (h, h * 2))
            return y, state, self.cell(x[0], (h[0], h[0])), self.gru(x[0], h[0])

    agree(Steps(), [T, (1, 5, 3)])


@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("corners", [False, True])
def test_grid_sample(mode: str, padding: str, corners: bool) -> None:
    def warp(x: torch.Tensor, g: torch.Tensor) -> torch.Tensor:
        return F.grid_sample(x, g, mode, padding, corners)

    agree(Function(warp), [X, (2, 5, 6, 2)])


@pytest.mark.parametrize("corners", [False, True])
def test_affine_grid_follows_theta(corners: bool) -> None:
    agree(Function(lambda t: F.affine_grid(t, [2, 3, 4, 5], align_corners=corners)), [(2, 2, 3)], rtol=1e-6)


def test_weight_norm_and_standardised_weights_come_from_parameters_alone() -> None:
    class Standardised(nn.Conv2d):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            w = F.batch_norm(self.weight.reshape(1, self.out_channels, -1), None, None, training=True)
            return F.conv2d(x, w.reshape_as(self.weight), self.bias)

    agree(nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 6, 3)), [X])
    agree(Standardised(4, 6, 3), [X])


def test_parameter_only_operators_without_a_handler_are_evaluated_by_torch() -> None:
    captured = agree(Function(lambda x, w: x @ torch.linalg.inv(w @ w.T + torch.eye(6)), torch.rand(6, 6)), [T], rtol=1e-6)
    assert [n.op.name for n in captured.graph.nodes][-1] == "MatMul"
