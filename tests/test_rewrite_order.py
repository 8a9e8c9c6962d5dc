"""Pads, joins, and operators that change places; the forms that run best on a CPU."""

from __future__ import annotations

import numpy as np
import pytest

from instep.graph import ops
from instep.rewrite.driver import run
from instep.rewrite.fold.flattened import fold_flattened_order
from instep.rewrite.fold.identities import drop_identities
from instep.rewrite.fold.order import (
    hoist_activations,
    pool_before_pointwise,
    shrink_before_elementwise,
    widen_after_pointwise,
)
from instep.rewrite.fold.pads import fold_pads
from instep.rewrite.fold.slices import simplify_joins
from instep.rewrite.fuse.activations import fuse_activations
from instep.rewrite.fuse.scales import fuse_scale_and_shift, widen_broadcasts
from rewriting import Net, apply, same

AROUND = ((0, 0), (0, 0), (1, 2), (0, 1))


def test_a_zero_pad_joins_convolutions_and_average_pools():
    net = Net((1, 4, 7, 7))
    y = net(ops.Pad(AROUND), net(ops.Pad(((0, 0), (0, 0), (1, 0), (0, 0))), net.inputs[0]))
    z = net(ops.AvgPool2d((3, 3), (1, 1)), net(ops.Pad(AROUND), net.inputs[0]))
    y = net(ops.Conv2d((2, 2), ((1, 1), (0, 0))), y, (4, 4, 3, 3))
    assert apply(net.out(y, z), fold_pads) == {"Conv2d": 1, "AvgPool2d": 1}


def test_pads_that_are_not_zeros_stay():
    net = Net((1, 4, 7, 7))
    y = net(ops.Conv2d(), net(ops.Pad(AROUND, value=1.0), net.inputs[0]), (4, 4, 3, 3))
    z = net(ops.Conv2d(), net(ops.Pad(AROUND, mode="reflect"), net.inputs[0]), (4, 4, 3, 3))
    c = net(ops.Conv2d(), net(ops.Pad(((0, 0), (0, 4), (0, 0), (0, 0))), net.inputs[0]), (4, 8, 3, 3))
    assert apply(net.out(y, z, c), fold_pads) == {"Conv2d": 3, "Pad": 3}


def test_a_zero_pad_joins_a_max_pool_only_where_zero_never_wins():
    net = Net((1, 4, 7, 7))
    pads = ((0, 0), (0, 0), (1, 1), (1, 1))
    y = net(ops.MaxPool2d((3, 3), (2, 2)), net(ops.Pad(pads), net(ops.Relu(), net.inputs[0])))
    z = net(ops.MaxPool2d((3, 3), (2, 2)), net(ops.Pad(pads), net(ops.Sin(), net.inputs[0])))
    assert apply(net.out(y, z), fold_pads) == {"MaxPool2d": 2, "Pad": 1, "Relu": 1, "Sin": 1}


def cut(net, x, axis, start, stop):
    starts, stops = [0] * x.rank, list(x.shape)
    starts[axis], stops[axis] = start, stop
    return net(ops.Slice(tuple(starts), tuple(stops), (1,) * x.rank), x)


def test_parts_of_joins_and_joins_of_parts():
    net = Net((1, 8, 4, 4), (1, 4, 4, 4))
    x = net(ops.Sin(), net.inputs[0])
    back = net(ops.Concat(1), cut(net, x, 1, 0, 3), cut(net, x, 1, 3, 8))
    y = cut(net, net(ops.Concat(1), back, net.inputs[1]), 1, 9, 11)
    z = net(ops.Concat(1), net(ops.Concat(1), back, y), net.inputs[1])
    counts = apply(net.out(net(ops.Cos(), z)), simplify_joins, drop_identities, rounds=3)
    assert counts == {"Sin": 1, "Slice": 1, "Concat": 1, "Cos": 1}


