"""Channel orders fold into weights: pixel shuffles, unshuffles and constant gathers of channels."""

from __future__ import annotations

import numpy as np
import pytest

from instep.graph import ops
from instep.rewrite.driver import run
from instep.rewrite.fold.identities import drop_identities
from instep.rewrite.fold.pixel_shuffles import (
    fold_channel_gathers,
    fold_pixel_shuffle_order,
)
from rewriting import Net, apply, same

PAD1 = ((1, 1), (1, 1))


def orders(graph):
    result, _ = run(graph, [fold_pixel_shuffle_order])
    same(graph, result)
    return [n.op.order for n in result.nodes if isinstance(n.op, ops.DepthToSpace | ops.SpaceToDepth)]


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("bias", [True, False])
def test_a_pixel_shuffle_behind_a_convolution_takes_tflites_order(layout, bias):
    first = layout == "NCHW"
    net = Net((1, 4, 6, 6) if first else (1, 6, 6, 4))
    op = ops.Conv2d(padding=PAD1, layout=layout)
    y = net(op, net.inputs[0], (12, 4, 3, 3) if first else (12, 3, 3, 4), *([(12,)] if bias else []))
    y = net(ops.Prelu(), y, (12, 1, 1) if first else (12,))
    assert orders(net.out(net(ops.DepthToSpace(2, layout=layout), y))) == ["DCR"]


def test_one_channel_needs_no_reordering_at_all():
    net = Net((1, 9, 4, 4))
    assert orders(net.out(net(ops.DepthToSpace(3), net.inputs[0]))) == ["DCR"]


def test_an_input_or_a_value_that_others_see_in_order_keeps_its_order():
    net = Net((1, 12, 4, 4))
    assert orders(net.out(net(ops.DepthToSpace(2), net.inputs[0]))) == ["CRD"]
    net = Net((1, 12, 4, 4))
    y = net(ops.Conv2d(), net.inputs[0], (12, 12, 1, 1))
    assert orders(net.out(net(ops.DepthToSpace(2), y), y)) == ["CRD"]


def test_an_order_goes_through_depthwise_convolutions_norms_and_pools_to_the_dense_one():
    net = Net((1, 4, 8, 8))
    y = net(ops.Conv2d(), net.inputs[0], (12, 4, 1, 1), (12,))
    y = net(ops.Conv2d(groups=12, padding=PAD1), y, (12, 1, 3, 3), (12,))
    y = net(ops.GroupNorm(12), net.norm(y), (12,), (12,))
    y = net(ops.AvgPool2d((2, 2), (2, 2)), net(ops.Silu(), y))
    y = net(ops.LayerNorm((1,)), y, (12,), (12,))
    assert orders(net.out(net(ops.DepthToSpace(2), y))) == ["DCR"]


def test_a_group_norm_holds_an_order_that_crosses_its_groups():
    net = Net((1, 4, 8, 8))
    y = net(ops.Conv2d(), net.inputs[0], (12, 4, 1, 1), (12,))
    y = net(ops.GroupNorm(3), y, (12,), (12,))
    assert orders(net.out(net(ops.DepthToSpace(2), y))) == ["CRD"]


def test_residuals_and_side_readers_follow():
    net = Net((1, 4, 8, 8))
    a = net(ops.Conv2d(), net.inputs[0], (12, 4, 1, 1))
    b = net(ops.Conv2d(padding=PAD1), net(ops.Relu(), a), (12, 12, 3, 3))
    gate = net(ops.Sigmoid(), net(ops.ReduceMean((2, 3), True), b))
    y = net(ops.Add(), a, net(ops.Mul(), b, gate))
    side = net(ops.Linear(), net(ops.Reshape((1, 768)), y), (5, 768))
    assert orders(net.out(net(ops.DepthToSpace(2), y), side)) == ["DCR"]


def test_tiled_channels_are_tiled_in_the_other_order():
    net = Net((1, 3, 6, 6))
    tiled = net(ops.Gather(1), net.inputs[0], np.repeat(np.arange(3), 4))
    y = net(ops.Add(), net(ops.Conv2d(), net.inputs[0], (12, 3, 1, 1)), tiled)
    assert orders(net.out(net(ops.DepthToSpace(2), y))) == ["DCR"]


def test_two_shuffles_in_a_row_and_slices_of_channels():
    net = Net((1, 4, 4, 4))
    y = net(ops.Conv2d(), net.inputs[0], (48, 4, 1, 1), (48,))
    y = net(ops.DepthToSpace(2), net(ops.DepthToSpace(2), y))
    assert orders(net.out(y)) == ["DCR", "DCR"]
    net = Net((1, 4, 4, 4))
    y = net(ops.Conv2d(), net.inputs[0], (20, 4, 1, 1), (20,))
    a = net(ops.Slice((0,) * 4, (1, 8, 4, 4), (1,) * 4), y)
    b = net(ops.Slice((0, 8, 0, 0), (1, 20, 4, 4), (1,) * 4), y)
    assert orders(net.out(net(ops.DepthToSpace(2), b), net(ops.Exp(), a))) == ["DCR"]


def test_an_unshuffle_before_a_convolution():
    net = Net((1, 3, 8, 8))
    y = net(ops.SpaceToDepth(2), net.inputs[0])
    y = net(ops.Concat(1), y, net(ops.MaxPool2d((2, 2), (2, 2)), net.inputs[0]))
    assert orders(net.out(net(ops.Conv2d(), y, (4, 15, 1, 1)))) == ["DCR"]


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_a_channel_gather_goes_into_the_convolution_after_or_before(groups):
    net = Net((1, 8, 6, 6))
    shuffle = np.arange(8).reshape(groups, -1).T.ravel() if groups > 1 else np.arange(8)[::-1].copy()
    y = net(ops.Gather(1), net(ops.Relu(), net.inputs[0]), shuffle)
    y = net(ops.Conv2d(groups=8, padding=PAD1), y, (8, 1, 3, 3), (8,))
    y = net(ops.Conv2d(), y, (5, 8, 1, 1))
    assert apply(net.out(y), fold_channel_gathers, drop_identities) == {"Relu": 1, "Conv2d": 2}
    net = Net((1, 8, 6, 6))
    y = net(ops.Conv2d(), net.inputs[0], (8, 8, 1, 1), (8,))
    y = net(ops.Gather(1), net(ops.Gelu(), y), shuffle)
    assert apply(net.out(net(ops.Reshape((8, 36)), y)), fold_channel_gathers, drop_identities) == {
        "Conv2d": 1, "Gelu": 1, "Reshape": 1}  # fmt: skip


def test_whole_groups_move_with_a_gather_but_a_shuffle_across_groups_stays():
    net = Net((1, 8, 6, 6))
    swap = np.array([4, 5, 6, 7, 0, 1, 2, 3])
    y = net(ops.Gather(1), net(ops.Conv2d(groups=2), net.inputs[0], (8, 4, 1, 1)), swap)
    y = net(ops.Conv2d(groups=2), y, (8, 4, 1, 1))
    y = net(ops.Conv2d(), y, (8, 8, 1, 1))
    assert apply(net.out(y), fold_channel_gathers, drop_identities) == {"Conv2d": 3}
    net = Net((1, 8, 6, 6))
    shuffle = np.arange(8).reshape(2, 4).T.ravel()
    y = net(ops.Conv2d(groups=2), net.inputs[0], (8, 4, 1, 1))
    y = net(ops.Conv2d(groups=2), net(ops.Gather(1), y, shuffle), (8, 4, 1, 1))
    assert apply(net.out(y), fold_channel_gathers, drop_identities) == {"Conv2d": 2, "Gather": 1}
