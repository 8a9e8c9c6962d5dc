"""Recognition: pixel shuffles, gathers and enlargements spelled as views; activations and norms spelled out."""

from __future__ import annotations

import numpy as np
import pytest

from instep.graph import ops
from instep.rewrite.fold.identities import drop_identities
from instep.rewrite.fold.scales import fold_scales
from instep.rewrite.recognise.activations import recognise_activations
from instep.rewrite.recognise.arithmetic import recognise_arithmetic, recognise_piecewise
from instep.rewrite.recognise.norms import fold_scales_into_norms, recognise_folded_norms, recognise_norms
from instep.rewrite.recognise.views import recognise_focus, recognise_views
from rewriting import Net, apply

UNITS = (1, 1, 1, 1)


def views(net, x, *steps):
    for step in steps:
        x = net(ops.Permute(step[1:]) if step[0] == "p" else ops.Reshape(step), x)
    return x


def test_pixel_shuffle_spelled_in_views():
    net = Net((2, 12, 3, 5))
    y = views(net, net.inputs[0], (2, 3, 2, 2, 3, 5), ("p", 0, 1, 4, 2, 5, 3), (2, 3, 6, 10))
    assert apply(net.out(net(ops.Exp(), y)), recognise_views) == {"DepthToSpace": 1, "Exp": 1}
    net = Net((2, 12, 3, 5))  # the order of TensorFlow
    y = views(net, net.inputs[0], (2, 2, 2, 3, 3, 5), ("p", 0, 3, 4, 1, 5, 2), (2, 3, 6, 10))
    assert apply(net.out(y), recognise_views) == {"DepthToSpace": 1}
    net = Net((1, 3, 5, 12))  # channels last
    y = views(net, net.inputs[0], (1, 3, 5, 2, 2, 3), ("p", 0, 1, 3, 2, 4, 5), (1, 6, 10, 3))
    assert apply(net.out(y), recognise_views) == {"DepthToSpace": 1}
    net = Net((2, 12, 3, 5))  # columns before rows: a pixel shuffle of reordered channels
    y = views(net, net.inputs[0], (2, 3, 2, 2, 3, 5), ("p", 0, 1, 4, 3, 5, 2), (2, 3, 6, 10))
    assert apply(net.out(y), recognise_views) == {"Gather": 1, "DepthToSpace": 1}
    net = Net((1, 12, 3, 5))  # two transposes, no batch axis
    y = views(net, net.inputs[0], (3, 2, 2, 3, 5), ("p", 0, 3, 1, 2, 4), ("p", 0, 1, 2, 4, 3), (1, 3, 6, 10))
    assert apply(net.out(y), recognise_views) == {"DepthToSpace": 1}
    net = Net((1, 3, 5, 12))  # PyTorch's, channels last, within four axes (litert-torch)
    first = views(net, net.inputs[0], ("p", 0, 3, 1, 2), (3, 2, 2, 15), ("p", 0, 1, 3, 2), (3, 2, 3, 10))
    y = views(net, first, ("p", 0, 2, 1, 3), (1, 3, 6, 10), ("p", 0, 2, 3, 1))
    assert apply(net.out(y), recognise_views) == {"DepthToSpace": 1}


def test_unshuffle_spelled_in_views_and_in_slices():
    net = Net((1, 3, 6, 4))
    y = views(net, net.inputs[0], (1, 3, 3, 2, 2, 2), ("p", 0, 1, 3, 5, 2, 4), (1, 12, 3, 2))
    assert apply(net.out(y), recognise_views) == {"SpaceToDepth": 1}
    net = Net((1, 6, 4, 3))
    x = net.inputs[0]
    parts = [net(ops.Slice((0, i, j, 0), (1, 6, 4, 3), (1, 2, 2, 1)), x) for j in (0, 1) for i in (0, 1)]
    assert apply(net.out(net(ops.Concat(3), *parts)), recognise_focus) == {"SpaceToDepth": 1, "Gather": 1}


