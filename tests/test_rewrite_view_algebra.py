"""The view algebra: any chain of reshapes and permutes equals its shortest form, and no move exceeds rank 4."""

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from instep.graph import ops
from instep.rewrite.view_algebra import View, factor_permutation, moves_data, reshape_groups


def refactor(draw, size):
    """A random factorisation of ``size`` into 1 to 6 axes."""
    shape = []
    for prime in (2, 2, 2, 2, 2, 3, 3, 5):
        if size % prime == 0:
            size //= prime
            if shape and draw(st.booleans()):
                shape[draw(st.integers(0, len(shape) - 1))] *= prime
            else:
                shape.append(prime)
    if draw(st.booleans()):
        shape.insert(draw(st.integers(0, len(shape))), 1)
    return tuple(shape)


@st.composite
def chains(draw):
    total = draw(st.sampled_from([8, 12, 24, 60, 96, 360]))
    shape = refactor(draw, total)
    start, steps = shape, []
    for _ in range(draw(st.integers(1, 5))):
        if draw(st.booleans()):
            perm = tuple(draw(st.permutations(range(len(shape)))))
            steps.append(ops.Permute(perm))
            shape = tuple(shape[p] for p in perm)
        else:
            shape = refactor(draw, total)
            steps.append(ops.Reshape(shape))
    return start, steps


@settings(max_examples=400, deadline=None)
@given(chains())
def test_the_shortest_form_moves_the_same_elements_and_stays_within_rank_four(chain):
    start, steps = chain
    view = View(start)
    x = np.arange(math.prod(start)).reshape(start)
    want = x
    for i, op in enumerate(steps):
        (want,) = op.evaluate(want)
        if not view.then(op):
            assert i > 0  # a single view is always affine
            return
    got = x
    short = view.to_ops()
    for op in short:
        (got,) = op.evaluate(got)
        if isinstance(op, ops.Permute):
            assert len(op.perm) <= 4
    assert got.shape == want.shape
    np.testing.assert_array_equal(got, want)
    assert view.moves == (not np.array_equal(want.ravel(), x.ravel())) or not view.moves


def test_window_partition_of_rank_six_is_one_rank_four_move():
    view = View((1, 56, 56, 96))
    assert view.then(ops.Reshape((1, 8, 7, 8, 7, 96)))
    assert view.then(ops.Permute((0, 1, 3, 2, 4, 5)))
    assert view.then(ops.Reshape((64, 49, 96)))
    assert view.to_ops() == [ops.Reshape((8, 7, 8, 672)), ops.Permute((0, 2, 1, 3)), ops.Reshape((64, 49, 96))]


def test_nhwc_to_tokens_moves_nothing():
    view = View((1, 14, 14, 32))
    for op in (ops.Permute((0, 3, 1, 2)), ops.Reshape((1, 32, 196)), ops.Permute((0, 2, 1))):
        assert view.then(op)
    assert view.to_ops() == [ops.Reshape((1, 196, 32))]


@settings(max_examples=150, deadline=None)
@given(st.integers(2, 10).flatmap(lambda n: st.permutations(range(n))))
def test_factoring_reaches_every_order_by_moves_of_at_most_four_blocks(perm):
    order = tuple(range(len(perm)))
    steps = factor_permutation(tuple(perm))
    for blocks, move in steps:
        assert sum(blocks, ()) == order and len(move) <= 4
        order = tuple(x for m in move for x in blocks[m])
    assert order == tuple(perm)
    assert len(steps) <= max(1, (len(perm) + 1) // 2)


def test_moving_axes_of_size_one_moves_no_data():
    assert not moves_data((1, 64, 1, 1), (0, 2, 3, 1))
    assert moves_data((1, 64, 2, 1), (0, 2, 3, 1))


def test_groups_of_a_reshape():
    assert reshape_groups((2, 3, 4), (6, 2, 2)) == [([0, 1], [0]), ([2], [1, 2])]


def test_a_chain_of_private_views_is_written_from_its_root():
    """Heads split and transposed through five axes: one reshape and one permute remain."""
    from instep.graph import Graph, Value
    from instep.rewrite import driver
    from instep.rewrite.views import canonicalise_views

    x = Value("x", (1, 196, 192))
    graph = Graph(inputs=[x], input_names=["x"])
    value = x
    for i, op in enumerate(
        [ops.Reshape((1, 196, 1, 4, 48)), ops.Permute((0, 2, 3, 1, 4)), ops.Reshape((1, 4, 196, 48)),
         ops.Permute((0, 1, 3, 2)), ops.Relu()]
    ):  # fmt: skip
        value = graph.add(op, [value], names=[f"n{i}"]).output
    graph.outputs, graph.output_names = [value], ["y"]
    result, _ = driver.run(graph, [canonicalise_views])
    assert [n.op.name for n in result.nodes] == ["Permute", "Reshape", "Relu"]
    again, reports = driver.run(result, [canonicalise_views])
    assert not reports[0].changed
    data = np.arange(196 * 192.0).reshape(1, 196, 192)
    np.testing.assert_array_equal(again.run([data])[again.outputs[0]], graph.run([data])[graph.outputs[0]])