def test_parts_in_another_order_stay():
    net = Net((1, 8, 4, 4))
    x = net.inputs[0]
    y = net(ops.Concat(1), cut(net, x, 1, 4, 8), cut(net, x, 1, 0, 4))
    assert apply(net.out(y), simplify_joins) == {"Slice": 2, "Concat": 1}


def order_of(graph, *rewrites):
    result, _ = run(graph, rewrites)
    same(graph, result)
    return [n.op.name for n in result.nodes]


def test_a_rising_activation_goes_behind_a_max_pool():
    net = Net((1, 4, 8, 8))
    y = net(ops.MaxPool2d((2, 2), (2, 2)), net(ops.LeakyRelu(0.1), net.inputs[0]))
    assert order_of(net.out(y), shrink_before_elementwise) == ["MaxPool2d", "LeakyRelu"]
    y = net(ops.MaxPool2d((2, 2), (2, 2)), net(ops.LeakyRelu(-0.1), net.inputs[0]))
    assert order_of(net.out(y), shrink_before_elementwise)[-1] == "MaxPool2d"
    y = net(ops.MaxPool2d((2, 2), (2, 2)), net(ops.Silu(), net.inputs[0]))
    assert order_of(net.out(y), shrink_before_elementwise)[-1] == "MaxPool2d"


@pytest.mark.parametrize("pool", [ops.AvgPool2d((2, 2), (2, 2)), ops.ReduceMean((2, 3), True)])
def test_pooling_goes_before_a_pointwise_convolution(pool):
    net = Net((1, 4, 8, 8))
    y = net(pool, net(ops.Conv2d(), net.inputs[0], (6, 4, 1, 1), (6,)))
    assert order_of(net.out(y), pool_before_pointwise) == [pool.name, "Conv2d"]


def test_pooling_that_counts_its_padding_and_wide_kernels_stay():
    net = Net((1, 4, 8, 8))
    y = net(ops.AvgPool2d((2, 2), (2, 2), ((1, 1), (1, 1))), net(ops.Conv2d(), net.inputs[0], (6, 4, 1, 1), (6,)))
    z = net(ops.AvgPool2d((2, 2), (2, 2)), net(ops.Conv2d(), net.inputs[0], (6, 4, 3, 3), (6,)))
    assert order_of(net.out(y, z), pool_before_pointwise) == ["Conv2d", "AvgPool2d", "Conv2d", "AvgPool2d"]


@pytest.mark.parametrize("mode", ["nearest", "bilinear", "bicubic"])
def test_pointwise_convolutions_go_before_an_enlargement(mode):
    net = Net((1, 4, 5, 5))
    up = ops.Resize2d((10, 10), mode, "asymmetric" if mode == "nearest" else "half_pixel")
    y = net(ops.Conv2d(), net(up, net.inputs[0]), (3, 4, 1, 1), (3,))
    assert order_of(net.out(y), widen_after_pointwise) == ["Conv2d", "Resize2d"]
    y = net(ops.Silu(), net(up, net.inputs[0]))
    assert order_of(net.out(y), widen_after_pointwise)[-1] == ("Resize2d" if mode == "nearest" else "Silu")


def test_an_activation_behind_a_pixel_shuffle_or_a_join_is_fused():
    net = Net((1, 4, 5, 5))
    a = net(ops.Relu(), net(ops.DepthToSpace(2), net(ops.Conv2d(), net.inputs[0], (12, 4, 1, 1))))
    parts = [net(ops.Conv2d(), net.inputs[0], (4, 4, 1, 1)) for _ in range(2)]
    b = net(ops.Clip(0, 6), net(ops.Concat(1), *parts))
    counts = apply(net.out(a, b), hoist_activations, fuse_activations)
    assert counts == {"Conv2d": 3, "DepthToSpace": 1, "Concat": 1}


def single(graph):
    for value in graph.values():
        value.dtype = value.dtype.replace("float64", "float32")
    graph.weights = {v: a.astype(v.dtype) for v, a in graph.weights.items()}
    return graph