def test_channel_shuffle_and_repeated_channels_are_gathers():
    net = Net((1, 12, 3, 5))
    y = views(net, net.inputs[0], (1, 3, 4, 3, 5), ("p", 0, 2, 1, 3, 4), (1, 12, 3, 5))
    assert apply(net.out(y), recognise_views) == {"Gather": 1}
    net = Net((1, 3, 2, 5))
    y = net(ops.Expand((1, 3, 4, 2, 5)), net(ops.Reshape((1, 3, 1, 2, 5)), net.inputs[0]))
    assert apply(net.out(net(ops.Reshape((1, 12, 2, 5)), y)), recognise_views) == {"Gather": 1}


@pytest.mark.parametrize("factors", [(3, 3), (2, 3), (4, 2)])
def test_nearest_enlargement_spelled_with_expand(factors):
    net = Net((1, 3, 2, 5))
    down, across = factors
    y = net(ops.Expand((1, 3, 2, down, 5, across)), net(ops.Reshape((1, 3, 2, 1, 5, 1)), net.inputs[0]))
    assert apply(net.out(net(ops.Reshape((1, 3, 2 * down, 5 * across)), y)), recognise_views) == {"Resize2d": 1}


@pytest.mark.parametrize("perm", [(0, 2, 4, 1, 3, 5), (0, 1, 3, 2, 4, 5)])
def test_a_window_partition_is_no_pixel_shuffle(perm):
    net = Net((1, 4, 6, 3))
    y = views(net, net.inputs[0], (1, 2, 2, 3, 2, 3), ("p", *perm), (6, 2, 2, 3) if perm[2] == 3 else (1, 4, 6, 3))
    if y.shape == (1, 4, 6, 3):
        y = net(ops.Exp(), y)
    assert "DepthToSpace" not in apply(net.out(y), recognise_views, drop_identities)


def spell(name, net, x):
    """The activations as people write them."""
    c = np.array
    match name:
        case "silu":
            return net(ops.Mul(), net(ops.Sigmoid(), x), x)
        case "softplus":
            return net(ops.Log(), net(ops.Add(), c(1.0), net(ops.Exp(), x)))
        case "mish":
            return net(ops.Mul(), x, net(ops.Tanh(), spell("softplus", net, x)))
        case "hard-sigmoid":
            return net(ops.Div(), net(ops.Clip(0, 6), net(ops.Add(), x, c(3.0))), c(6.0))
        case "hard-sigmoid-unit":
            return net(ops.Clip(0, 1), net(ops.Add(), net(ops.Mul(), x, c(1 / 6)), c(0.5)))
        case "hard-swish":
            return net(ops.Mul(), x, spell("hard-sigmoid", net, x))
        case "hard-swish-late":
            y = net(ops.Mul(), x, net(ops.Clip(0, 6), net(ops.Add(), x, c(3.0))))
            return net(ops.Div(), y, c(6.0))
        case "gelu":
            y = net(ops.Add(), net(ops.Erf(), net(ops.Div(), x, c(np.sqrt(2.0)))), c(1.0))
            return net(ops.Mul(), net(ops.Mul(), c(0.5), x), y)
        case "gelu-late":
            y = net(ops.Add(), c(1.0), net(ops.Erf(), net(ops.Mul(), x, c(np.sqrt(0.5)))))
            return net(ops.Mul(), net(ops.Mul(), x, y), c(0.5))
        case "gelu-tanh":
            cube = net(ops.Mul(), c(0.044715), net(ops.Pow(), x, c(3.0)))
            inner = net(ops.Mul(), c(np.sqrt(2 / np.pi)), net(ops.Add(), x, cube))
            return net(ops.Mul(), net(ops.Mul(), x, c(0.5)), net(ops.Add(), c(1.0), net(ops.Tanh(), inner)))
        case "gelu-tanh-factored":
            poly = net(ops.Add(), net(ops.Mul(), net(ops.Square(), x), c(0.044715)), c(1.0))
            inner = net(ops.Mul(), net(ops.Mul(), x, c(np.sqrt(2 / np.pi))), poly)
            return net(ops.Mul(), x, net(ops.Mul(), c(0.5), net(ops.Add(), net(ops.Tanh(), inner), c(1.0))))
    raise AssertionError(name)


