"""Layers mean in numpy what PyTorch computes: convolutions, pools, resizing, norms, attention, recurrence, sampling."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn as nn
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from capture_helpers import Function, agree, tolerance
from instep.capture import capture
from instep.graph import ops

torch.set_num_threads(1)
X = (2, 4, 9, 10)  # an ordinary image batch
T = (2, 5, 6)  # tokens


CONVOLUTIONS = {
    "plain": (nn.Conv2d(4, 6, 3), X),
    "strided": (nn.Conv2d(4, 6, (3, 5), (2, 1), (1, 2), bias=False), X),
    "dilated": (nn.Conv2d(4, 6, 3, dilation=(2, 1), padding=2), X),
    "grouped": (nn.Conv2d(4, 6, 3, groups=2), X),
    "depthwise": (nn.Conv2d(4, 8, 3, groups=4, padding="same"), X),
    "same_even": (nn.Conv2d(4, 6, (4, 2), padding="same"), X),
    "same_dilated": (nn.Conv2d(4, 6, (4, 3), padding="same", dilation=(3, 2)), X),
    "valid": (nn.Conv2d(4, 6, 3, padding="valid"), X),
    "reflect": (nn.Conv2d(4, 6, 3, padding=1, padding_mode="reflect"), X),
    "circular": (nn.Conv2d(4, 6, 3, padding=(1, 2), padding_mode="circular"), X),
    "replicate": (nn.Conv2d(4, 6, 3, padding=1, padding_mode="replicate"), X),
    "unbatched": (nn.Conv2d(4, 6, 3), (4, 8, 8)),
    "line": (nn.Conv1d(4, 6, 3, 2, 1, groups=2), (2, 4, 11)),
    "line_same": (nn.Conv1d(4, 6, 4, padding="same", dilation=2), (2, 4, 11)),
    "volume": (nn.Conv3d(4, 6, (2, 3, 3), (1, 2, 1), (0, 1, 1), (2, 1, 1), 2), (1, 4, 6, 7, 8)),
    "up": (nn.ConvTranspose2d(4, 6, 3, 2), X),
    "up_output_padding": (nn.ConvTranspose2d(4, 6, (3, 4), (3, 2), (1, 2), (2, 1)), X),
    "up_grouped": (nn.ConvTranspose2d(4, 6, 3, 2, 1, 1, groups=2, dilation=2, bias=False), X),
    "up_line": (nn.ConvTranspose1d(4, 6, 4, 2, 1, 1), (2, 4, 7)),
    "up_volume": (nn.ConvTranspose3d(4, 6, (2, 3, 3), (2, 1, 2), (0, 1, 1), (1, 0, 1), 2), (1, 4, 3, 4, 5)),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolutions(name: str) -> None:
    agree(CONVOLUTIONS[name][0], [CONVOLUTIONS[name][1]])


POOLS = {
    "max": (nn.MaxPool2d(3, 2, 1), X),
    "max_ceil": (nn.MaxPool2d(3, 2, ceil_mode=True), X),
    "max_ceil_pad": (nn.MaxPool2d((2, 4), (3, 3), (1, 2), ceil_mode=True), X),
    "max_dilated": (nn.MaxPool2d(3, 1, 1, 2), X),
    "max_default_stride": (nn.MaxPool2d(2), X),
    "max_line": (nn.MaxPool1d(3, 2, 1, ceil_mode=True), (2, 4, 10)),
    "max_volume": (nn.MaxPool3d((2, 3, 2), (1, 2, 2), (1, 1, 0), ceil_mode=True), (1, 3, 5, 6, 7)),
    "avg": (nn.AvgPool2d(3, 2, 1), X),
    "avg_exclude": (nn.AvgPool2d(3, 2, 1, count_include_pad=False), X),
    "avg_ceil": (nn.AvgPool2d(3, 2, 1, ceil_mode=True), X),
    "avg_ceil_exclude": (nn.AvgPool2d((2, 4), (3, 3), (1, 2), ceil_mode=True, count_include_pad=False), X),
    "avg_divisor": (nn.AvgPool2d(3, 2, 1, divisor_override=5), X),
    "avg_divisor_ceil": (nn.AvgPool2d(3, 2, 0, ceil_mode=True, divisor_override=4), X),
    "avg_line": (nn.AvgPool1d(3, 2, 1, ceil_mode=True), (2, 4, 10)),
    "avg_line_exclude": (nn.AvgPool1d(3, 2, 1, count_include_pad=False), (2, 4, 10)),
    "avg_volume": (
        nn.AvgPool3d((2, 3, 2), (1, 2, 2), (1, 1, 0), ceil_mode=True, count_include_pad=False),
        (1, 3, 5, 6, 7),
    ),
    "avg_volume_divisor": (nn.AvgPool3d(2, 2, 1, divisor_override=3), (1, 3, 5, 6, 7)),
    "adaptive_one": (nn.AdaptiveAvgPool2d(1), X),
    "adaptive_odd": (nn.AdaptiveAvgPool2d((4, 3)), X),
    "adaptive_none": (nn.AdaptiveAvgPool2d((None, 3)), X),
    "adaptive_more": (nn.AdaptiveAvgPool2d((13, 11)), X),
    "adaptive_max": (nn.AdaptiveMaxPool2d((4, 3)), X),
    "adaptive_max_one": (nn.AdaptiveMaxPool2d(1), X),
    "adaptive_line": (nn.AdaptiveAvgPool1d(4), (2, 4, 10)),
    "adaptive_max_line": (nn.AdaptiveMaxPool1d(4), (2, 4, 10)),
    "adaptive_volume": (nn.AdaptiveAvgPool3d((2, 3, 4)), (1, 3, 5, 6, 7)),
    "adaptive_max_volume": (nn.AdaptiveMaxPool3d((2, 3, 4)), (1, 3, 5, 6, 7)),
    "lp": (nn.LPPool2d(2, 2), X),
    "unbatched": (nn.MaxPool2d(2), (4, 8, 8)),
}


@pytest.mark.parametrize("name", POOLS)
def test_pools(name: str) -> None:
    agree(POOLS[name][0], [POOLS[name][1]], rtol=tolerance(name))


RESIZES: list[dict[str, Any]] = [
    *(
        {"mode": m, "size": s, **a}
        for m in ("bilinear", "bicubic")
        for s in ((18, 20), (5, 13), (4, 3), (1, 1))
        for a in ({}, {"align_corners": True}, {"antialias": True})
    ),
    *(
        {"mode": m, "scale_factor": s}
        for m in ("nearest", "nearest-exact", "bilinear", "bicubic")
        for s in (2, 2.5, (0.7, 1.3))
    ),
    *({"mode": m, "size": s} for m in ("nearest", "nearest-exact", "area") for s in ((18, 20), (5, 13), (4, 3))),
    {"mode": "bilinear", "scale_factor": 1.7, "recompute_scale_factor": True},
    {"mode": "area", "scale_factor": 0.5},
    {"mode": "bilinear", "scale_factor": (0.7, 1.3), "antialias": True},
]


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


NORMS = {
    "batch": (nn.BatchNorm2d(4), X),
    "batch_line": (nn.BatchNorm1d(5), T),
    "batch_flat": (nn.BatchNorm1d(5), (3, 5)),
    "batch_plain": (nn.BatchNorm2d(4, affine=False, eps=0.5), X),
    "batch_no_statistics": (nn.BatchNorm2d(4, track_running_stats=False), X),
    "group": (nn.GroupNorm(2, 4, eps=0.25), X),
    "group_plain": (nn.GroupNorm(4, 4, affine=False), X),
    "group_tokens": (nn.GroupNorm(1, 5), T),
    "instance": (nn.InstanceNorm2d(4), X),
    "instance_affine": (nn.InstanceNorm2d(4, affine=True), X),
    "instance_tracked": (nn.InstanceNorm2d(4, affine=True, track_running_stats=True), X),
    "instance_line": (nn.InstanceNorm1d(5), T),
    "layer": (nn.LayerNorm(6), T),
    "layer_two": (nn.LayerNorm((5, 6), eps=0.25), T),
    "layer_plain": (nn.LayerNorm(6, elementwise_affine=False), T),
    "layer_no_bias": (nn.LayerNorm(6, bias=False), T),
    "rms": (nn.RMSNorm(6, eps=0.25), T),
    "local": (nn.LocalResponseNorm(3, k=2.0), X),
}


@pytest.mark.parametrize("name", NORMS)
def test_normalisations(name: str) -> None:
    torch.manual_seed(0)
    module, shape = NORMS[name]
    for tensor in (*module.parameters(), *module.buffers()):
        if tensor.is_floating_point():
            tensor.data.uniform_(0.5, 1.5)
    agree(module, [shape], rtol=tolerance(name))


def test_rms_norm_without_epsilon_takes_the_machine_epsilon_of_its_dtype() -> None:
    # float64 has another epsilon than float32: the two agree only as far as these differ
    agree(nn.RMSNorm(6), [T], rtol=1e-6)


ATTENTION: dict[str, dict[str, Any]] = {
    "plain": {},
    "causal": {"is_causal": True},
    "scale": {"scale": 0.25},
    "bool_mask": {"attn_mask": torch.ones(5, 7, dtype=torch.bool).tril(2)},
    "float_mask": {"attn_mask": torch.linspace(-1, 1, 35).reshape(5, 7)},
    "head_mask": {"attn_mask": torch.linspace(-1, 1, 140).reshape(4, 5, 7)},
    "inf_mask": {"attn_mask": torch.zeros(5, 7).masked_fill(torch.ones(5, 7).triu(3) > 0, float("-inf"))},
}


@pytest.mark.parametrize("name", ATTENTION)
def test_scaled_dot_product_attention(name: str) -> None:
    shapes = [(2, 4, 5, 8), (2, 4, 7, 8), (2, 4, 7, 6)]
    agree(
        Function(lambda q, k, v: F.scaled_dot_product_attention(q, k, v, **ATTENTION[name])),
        shapes,
        rtol=tolerance(name),
    )


def test_grouped_query_attention_repeats_heads() -> None:
    shapes = [(2, 4, 5, 8), (2, 2, 7, 8), (2, 2, 7, 8)]
    agree(Function(lambda q, k, v: F.scaled_dot_product_attention(q, k, v, enable_gqa=True)), shapes, rtol=1e-6)


def test_multihead_attention_and_transformer_layers() -> None:
    torch.backends.mha.set_fastpath_enabled(False)  # its fused kernel rounds in another order than the layers do
    agree(Function(nn.MultiheadAttention(6, 2, batch_first=True)), [T, T, T], rtol=1e-6)
    agree(nn.TransformerEncoderLayer(6, 2, 8, batch_first=True), [T], rtol=1e-6)
    agree(nn.TransformerDecoderLayer(6, 2, 8, batch_first=True, norm_first=True), [T, T], rtol=1e-6)


RECURRENT = [
    (kind, {"num_layers": layers, "bidirectional": both, "batch_first": first, "bias": bias})
    for kind, layers, both, first, bias in (
        (nn.LSTM, 1, False, False, True),
        (nn.LSTM, 2, True, True, True),
        (nn.LSTM, 1, True, True, False),
        (nn.GRU, 1, False, True, True),
        (nn.GRU, 2, True, False, True),
        (nn.RNN, 2, True, True, True),
        (nn.RNN, 1, False, True, False),
    )
]


@pytest.mark.parametrize(("kind", "arguments"), RECURRENT, ids=lambda v: str(getattr(v, "__name__", v)))
def test_recurrent_layers_unroll(kind: Any, arguments: dict[str, Any]) -> None:
    agree(kind(6, 3, **arguments), [T])


def test_projected_lstm_unrolls() -> None:
    agree(nn.LSTM(6, 4, 2, bidirectional=True, proj_size=3), [T])
    agree(nn.LSTM(6, 4, bias=False, proj_size=3, batch_first=True), [T])


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


@pytest.mark.parametrize("mode", ["bilinear", "nearest", "bicubic"])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("corners", [False, True])
def test_grid_sample(mode: str, padding: str, corners: bool) -> None:
    def warp(x: torch.Tensor, g: torch.Tensor) -> torch.Tensor:
        return F.grid_sample(x, g, mode, padding, corners)

    agree(Function(warp), [X, (2, 5, 6, 2)])
    agree(Function(warp), [(2, 4, 1, 7), (2, 5, 6, 2)])


@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("corners", [False, True])
def test_grid_sample_of_volumes(mode: str, padding: str, corners: bool) -> None:
    def warp(x: torch.Tensor, g: torch.Tensor) -> torch.Tensor:
        return F.grid_sample(x, g, mode, padding, corners)

    agree(Function(warp), [(2, 3, 4, 5, 6), (2, 2, 3, 4, 3)])


@pytest.mark.parametrize("corners", [False, True])
def test_affine_grid_follows_theta(corners: bool) -> None:
    agree(Function(lambda t: F.affine_grid(t, [2, 3, 4, 5], align_corners=corners)), [(2, 2, 3)], rtol=1e-6)
    agree(Function(lambda t: F.affine_grid(t, [2, 3, 4, 5, 6], align_corners=corners)), [(2, 3, 4)], rtol=1e-6)


def test_weight_norm_and_standardised_weights_come_from_parameters_alone() -> None:
    class Standardised(nn.Conv2d):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            w = F.batch_norm(self.weight.reshape(1, self.out_channels, -1), None, None, training=True)
            return F.conv2d(x, w.reshape_as(self.weight), self.bias)

    agree(nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 6, 3)), [X])
    agree(nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 6, 3), dim=None), [X])  # pyright: ignore[reportArgumentType]
    agree(Standardised(4, 6, 3), [X])


def test_parameter_only_operators_without_a_handler_are_evaluated_by_torch() -> None:
    captured = agree(
        Function(lambda x, w: x @ torch.linalg.inv(w @ w.T + torch.eye(6)), torch.rand(6, 6)), [T], rtol=1e-6
    )
    assert [n.op.name for n in captured.graph.nodes][-1] == "MatMul"


def test_norms_of_weights_are_captured() -> None:
    agree(nn.utils.parametrizations.spectral_norm(nn.Conv2d(4, 6, 3)), [X], rtol=1e-6)
    agree(nn.utils.spectral_norm(nn.Linear(6, 4)), [T], rtol=1e-6)
    agree(nn.utils.weight_norm(nn.Conv2d(4, 6, 3)), [X], rtol=1e-6)


def test_einops_patterns() -> None:
    einops = pytest.importorskip("einops")

    def windows(x: torch.Tensor) -> torch.Tensor:
        y = einops.rearrange(x[..., :8, :8], "b c (h p) (w q) -> (b h w) (p q) c", p=4, q=4)
        y = einops.repeat(einops.reduce(y, "n t c -> n c", "mean"), "n c -> n t c", t=16) + y
        return einops.rearrange(y, "(b h w) (p q) c -> b c (h p) (w q)", h=2, w=2, p=4)

    agree(Function(windows), [X])


def test_max_unpool_puts_values_back_to_the_first_maximum() -> None:
    def unpool(x: torch.Tensor) -> torch.Tensor:
        # relu makes ties: windows of zeros have their maximum four times
        y, places = F.max_pool2d(x.relu(), 2, return_indices=True)
        return F.max_unpool2d(y + 1, places, 2)

    agree(Function(unpool), [(2, 3, 6, 8)])


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.data())
def test_convolutions_of_any_attributes(data: st.DataObject) -> None:
    def pair(low: int, high: int) -> tuple[int, int]:
        return data.draw(st.tuples(st.integers(low, high), st.integers(low, high)))

    groups, kernel, stride, dilation = data.draw(st.sampled_from((1, 2, 4))), pair(1, 4), pair(1, 3), pair(1, 2)
    padding, bias = pair(0, 3), data.draw(st.booleans())
    agree(nn.Conv2d(4, 8, kernel, stride, padding, dilation, groups, bias), [(2, 4, 9, 11)])
    extra = tuple(data.draw(st.integers(0, max(s, d) - 1)) for s, d in zip(stride, dilation, strict=True))
    agree(nn.ConvTranspose2d(4, 8, kernel, stride, pair(0, 1), extra, groups, bias, dilation), [(2, 4, 5, 6)])  # type: ignore[arg-type]


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.data())
def test_pools_of_any_attributes(data: st.DataObject) -> None:
    def pair(low: int, high: int) -> tuple[int, int]:
        return data.draw(st.tuples(st.integers(low, high), st.integers(low, high)))

    kernel, stride, ceil = pair(2, 4), pair(1, 4), data.draw(st.booleans())
    padding = tuple(data.draw(st.integers(0, k // 2)) for k in kernel)
    agree(nn.MaxPool2d(kernel, stride, padding, pair(1, 2), ceil_mode=ceil), [(1, 2, 11, 12)])  # type: ignore[arg-type]
    counted, divisor = data.draw(st.booleans()), data.draw(st.sampled_from((None, 2, 8)))
    agree(nn.AvgPool2d(kernel, stride, padding, ceil, counted, divisor), [(1, 2, 11, 12)], rtol=1e-6)  # type: ignore[arg-type]
    agree(nn.AdaptiveAvgPool2d(pair(1, 7)), [(1, 2, 7, 5)])
    agree(nn.AdaptiveMaxPool2d(pair(1, 7)), [(1, 2, 7, 5)])


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.sampled_from(("bilinear", "bicubic", "nearest", "nearest-exact", "area")), st.data())
def test_resizes_to_any_size(mode: str, data: st.DataObject) -> None:
    size = data.draw(st.tuples(st.integers(1, 17), st.integers(1, 17)))
    scale = data.draw(st.tuples(st.floats(0.3, 3.0), st.floats(0.3, 3.0)))
    smooth = mode in ("bilinear", "bicubic")
    options: dict[str, Any] = {"antialias": data.draw(st.booleans())} if smooth else {}
    if smooth and not options["antialias"]:
        options["align_corners"] = data.draw(st.booleans())
    # float32 weights of far-off resizes carry its rounding
    agree(Function(lambda x: F.interpolate(x, size, mode=mode, **options)), [(1, 2, 6, 7)], rtol=1e-6)
    agree(Function(lambda x: F.interpolate(x, scale_factor=scale, mode=mode, **options)), [(1, 2, 6, 7)], rtol=1e-6)


@pytest.mark.parametrize("mode", ["bilinear", "bicubic", "nearest", "nearest-exact"])
def test_an_axis_that_keeps_its_size_is_copied_in_some_modes_whatever_its_scale(mode: str) -> None:
    for options in ({}, {"antialias": True}) if mode.startswith("bi") else ({},):
        agree(Function(lambda x, o=options: F.interpolate(x, scale_factor=(2, 1.125), mode=mode, **o)), [(1, 2, 6, 7)])


@pytest.mark.parametrize(
    ("module", "shape", "shared"),
    [
        (nn.Dropout(0.3), (2, 4, 5, 6), ()),
        (nn.Dropout(0.3, inplace=True), (2, 4, 5, 6), ()),
        (nn.Dropout1d(0.3), (2, 4, 5), (2,)),
        (nn.Dropout2d(0.3), (2, 4, 5, 6), (2, 3)),
        (nn.Dropout3d(0.3), (2, 4, 3, 5, 6), (2, 3, 4)),
    ],
)
def test_dropout_is_kept_with_the_axes_of_one_draw(
    module: nn.Module, shape: tuple[int, ...], shared: tuple[int, ...]
) -> None:
    """In training, all elements along the shared axes go together: the mask says which axes those are."""
    torch.manual_seed(0)
    gone = module.train()(torch.ones(shape)) == 0
    assert 0 < gone.sum() < gone.numel()
    whole = gone.float().mean(shared, keepdim=True) if shared else gone.float()
    assert set(whole.unique().tolist()) == {0.0, 1.0}
    graph = capture(nn.Sequential(nn.ReLU(), module).eval(), inputs=[shape]).graph
    assert [n.op for n in graph.nodes] == [ops.Relu(), ops.Dropout(0.3, shared)]


def test_dropout_that_drops_nothing_is_nothing() -> None:
    graph = capture(nn.Sequential(nn.ReLU(), nn.Dropout(0.0)).eval(), inputs=[(2, 3)]).graph
    assert [n.op.name for n in graph.nodes] == ["Relu"]
