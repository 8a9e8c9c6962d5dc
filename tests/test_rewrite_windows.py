"""Weighted sums over the places of windows are written without the windows; other sums over windows are left alone."""

import math

import pytest

from instep.graph import Value, ops
from instep.rewrite.fold.windows import MOST, sum_windows
from rewriting import Net, apply

IMAGE = (1, 6, 8, 9)


def windows(net: Net, op: ops.Unfold2d, image: Value | None = None) -> tuple[Value, tuple[int, int]]:
    """The windows of the first input as [N, C, KH·KW, OH, OW], and (OH, OW)."""
    x = net.inputs[0] if image is None else image
    made = net(op, x)
    sizes = [
        (n + sum(p) - d * (k - 1) - 1) // s + 1
        for n, p, d, k, s in zip(x.shape[2:], op.padding, op.dilation, op.kernel, op.stride, strict=True)
    ]
    shape = (x.shape[0], x.shape[1], math.prod(op.kernel), *sizes)
    return net(ops.Reshape(shape), made), (sizes[0], sizes[1])


PADS = ((1, 1), (1, 1))


@pytest.mark.parametrize(
    "op",
    [
        ops.Unfold2d((3, 3), padding=PADS),
        ops.Unfold2d((3, 3)),
        ops.Unfold2d((2, 3), stride=(2, 1), padding=((0, 1), (2, 0))),
        ops.Unfold2d((3, 3), dilation=(2, 3), padding=((2, 2), (3, 3))),
        ops.Unfold2d((1, 5)),
    ],
)
@pytest.mark.parametrize("keepdims", [False, True])
def test_a_weighted_sum_is_one_of_shifted_images(op: ops.Unfold2d, keepdims: bool) -> None:
    count = math.prod(op.kernel)
    sizes = windows(Net(IMAGE), op)[1]
    net = Net(IMAGE, (1, 1, count, *sizes))
    made, _ = windows(net, op)
    found = apply(net.out(net(ops.ReduceSum((2,), keepdims), net(ops.Mul(), net.inputs[1], made))), sum_windows)
    assert found["Mul"] == count and found["Add"] == count - 1
    assert not found["Unfold2d"] and not found["ReduceSum"]


@pytest.mark.parametrize("groups", [1, 2, 3])
def test_kernels_of_groups_of_channels_are_brought_in_the_order_of_their_places(groups: int) -> None:
    net = Net(IMAGE, (1, groups * 9, 8, 9))
    made, _ = windows(net, ops.Unfold2d((3, 3), padding=PADS))
    made = net(ops.Reshape((1, groups, 6 // groups, 9, 8, 9)), made)
    kernels = net(ops.Reshape((1, groups, 1, 9, 8, 9)), net.inputs[1])
    y = net(ops.Reshape(IMAGE), net(ops.ReduceSum((3,), False), net(ops.Mul(), made, kernels)))
    found = apply(net.out(y), sum_windows)
    assert found["Mul"] == 9 and found["Gather"] == (groups > 1) and not found["Unfold2d"]


@pytest.mark.parametrize("axes", [(4, 5), (5, 4)])
def test_rows_and_columns_of_the_places_may_be_two_axes_in_any_order(axes: tuple[int, int]) -> None:
    net = Net(IMAGE, (1, 1, 8, 9, 3, 2))
    made, (h, w) = windows(net, ops.Unfold2d((2, 3), padding=((0, 1), (1, 1))))
    made = net(ops.Permute((0, 1, 4, 5, 3, 2)), net(ops.Reshape((1, 6, 2, 3, h, w)), made))
    found = apply(net.out(net(ops.ReduceSum(axes, False), net(ops.Mul(), made, net.inputs[1]))), sum_windows)
    assert found["Mul"] == 6 and not found["Unfold2d"]


PLACES_FIRST, CHANNELS_FIRST = (0, 3, 4, 2, 1), (0, 3, 4, 1, 2)


@pytest.mark.parametrize(
    ("op", "order"),
    [
        (ops.MatMul(), PLACES_FIRST),
        (ops.MatMul(transpose_b=True), CHANNELS_FIRST),
    ],
)
def test_a_row_of_numbers_times_windows_is_such_a_sum(op: ops.MatMul, order: tuple[int, ...]) -> None:
    net = Net(IMAGE, (1, 8, 9, 1, 9))
    made, _ = windows(net, ops.Unfold2d((3, 3), padding=PADS))
    found = apply(net.out(net(op, net.inputs[1], net(ops.Permute(order), made))), sum_windows)
    assert found["Mul"] == 9 and not found["Unfold2d"] and not found["MatMul"]


@pytest.mark.parametrize(
    ("op", "order"),
    [
        (ops.MatMul(), CHANNELS_FIRST),
        (ops.MatMul(transpose_a=True), PLACES_FIRST),
    ],
)
def test_windows_times_a_column_of_numbers_is_such_a_sum(op: ops.MatMul, order: tuple[int, ...]) -> None:
    net = Net(IMAGE, (8, 9, 9, 1))  # the batch is missing: it is broadcast
    made, _ = windows(net, ops.Unfold2d((3, 3), padding=PADS))
    found = apply(net.out(net(op, net(ops.Permute(order), made), net.inputs[1])), sum_windows)
    assert found["Mul"] == 9 and not found["Unfold2d"] and not found["MatMul"]


def test_others_stay() -> None:
    op = ops.Unfold2d((3, 3), padding=PADS)
    net = Net(IMAGE, (1, 6, 1, 8, 9))
    made, _ = windows(net, op)
    scores = net(ops.ReduceSum((1,), False), net(ops.Mul(), made, net.inputs[1]))  # over channels
    assert apply(net.out(scores), sum_windows)["Unfold2d"] == 1

    net = Net(IMAGE, (1, 1, 9, 8, 9))
    made, _ = windows(net, op)
    summed = net(ops.ReduceSum((2,), False), net(ops.Mul(), made, net.inputs[1]))
    assert apply(net.out(summed, made), sum_windows)["Unfold2d"] == 1  # the windows are an output, too

    net = Net(IMAGE, (1, 8, 9, 4, 9))
    made, _ = windows(net, op)
    many = net(ops.MatMul(), net.inputs[1], net(ops.Permute((0, 3, 4, 2, 1)), made))  # four numbers for each place
    assert apply(net.out(many), sum_windows)["MatMul"] == 1

    large = ops.Unfold2d((8, 8))
    assert math.prod(large.kernel) > MOST
    net = Net(IMAGE, (1, 1, 64, 1, 2))
    made, _ = windows(net, large)
    assert apply(net.out(net(ops.ReduceSum((2,), False), net(ops.Mul(), made, net.inputs[1]))), sum_windows)["Unfold2d"]
