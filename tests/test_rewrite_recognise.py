"""Recognition: pixel shuffles, gathers and enlargements spelled as views; activations and norms spelled out."""

from __future__ import annotations

import numpy as np
import pytest

from instep.graph import ops
from instep.rewrite.fold.identities import drop_identities
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


def test_nearest_enlargement_spelled_with_expand():
    net = Net((1, 3, 2, 5))
    y = net(ops.Expand((1, 3, 2, 3, 5, 3)), net(ops.Reshape((1, 3, 2, 1, 5, 1)), net.inputs[0]))
    assert apply(net.out(net(ops.Reshape((1, 3, 6, 15)), y)), recognise_views) == {"Resize2d": 1}


@pytest.mark.parametrize("perm", [(0, 2, 4, 1, 3, 5), (0, 1, 3, 2, 4, 5)])
def test_a_window_partition_is_no_pixel_shuffle(perm):
    net = Net((1, 4, 6, 3))
    y = views(net, net.inputs[0], (1, 2, 2, 3, 2, 3), ("p", *perm), (6, 2, 2, 3) if perm[2] == 3 else (1, 4, 6, 3))
    if y.shape == (1, 4, 6, 3):
        y = net(ops.Exp(), y)
    assert "DepthToSpace" not in apply(net.out(y), recognise_views, drop_identities)