@pytest.mark.parametrize(
    ("name", "operator"),
    [
        ("silu", "Silu"), ("softplus", "Softplus"), ("mish", "Mish"), ("hard-sigmoid", "HardSigmoid"),
        ("hard-sigmoid-unit", "HardSigmoid"), ("hard-swish", "HardSwish"), ("hard-swish-late", "HardSwish"),
        ("gelu", "Gelu"), ("gelu-late", "Gelu"), ("gelu-tanh", "Gelu"), ("gelu-tanh-factored", "Gelu"),
    ],
)  # fmt: skip
def test_activations_spelled_out(name, operator):
    net = Net((1, 4, 5, 5))
    x = net(ops.Tanh(), net.inputs[0])
    y = net(ops.Sin(), spell(name, net, x))
    assert apply(net.out(y), recognise_activations, fold_scales, rounds=2) == {"Tanh": 1, operator: 1, "Sin": 1}


def test_near_misses_are_not_activations():
    net = Net((1, 4, 5, 5))
    x = net.inputs[0]
    y = net(ops.Mul(), x, net(ops.Sigmoid(), net(ops.Mul(), x, np.array(1.702))))
    z = net(ops.Clip(0, 1), net(ops.Add(), net(ops.Mul(), x, np.array(0.2)), np.array(0.5)))  # Keras' own
    e = net(ops.Add(), net(ops.Erf(), x), np.array(1.0))
    counts = apply(net.out(y, z, net(ops.Mul(), x, e)), recognise_activations)
    assert not {"Silu", "HardSigmoid", "Gelu", "HardSwish"} & set(counts)


@pytest.mark.parametrize("form", ["relu-neg", "max", "abs", "where", "min"])
@pytest.mark.parametrize("channels", [True, False])
def test_piecewise_linear_activations_spelled_out(form, channels):
    net = Net((1, 4, 5, 5))
    x = net(ops.Tanh(), net.inputs[0])
    slope = net.rng.uniform(0.1, 0.4, (4, 1, 1)) if channels else np.array(0.2)
    match form:
        case "relu-neg":
            y = net(ops.Sub(), net(ops.Relu(), x), net(ops.Mul(), slope, net(ops.Relu(), net(ops.Neg(), x))))
        case "max":
            y = net(ops.Maximum(), x, net(ops.Mul(), slope, x))
        case "abs":
            half = net(ops.Mul(), net(ops.Sub(), x, net(ops.Abs(), x)), np.array(0.5))
            y = net(ops.Add(), net(ops.Relu(), x), net(ops.Mul(), half, slope))
        case "where":
            y = net(ops.Where(), net(ops.Greater(), x, np.array(0.0)), x, net(ops.Mul(), x, slope))
        case "min":
            y = net(ops.Add(), net(ops.Clip(low=0.0), x), net(ops.Mul(), slope, net(ops.Clip(high=0.0), x)))
    left = apply(net.out(net(ops.Sin(), y)), recognise_piecewise)
    assert left == {"Tanh": 1, "Prelu" if channels else "LeakyRelu": 1, "Sin": 1}


def test_a_residual_around_an_activation_is_no_activation():
    net = Net((1, 4, 5, 5), (1, 4, 5, 5))
    x, other = net.inputs
    y = net(ops.Maximum(), x, net(ops.Mul(), other, np.array(0.2)))
    z = net(ops.Maximum(), x, net(ops.Add(), x, np.array(1.0)))
    assert apply(net.out(y, z), recognise_piecewise) == {"Maximum": 2, "Mul": 1, "Add": 1}


@pytest.mark.parametrize("axes", [(1,), (2, 3), (3,)])
@pytest.mark.parametrize("form", ["div", "mul", "difference", "unbiased"])
def test_layer_norm_spelled_out(axes, form):
    net = Net((2, 4, 5, 6))
    x = net(ops.Tanh(), net.inputs[0])
    mean = net(ops.ReduceMean(axes, True), x)
    d = net(ops.Sub(), x, mean)
    square = net(ops.SquaredDifference(), x, mean) if form == "difference" else net(ops.Mul(), d, d)
    var = net(ops.ReduceMean(axes, True), square)
    if form == "unbiased":
        var = net(ops.Mul(), var, np.array(1.2))
    var = net(ops.Add(), var, np.array(1e-3))
    y = net(ops.Mul(), d, net(ops.Rsqrt(), var)) if form == "mul" else net(ops.Div(), d, net(ops.Sqrt(), var))
    shape = tuple(n if i in axes else 1 for i, n in enumerate(x.shape))
    y = net(ops.Add(), net(ops.Mul(), y, net.constant(shape)), net.constant(shape))
    counts = apply(net.out(y), recognise_arithmetic, recognise_norms, fold_scales_into_norms, rounds=2)
    assert counts == {"Tanh": 1, "LayerNorm": 1}


