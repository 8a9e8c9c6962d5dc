"""Layout, views and ranks together: same numbers at every value, no avoidable transpose, no rank above four."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from instep.graph import SourceView, ops
from instep.rewrite import driver
from instep.rewrite.layout import assign_layout
from instep.rewrite.layout.mincut import Labelling
from instep.rewrite.pipelines import to_channels_first, to_channels_last
from instep.rewrite.rank import flatten_gathers, lower_rank
from instep.rewrite.views import canonicalise_views, hoist_slices, shorten_views
from rewriting import Net

RANDOM = np.random.default_rng(1)
PAD1 = ((1, 1), (1, 1))


def weights(*shape):
    return RANDOM.standard_normal(shape)


def squeeze_excite():
    add = Net((1, 3, 8, 8))
    (x,) = add.inputs
    a = add(ops.Prelu(), add(ops.Conv2d(padding=PAD1), x, weights(8, 3, 3, 3), weights(8)), weights(8, 1, 1))
    m = add(ops.Linear(), add(ops.ReduceMean((2, 3), False), a), weights(8, 8))
    a = add(ops.Mul(), a, add(ops.Reshape((1, 8, 1, 1)), add(ops.Sigmoid(), m)))
    b = add(ops.Softmax(1), add(ops.Concat(1), a, a))
    b = add(ops.Slice((0, 4, 0, 0), (1, 12, 8, 8), (1, 1, 1, 1)), b)
    return add.out(add(ops.Conv2d(), b, weights(4, 8, 1, 1)))


def convnext_block():
    add = Net((1, 8, 8, 8))
    (x,) = add.inputs
    a = add(ops.Conv2d(padding=((3, 3), (3, 3)), groups=8), x, weights(8, 1, 7, 7))
    a = add(ops.LayerNorm((3,)), add(ops.Permute((0, 2, 3, 1)), a), weights(8), weights(8))
    a = add(ops.Linear(), add(ops.Gelu(), add(ops.Linear(), a, weights(16, 8))), weights(8, 16))
    a = add(ops.Permute((0, 3, 1, 2)), add(ops.Mul(), a, weights(8)))
    return add.out(add(ops.Conv2d(), add(ops.Add(), a, x), weights(4, 8, 1, 1)))


def channel_first_attention():
    add = Net((1, 8, 4, 4))
    (x,) = add.inputs
    q = add(ops.Reshape((1, 8, 16)), add(ops.Conv2d(), x, weights(8, 8, 1, 1)))
    k = add(ops.Reshape((1, 8, 16)), add(ops.Conv2d(), x, weights(8, 8, 1, 1)))
    scores = add(ops.Softmax(2), add(ops.MatMul(True, False), q, k))
    out = add(ops.Reshape((1, 8, 4, 4)), add(ops.MatMul(False, True), k, scores))
    return add.out(add(ops.Conv2d(), out, weights(8, 8, 1, 1)))


def selective_kernel():
    add = Net((2, 8, 4, 4))
    (x,) = add.inputs
    a = add(ops.Reshape((2, 2, 8, 4, 4)), add(ops.Conv2d(groups=2), x, weights(16, 4, 1, 1)))
    g = add(ops.ReduceMean((2, 3), True), add(ops.ReduceSum((1,), False), a))
    g = add(ops.Softmax(1), add(ops.Reshape((2, 2, 8, 1, 1)), add(ops.Conv2d(), g, weights(16, 8, 1, 1))))
    out = add(ops.ReduceSum((1,), False), add(ops.Mul(), a, g))
    return add.out(add(ops.Conv2d(), out, weights(8, 8, 1, 1)))


def attention(add, tokens, windows, count, mask=None):
    """Two heads of four channels over [windows, count, 8]."""
    q = add(ops.Reshape((windows, count, 3, 2, 4)), add(ops.Linear(), tokens, weights(24, 8)))
    q = add(ops.Permute((2, 0, 3, 1, 4)), q)
    parts = []
    for k in range(3):
        part = add(ops.Slice((k, 0, 0, 0, 0), (k + 1, windows, 2, count, 4), (1,) * 5), q)
        parts.append(add(ops.Reshape((windows, 2, count, 4)), part))
    scores = add(ops.MatMul(False, True), parts[0], parts[1])
    if mask is not None:
        scores = add(ops.Add(), add(ops.Reshape((1, windows, 2, count, count)), scores), mask)
        scores = add(ops.Reshape((windows, 2, count, count)), scores)
    out = add(ops.MatMul(), add(ops.Softmax(3), scores), parts[2])
    return add(ops.Reshape((windows, count, 8)), add(ops.Permute((0, 2, 1, 3)), out))


def vision_transformer():
    add = Net((1, 3, 16, 16))
    (x,) = add.inputs
    a = add(ops.Reshape((1, 8, 16)), add(ops.Conv2d(stride=(4, 4)), x, weights(8, 3, 4, 4)))
    a = attention(add, add(ops.Permute((0, 2, 1)), a), 1, 16)
    return add.out(add(ops.ReduceMean((1,), False), a))


def shifted_windows():
    add = Net((1, 3, 32, 32))
    (x,) = add.inputs
    a = add(ops.Permute((0, 2, 3, 1)), add(ops.Conv2d(stride=(4, 4)), x, weights(8, 3, 4, 4)))
    a = add(ops.Roll((-1, -1), (1, 2)), add(ops.LayerNorm((3,)), a, weights(8), weights(8)))
    w = add(ops.Permute((0, 1, 3, 2, 4, 5)), add(ops.Reshape((1, 2, 4, 2, 4, 8)), a))
    o = attention(add, add(ops.Reshape((4, 16, 8)), w), 4, 16, mask=weights(1, 4, 1, 16, 16))
    o = add(ops.Permute((0, 1, 3, 2, 4, 5)), add(ops.Reshape((1, 2, 2, 4, 4, 8)), o))
    o = add(ops.Roll((1, 1), (1, 2)), add(ops.Reshape((1, 8, 8, 8)), o))
    return add.out(add(ops.Conv2d(), add(ops.Permute((0, 3, 1, 2)), o), weights(4, 8, 1, 1)))


NETWORKS = {
    "squeeze-excite": (squeeze_excite, 0),
    "convnext-block": (convnext_block, 0),
    "channel-first-attention": (channel_first_attention, 0),
    "selective-kernel": (selective_kernel, 0),
    "vision-transformer": (vision_transformer, 4),  # q, k, v to heads and back
    "shifted-windows": (shifted_windows, 6),  # and the windows, there and back
}


def run_both(graph, rewrites):
    for value in graph.inputs:
        value.source = SourceView.whole(value.name, value.shape)
    result, _ = driver.run(graph, rewrites)
    rng = np.random.default_rng(0)
    inputs = [rng.standard_normal(v.shape) for v in graph.inputs]
    before = {v.name: a for v, a in graph.run(inputs).items()}
    after = result.run([v.source.apply(a) for v, a in zip(result.inputs, inputs, strict=True)])
    return result, before, after


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("io", ["nhwc", "nchw"])
def test_every_value_keeps_its_numbers_and_only_needed_transposes_stay(name, io):
    build, transposes = NETWORKS[name]
    passes = [hoist_slices, assign_layout(io), hoist_slices, lower_rank, canonicalise_views]
    result, before, after = run_both(build(), passes)
    compared = 0
    for value, array in after.items():
        if value.source is not None:
            np.testing.assert_allclose(array, value.source.apply(before[value.source.name]), rtol=1e-9, atol=1e-12)
            compared += 1
    assert compared > len(result.nodes) // 2
    assert all(v.source is not None for v in result.outputs)
    assert max(v.rank for v in result.values()) <= 4
    assert all(n.op.layout == "NHWC" for n in result.nodes if n.op.spatial)
    if io == "nhwc":
        assert sum(isinstance(n.op, ops.Permute) for n in result.nodes) == transposes
    else:
        assert result.inputs[0].shape == build().inputs[0].shape


@pytest.mark.parametrize("name", NETWORKS)
def test_channels_last_keeps_every_value_operator_and_parameter(name):
    graph = NETWORKS[name][0]()
    for value in graph.inputs:
        value.source = SourceView.whole(value.name, value.shape)
    for i, node in enumerate(graph.nodes):
        node.scope = f"net.layer{i}"
    result, _ = to_channels_last(graph)
    rng = np.random.default_rng(0)
    inputs = [rng.standard_normal(v.shape) for v in graph.inputs]
    before = {v.name: a for v, a in graph.run(inputs).items()}
    after = result.run([v.source.apply(a) for v, a in zip(result.inputs, inputs, strict=True)])
    for value, array in after.items():
        if value.source is not None:
            np.testing.assert_allclose(array, value.source.apply(before[value.source.name]), rtol=1e-9, atol=1e-12)
    assert all(v.source is not None for v in (*result.inputs, *result.outputs))
    for value in (*result.inputs, *result.outputs):
        assert value.rank != 4 or value.source.perm == (0, 2, 3, 1)
    views = (ops.Reshape, ops.Permute)
    kept = [(type(n.op), n.scope) for n in graph.nodes if not isinstance(n.op, views)]
    assert [(type(n.op), n.scope) for n in result.nodes if not isinstance(n.op, views)] == kept
    assert len(result.nodes) <= len(graph.nodes) + 2
    sizes = {v.name: v.size for v in graph.weights}
    assert {v.name: v.size for v in result.weights} == sizes


@pytest.mark.parametrize("name", NETWORKS)
def test_channels_first_is_the_way_back(name):
    """What has channels last (a source of Keras) is laid out for PyTorch as a source of PyTorch is."""
    graph = NETWORKS[name][0]()
    source, _ = to_channels_last(graph)
    for value in (*source.inputs, *(v for n in source.nodes for v in n.outputs)):
        value.source = SourceView.whole(value.name, value.shape)
    result, _ = to_channels_first(source)
    assert {n.op.layout for n in result.nodes if n.op.spatial} <= {"NCHW"}
    rng = np.random.default_rng(0)
    inputs = [rng.standard_normal(v.shape) for v in source.inputs]
    before = {v.name: a for v, a in source.run(inputs).items()}
    after = result.run([v.source.apply(a) for v, a in zip(result.inputs, inputs, strict=True)])
    for value, array in after.items():
        if value.source is not None:
            np.testing.assert_allclose(array, value.source.apply(before[value.source.name]), rtol=1e-9, atol=1e-12)
    moves = [sum(isinstance(n.op, ops.Permute) for n in g.nodes) for g in (graph, result)]
    assert moves[1] <= moves[0] and {v.name for v in result.weights} == {v.name for v in source.weights}


def test_channels_last_leaves_batch_norms_dropouts_and_names_as_they_are():
    add = Net((1, 3, 8, 8))
    (x,) = add.inputs
    a = add.norm(add(ops.Conv2d(padding=PAD1), x, (8, 3, 3, 3)))
    a = add(ops.Dropout(0.2, (2, 3)), add(ops.Relu(), a))
    add.out(add(ops.Linear(), add(ops.Reshape((1, 512)), a), (4, 512)))
    result, _ = to_channels_last(add.graph)
    kinds = [type(n.op).__name__ for n in result.nodes]
    assert kinds == ["Conv2d", "BatchNorm", "Relu", "Dropout", "Permute", "Reshape", "Linear"]
    assert result.nodes[1].op.axis == 3 and result.nodes[3].op.shared == (1, 2)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_the_cut_finds_the_cheapest_labelling(data):
    n = data.draw(st.integers(2, 6))
    cost = st.integers(0, 9)
    unary = [(data.draw(cost), data.draw(cost)) for _ in range(n)]
    pairs = []
    for a, b in itertools.combinations(range(n), 2):
        if data.draw(st.booleans()):
            c00, c11 = data.draw(cost), data.draw(cost)
            c01 = data.draw(cost)
            c10 = max(c00 + c11 - c01, 0) + data.draw(cost)
            pairs.append((a, b, ((c00, c01), (c10, c11))))

    def total(labels):
        return sum(u[x] for u, x in zip(unary, labels, strict=True)) + sum(t[labels[a]][labels[b]] for a, b, t in pairs)

    cut = Labelling()
    variables = [cut.variable() for _ in range(n)]
    for x, (zero, one) in zip(variables, unary, strict=True):
        cut.unary(x, zero, one)
    for a, b, table in pairs:
        cut.pairwise(variables[a], variables[b], table)
    found = cut.solve()
    assert total([found[x] for x in variables]) == min(map(total, itertools.product((0, 1), repeat=n)))


def test_a_value_read_both_ways_is_transposed_once():
    add = Net((1, 4, 6, 6))
    (x,) = add.inputs
    a = add(ops.Conv2d(padding=PAD1), x, weights(4, 4, 3, 3))
    # three readers that need the source's order: matrix products over the rows of every channel
    products = [add(ops.MatMul(), a, weights(1, 1, 6, 6)) for _ in range(3)]
    graph = add.out(*products)
    result, _, _ = run_both(graph, [assign_layout("nchw"), canonicalise_views])
    assert sum(isinstance(n.op, ops.Permute) for n in result.nodes) == 2  # the input, and the convolution's result


def test_five_axes_that_broadcast_alternately_still_come_down_to_four():
    add = Net((2, 3, 2, 3, 2, 2), (2, 1, 2, 1, 2, 1))
    x, y = add.inputs
    graph = add.out(add(ops.Reshape((12, 12)), add(ops.Add(), x, y)))
    result, before, after = run_both(graph, [lower_rank, canonicalise_views])
    np.testing.assert_allclose(after[result.outputs[0]], before[graph.outputs[0].name])
    assert max(v.rank for v in result.values() if v not in result.inputs) <= 4


@pytest.mark.parametrize("axis", [1, 2])
def test_the_one_channel_of_a_volume_stays_the_axis_that_a_group_norm_scales(axis):
    shape = [2, 3, 4, 5, 6]
    shape[axis] = 1
    add = Net(tuple(shape))
    norm = add(ops.GroupNorm(1, axis=axis), add.inputs[0], np.array([1.5], np.float32), np.array([0.5], np.float32))
    graph = add.out(norm)
    result, before, after = run_both(graph, [lower_rank, canonicalise_views])
    np.testing.assert_allclose(after[result.outputs[0]], before[graph.outputs[0].name])
    (node,) = (n for n in result.nodes if isinstance(n.op, ops.GroupNorm))
    assert node.inputs[0].rank <= 4
    assert node.inputs[0].shape[node.op.axis] == 1


@pytest.mark.parametrize("shape", [(1, 2, 1, 3, 1), (2, 1, 3, 1, 2, 1), (2, 1, 2, 1, 3), (1, 3, 1, 2, 1, 2, 1)])
def test_expansion_of_alternating_axes_comes_down_to_four(shape):
    add = Net(tuple(n for n in shape if n > 1))
    wide = tuple(n if n > 1 else 2 + i % 2 for i, n in enumerate(shape))
    y = add(ops.Expand(wide), add(ops.Reshape(shape), add.inputs[0]))
    graph = add.out(add(ops.Reshape((int(np.prod(wide)),)), y))
    result, before, after = run_both(graph, [lower_rank, canonicalise_views])
    np.testing.assert_array_equal(after[result.outputs[0]], before[graph.outputs[0].name])
    assert max(v.rank for v in result.values()) <= 4


@pytest.mark.parametrize("axes", [c for n in (1, 2, 3, 6) for c in itertools.combinations(range(6), n)])
@pytest.mark.parametrize("mode", ["constant", "reflect", "slice"])
def test_pads_and_slices_of_any_axes_come_down_to_four(axes, mode):
    """TFLite pads four axes at most: a transposed volume spreads its rows and columns, with others between them."""
    add = Net((24, 24))
    shape = (2, 3, 2, 4, 3, 4)
    x = add(ops.Reshape(shape), add.inputs[0])
    if mode == "slice":
        op = ops.Slice(tuple(int(i in axes) for i in range(6)), shape, (1,) * 6)
    else:
        op = ops.Pad(tuple((1, 1) if i in axes else (0, 0) for i in range(6)), mode)
    y = add(op, x)
    graph = add.out(add(ops.Reshape((y.size,)), y))
    result, before, after = run_both(graph, [lower_rank, canonicalise_views])
    np.testing.assert_array_equal(after[result.outputs[0]], before[graph.outputs[0].name])
    assert max(v.rank for v in result.values()) <= 4


@pytest.mark.parametrize("kind", [ops.ReduceMax, ops.ReduceMean, ops.ReduceSum])
@pytest.mark.parametrize("keepdims", [False, True])
def test_reduction_of_alternating_axes_comes_down_to_four(kind, keepdims):
    add = Net((2, 3, 2, 3, 2, 2))
    graph = add.out(add(kind((1, 3, 5), keepdims), add.inputs[0]))
    result, before, after = run_both(graph, [lower_rank, canonicalise_views])
    np.testing.assert_allclose(after[result.outputs[0]], before[graph.outputs[0].name])
    assert max(v.rank for v in result.values() if v not in (*result.inputs, *result.outputs)) <= 4


def merged_or_split(draw, shape):
    """A neighbouring shape: two axes merged, or one split."""
    i = draw(st.integers(0, len(shape) - 1))
    if draw(st.booleans()) and i + 1 < len(shape):
        return (*shape[:i], shape[i] * shape[i + 1], *shape[i + 2 :])
    if shape[i] % 2 == 0:
        return (*shape[:i], 2, shape[i] // 2, *shape[i + 1 :])
    return (1, *shape)


def step(draw, add, pool):
    """Append one random operator that fits a random value of ``pool``."""
    x = draw(st.sampled_from(pool))
    rank, axis = x.rank, draw(st.integers(0, max(x.rank - 1, 0)))
    partners = [v for v in pool if v.shape == x.shape]
    kind = draw(st.sampled_from(["conv", "pool", "relu", "add", "scale", "concat", "permute", "reshape", "reduce",
                                 "softmax", "norm", "slice", "pad", "linear", "matmul", "roll"]))  # fmt: skip
    if kind == "conv" and rank == 4 and min(x.shape[2:]) >= 1 and x.shape[1] <= 16:
        return add(ops.Conv2d(padding=PAD1), x, weights(draw(st.sampled_from([2, 4])), x.shape[1], 3, 3))
    if kind == "pool" and rank == 4 and min(x.shape[2:]) >= 2:
        return add(ops.MaxPool2d((2, 2), (2, 2)), x)
    if kind == "add":
        return add(ops.Add(), x, draw(st.sampled_from(partners)))
    if kind == "scale" and rank:
        return add(ops.Mul(), x, weights(*x.shape[draw(st.integers(0, rank - 1)) :]))
    if kind == "concat" and x.size < 4000:
        return add(ops.Concat(axis), x, draw(st.sampled_from(partners)))
    if kind == "permute":
        return add(ops.Permute(tuple(draw(st.permutations(range(rank))))), x)
    if kind == "reshape" and rank < 6:
        return add(ops.Reshape(merged_or_split(draw, x.shape)), x)
    if kind == "reduce" and rank > 2:
        return add(ops.ReduceMean((axis,), draw(st.booleans())), x)
    if kind == "softmax":
        return add(ops.Softmax(axis), x)
    if kind == "norm":
        return add(ops.LayerNorm((axis,)), x, weights(x.shape[axis]), weights(x.shape[axis]))
    if kind == "slice" and x.shape[axis] > 1:
        starts = [0] * rank
        starts[axis] = draw(st.integers(0, x.shape[axis] - 1))
        return add(ops.Slice(tuple(starts), x.shape, (1,) * rank), x)
    if kind == "pad" and x.size < 4000:
        return add(ops.Pad(tuple((1, 0) if i == axis else (0, 0) for i in range(rank))), x)
    if kind == "linear":
        return add(ops.Linear(), x, weights(4, x.shape[-1]))
    if kind == "matmul" and rank >= 2:
        return add(ops.MatMul(True, False), x, draw(st.sampled_from(partners)))
    if kind == "roll":
        return add(ops.Roll((1,), (axis,)), x)
    return add(ops.Relu(), x)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_random_graphs_keep_their_numbers(data):
    add = Net((1, 4, 4, 4), (2, 2, 4, 2))
    pool = list(add.inputs)
    for _ in range(data.draw(st.integers(3, 14))):
        pool.append(step(data.draw, add, pool))
    graph = add.out(pool[-1], pool[-2])
    if len({id(v) for v in graph.outputs}) < 2:
        return
    io = data.draw(st.sampled_from(["nhwc", "nchw"]))
    passes = [hoist_slices, assign_layout(io), hoist_slices, lower_rank, canonicalise_views]
    if data.draw(st.booleans()):
        passes = [assign_layout(io), shorten_views]
    result, before, after = run_both(graph, passes)
    for value, array in after.items():
        if value.source is not None:
            np.testing.assert_allclose(array, value.source.apply(before[value.source.name]), rtol=1e-6, atol=1e-9)
    for old, new in zip(graph.outputs, result.outputs, strict=True):
        # an output that only permutes another value may be that value: the same elements then, in its order
        np.testing.assert_allclose(np.sort(after[new].ravel()), np.sort(before[old.name].ravel()), rtol=1e-6, atol=1e-9)


def test_a_gather_by_a_table_of_indices_follows_the_layout():
    """Sliding windows by a table of row numbers, as tensor.unfold makes them: rank six comes down to four."""
    add = Net((1, 4, 6, 6))
    (x,) = add.inputs
    a = add(ops.Conv2d(padding=PAD1), x, weights(4, 4, 3, 3))
    table = np.array([[0, 1, 2, 3], [2, 3, 4, 5]], np.int32)
    a = add(ops.Gather(4), add(ops.Gather(2), a, table), table)  # [1, 4, 2, 4, 2, 4]
    graph = add.out(add(ops.Reshape((4, 4, 16)), add(ops.Permute((0, 2, 4, 1, 3, 5)), a)))
    passes = [flatten_gathers, hoist_slices, assign_layout(), hoist_slices, lower_rank, canonicalise_views]
    result, before, after = run_both(graph, passes)
    np.testing.assert_allclose(after[result.outputs[0]], before[graph.outputs[0].name], rtol=1e-9)
    assert max(v.rank for v in result.values()) <= 4


def test_an_embedding_beside_pictures_keeps_its_axes():
    """Rows of a table, asked for by numbers in two axes, have an axis more than the table: no order of its own."""
    add = Net((2, 4, 1, 10))
    (x,) = add.inputs
    a = add(ops.Conv2d(), x, weights(4, 4, 1, 1))
    numbers = np.array([[0, 3, 1, 6], [2, 2, 5, 4]], np.int32)
    rows = add(ops.Gather(0), weights(7, 10), numbers)
    graph = add.out(add(ops.Add(), add(ops.Reshape((2, 4, 10)), a), rows))
    result, before, after = run_both(graph, [assign_layout(), shorten_views])
    np.testing.assert_allclose(after[result.outputs[0]], before[graph.outputs[0].name], rtol=1e-9)