def test_a_product_and_a_sum_per_channel_are_one_depthwise_convolution():
    net = Net((1, 5, 6, 64))
    y = net(ops.Add(activation="relu"), net(ops.Mul(), net.inputs[0], (64,)), (1, 1, 1, 64))
    y = net(ops.Sub(), net(ops.Mul(), (64,), net(ops.Sin(), y)), (64,))
    graph = single(net.out(net(ops.Sin(), y)))
    assert apply(graph, fuse_scale_and_shift) == {"Conv2d": 2, "Sin": 2}
    net = Net((1, 5, 6, 64))  # the shift is a table of places
    y = net(ops.Add(), net(ops.Mul(), net.inputs[0], (64,)), (1, 5, 6, 1))
    assert apply(single(net.out(y)), fuse_scale_and_shift) == {"Mul": 1, "Add": 1}


def test_short_channel_rows_are_widened_and_long_ones_are_not():
    net = Net((1, 8, 6, 10), (1, 1, 1, 10))
    y = net(ops.Add(), net(ops.Mul(), net.inputs[0], net.inputs[1]), (10,))
    y = net(ops.Prelu(), y, np.full((1, 1, 10), 0.2))
    graph = single(net.out(y))
    assert apply(graph, widen_broadcasts) == {"Mul": 2, "Add": 1, "Prelu": 1}
    result, _ = run(graph, [widen_broadcasts])
    assert sorted(v.shape for v in result.weights) == [(1, 1, 6, 10), (1, 6, 10), (1, 6, 10)]
    net = Net((1, 8, 6, 128))
    graph = single(net.out(net(ops.Add(), net.inputs[0], (128,))))
    assert not run(graph, [widen_broadcasts])[1][0].changed


@pytest.mark.parametrize("batch", [1, 3])
def test_a_linear_layer_takes_the_order_of_the_image_that_is_flattened_for_it(batch):
    net = Net((batch, 4, 5, 6))
    x = net(ops.Permute((0, 3, 1, 2)), net(ops.Tanh(), net.inputs[0]))
    flat = net(ops.Reshape((batch, 120)), x)
    graph = net.out(net(ops.Linear(), flat, (7, 120), (7,)), net(ops.Linear("relu"), flat, (2, 120)))
    assert apply(graph, fold_flattened_order) == {"Tanh": 1, "Reshape": 2, "Linear": 2}


def test_a_linear_layer_gives_the_order_of_the_image_that_it_is_unfolded_to():
    net = Net((2, 9))
    y = net(ops.Relu(), net(ops.Linear(), net.inputs[0], (60, 9), (60,)))
    y = net(ops.Permute((0, 2, 3, 1)), net(ops.Reshape((2, 3, 4, 5)), y))
    assert apply(net.out(net(ops.Tanh(), y)), fold_flattened_order) == {"Linear": 1, "Relu": 1, "Reshape": 1, "Tanh": 1}


def test_a_linear_layer_whose_rows_mix_keeps_its_permutes():
    net = Net((2, 3, 4, 5))
    tokens = net(ops.Reshape((2, 20, 3)), net(ops.Permute((0, 2, 3, 1)), net.inputs[0]))
    across = net(ops.Reshape((3, 40)), net(ops.Permute((1, 0, 2, 3)), net.inputs[0]))
    weight = net.constant((6, 40))
    shared = net(ops.Reshape((2, 60)), net(ops.Permute((0, 2, 3, 1)), net.inputs[0]))
    wide = net.constant((6, 60))
    graph = net.out(
        net(ops.Linear(), tokens, (6, 3)),
        net(ops.Linear(), across, weight),
        net(ops.Linear(), shared, wide),
        net(ops.Linear("relu"), net(ops.Tanh(), shared), wide),
    )
    assert apply(graph, fold_flattened_order) == {"Permute": 3, "Reshape": 3, "Linear": 4, "Tanh": 1}
