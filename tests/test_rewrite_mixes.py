"""A linear map over few entries of an axis needs no transposes; over many, or other axes, it is left alone."""

import pytest

from instep.graph import ops
from instep.rewrite.fuse.mixes import mix_small_axes
from rewriting import Net, apply

THERE, BACK = ops.Permute((0, 2, 3, 1)), ops.Permute((0, 3, 1, 2))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("into", "out"), [(4, 4), (6, 2), (1, 3)])
def test_few_entries_are_mixed_from_the_left(into: int, out: int, bias: bool) -> None:
    net = Net((2, into, 5, 7))
    x = net(ops.Linear(), net(THERE, net.inputs[0]), (out, into), *[(out,)] * bias)
    found = apply(net.out(net(BACK, x)), mix_small_axes)
    assert found == {"Reshape": 2, "MatMul": 1} | ({"Add": 1} if bias else {})


def test_an_axis_in_the_middle() -> None:
    net = Net((3, 4, 5, 6))
    x = net(ops.Linear(), net(ops.Permute((0, 1, 3, 2)), net.inputs[0]), (3, 5), (3,))
    found = apply(net.out(net(ops.Permute((0, 1, 3, 2)), x)), mix_small_axes)
    assert found["Permute"] == 0 and found["MatMul"] == 1


@pytest.mark.parametrize(
    ("there", "back", "into", "out"),
    [
        (THERE, BACK, 7, 4),
        (THERE, BACK, 4, 7),
        (THERE, THERE, 4, 4),
        (ops.Permute((0, 3, 2, 1)), ops.Permute((0, 3, 2, 1)), 4, 4),
    ],
)
def test_others_stay(there: ops.Permute, back: ops.Permute, into: int, out: int) -> None:
    net = Net((1, into, 5, 7))
    x = net(ops.Linear(), net(there, net.inputs[0]), (out, into), (out,))
    assert apply(net.out(net(back, x)), mix_small_axes) == {"Permute": 2, "Linear": 1}


def test_a_transposed_value_that_others_read_stays() -> None:
    net = Net((1, 4, 5, 7))
    moved = net(THERE, net.inputs[0])
    x = net(BACK, net(ops.Linear(), moved, (4, 4)))
    assert apply(net.out(x, moved), mix_small_axes)["Permute"] == 2