def folded_norm(net, centre_axes=(0, 2)):
    """x · r - mean · r with statistics as vectors: how XLA writes a layer norm (litert-torch)."""
    x = net.inputs[0]
    rows = (1, x.shape[1], 1)
    mean = net(ops.ReduceMean((0, 2)), x)
    off = net(ops.ReduceMean(centre_axes), x) if centre_axes != (0, 2) else mean
    var = net(ops.ReduceMean((0, 2)), net(ops.SquaredDifference(), x, net(ops.Reshape(rows), mean)))
    root = net(ops.Rsqrt(), net(ops.Add(), var, np.array(1e-3)))
    shift = net(ops.Neg(), net(ops.Mul(), root, off))
    scaled = net(ops.Mul(), x, net(ops.Reshape(rows), root))
    return net(ops.Add(), scaled, net(ops.Reshape(rows), shift))


def test_layer_norm_folded_into_a_scale_and_a_shift_per_row():
    net = Net((1, 6, 8))
    y = net(ops.Add(), net(ops.Mul(), folded_norm(net), (8,)), (8,))
    assert apply(net.out(y), recognise_folded_norms, fold_scales_into_norms, rounds=2) == {"LayerNorm": 1}
    net = Net((2, 6, 8))  # over the batch as well
    assert apply(net.out(folded_norm(net)), recognise_folded_norms) == {"LayerNorm": 1}
    net = Net((1, 6, 6))  # the mean of the columns, where the root is that of the rows
    assert apply(net.out(folded_norm(net, (0, 1))), recognise_folded_norms)["Rsqrt"] == 1


def test_rms_norm_and_mean_spelled_out():
    net = Net((2, 5, 8))
    x = net.inputs[0]
    square = net(ops.Div(), net(ops.ReduceSum((2,), True), net(ops.Pow(), x, np.array(2.0))), np.array(8.0))
    y = net(ops.Mul(), x, net(ops.Rsqrt(), net(ops.Add(), square, np.array(1e-6))))
    y = net(ops.Mul(), y, (8,))
    counts = apply(net.out(y), recognise_arithmetic, recognise_norms, fold_scales_into_norms, rounds=2)
    assert counts == {"RmsNorm": 1}


def test_a_mean_over_other_axes_is_no_norm():
    net = Net((2, 4, 5, 6))
    x = net.inputs[0]
    d = net(ops.Sub(), x, net(ops.ReduceMean((1,), True), x))
    var = net(ops.ReduceMean((2, 3), True), net(ops.Square(), d))
    y = net(ops.Div(), d, net(ops.Sqrt(), net(ops.Add(), var, np.array(1e-3))))
    assert "LayerNorm" not in apply(net.out(y), recognise_arithmetic, recognise_norms)


def test_sums_of_sums_and_uniform_slopes():
    net = Net((2, 4, 5, 6))
    x = net(ops.Prelu(), net.inputs[0], np.full((4, 1, 1), 0.2))
    y = net(ops.Div(), net(ops.ReduceSum((2,), True), net(ops.ReduceSum((3,), True), x)), np.array(30.0))
    counts = apply(net.out(y), recognise_arithmetic, rounds=2)
    assert counts == {"LeakyRelu": 1, "ReduceMean": 1}


def test_a_normalised_vector_is_multiplied_by_an_inverse_root():
    net = Net((2, 4, 5, 6))
    x = net.inputs[0]
    length = net(ops.Sqrt(), net(ops.ReduceSum((3,), True), net(ops.Square(), x)))
    y = net(ops.Div(), x, net(ops.Clip(low=1e-12), length))
    counts = apply(net.out(y), recognise_arithmetic)
    assert counts == {"Square": 1, "ReduceSum": 1, "Clip": 1, "Rsqrt": 1, "Mul": 1}
