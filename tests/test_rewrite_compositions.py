"""A convolution of a convolution is one convolution, but for the frame where the second one pads."""

from __future__ import annotations

import pytest

from instep.graph import ops
from instep.rewrite.fold.compositions import compose_convolutions
from rewriting import Net, apply

PAD1 = ((1, 1), (1, 1))


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize(
    ("one", "pads", "two", "frame"),
    [
        (3, PAD1, 3, PAD1),
        (3, ((0, 1), (2, 0)), 3, ((1, 0), (0, 1))),
        (1, ((0, 0), (0, 0)), 5, ((2, 2), (2, 2))),
        (5, ((2, 2), (2, 2)), 3, PAD1),
        (3, PAD1, 3, ((0, 0), (0, 0))),
        (3, PAD1, 1, ((0, 0), (0, 0))),
    ],
)
@pytest.mark.parametrize("shared", [False, True])
def test_the_two_are_one_inside_and_two_at_the_frame(layout, one, pads, two, frame, shared):
    first = layout == "NCHW"

    def weight(o, i, k):
        return (o, i, k, k) if first else (o, k, k, i)

    net = Net((1, 1, 34, 40) if first else (1, 34, 40, 1))
    u = net(ops.Conv2d(padding=pads, layout=layout), net.inputs[0], weight(96, 1, one), (96,))
    y = net(ops.Conv2d(padding=frame, layout=layout, activation="relu"), u, weight(4, 96, two), (4,))
    graph = net.out(y, net(ops.Exp(), u)) if shared else net.out(y)
    counts = apply(graph, compose_convolutions)
    edges = sum(p > 0 for side in frame for p in side)
    convolutions = 1 + edges * (1 if shared else 2) + shared
    assert counts["Conv2d"] == convolutions
    assert counts["Concat"] == sum(any(side) for side in frame)


def test_pairs_that_stay():
    net = Net((1, 1, 34, 40))
    u = net(ops.Conv2d(padding=PAD1), net.inputs[0], (8, 1, 3, 3))  # few channels between: nothing to gain
    y = net(ops.Conv2d(padding=PAD1), u, (4, 8, 3, 3))
    assert apply(net.out(y), compose_convolutions) == {"Conv2d": 2}
    for change in ({"stride": (2, 2)}, {"dilation": (2, 2)}, {"activation": "relu"}):
        net = Net((1, 1, 70, 80))
        u = net(ops.Conv2d(padding=PAD1).with_(**change), net.inputs[0], (96, 1, 3, 3), (96,))
        assert apply(net.out(net(ops.Conv2d(padding=PAD1), u, (4, 96, 3, 3))), compose_convolutions) == {"Conv2d": 2}
    net = Net((1, 1, 9, 9))  # too small a map
    u = net(ops.Conv2d(padding=PAD1), net.inputs[0], (96, 1, 3, 3), (96,))
    assert apply(net.out(net(ops.Conv2d(padding=PAD1), u, (4, 96, 3, 3))), compose_convolutions) == {"Conv2d": 2}
