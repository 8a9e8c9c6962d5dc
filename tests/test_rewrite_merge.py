"""Merging layers: parallel branches, layers in a row, products with constants, norms into layers."""

from __future__ import annotations

import numpy as np
import pytest

from instep.graph import ops
from instep.rewrite.fold.branches import merge_branches
from instep.rewrite.fold.norms import fold_norm_scales
from instep.rewrite.fold.scales import fold_scales
from instep.rewrite.fold.sequences import linear_from_matmul, merge_sequences
from rewriting import Net, apply

PAD1 = ((1, 1), (1, 1))


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_a_repvgg_block_is_one_convolution(groups, layout):
    first = layout == "NCHW"
    net = Net((1, 4, 7, 6) if first else (1, 7, 6, 4))
    axis = 1 if first else 3

    def weight(k):
        return (4, 4 // groups, k, k) if first else (4, k, k, 4 // groups)

    x = net(ops.Exp(), net.inputs[0])
    a = net.norm(net(ops.Conv2d(padding=PAD1, groups=groups, layout=layout), x, weight(3)), axis)
    b = net.norm(net(ops.Conv2d(groups=groups, layout=layout), x, weight(1)), axis)
    y = net(ops.Relu(), net(ops.Add(), net(ops.Add(), a, b), x))
    assert apply(net.out(y), fold_scales, merge_branches) == {"Exp": 1, "Conv2d": 1, "Relu": 1}


def test_strided_branches_and_crosses_merge_and_wide_thin_ones_do_not():
    net = Net((1, 4, 9, 9))
    a = net(ops.Conv2d((2, 2), PAD1), net.inputs[0], (6, 4, 3, 3), (6,))
    b = net(ops.Conv2d((2, 2)), net.inputs[0], (6, 4, 1, 1), (6,))
    assert apply(net.out(net(ops.Sub(), a, b)), merge_branches) == {"Conv2d": 1}
    net = Net((1, 4, 9, 9))
    a = net(ops.Conv2d(padding=((2, 2), (0, 0))), net.inputs[0], (4, 4, 5, 1))
    b = net(ops.Conv2d(padding=((0, 0), (2, 2))), net.inputs[0], (4, 4, 1, 5))
    assert apply(net.out(net(ops.Add(), a, b)), merge_branches) == {"Conv2d": 2, "Add": 1}
    net.graph.prune()
    c = net(ops.Conv2d(padding=((2, 2), (2, 2))), net.inputs[0], (4, 4, 5, 5))
    y = net(ops.Add(), net.graph.nodes[-2].output, c)
    assert apply(net.out(net(ops.Add(), y, net.inputs[0])), merge_branches) == {"Conv2d": 1}


def test_dilated_and_one_by_one_branches_merge_on_the_dilated_grid():
    net = Net((1, 4, 9, 9))
    a = net(ops.Conv2d(padding=((2, 2), (2, 2)), dilation=(2, 2)), net.inputs[0], (4, 4, 3, 3))
    b = net(ops.Conv2d(), net.inputs[0], (4, 4, 1, 1))
    assert apply(net.out(net(ops.Add(), a, b)), merge_branches) == {"Conv2d": 1}


@pytest.mark.parametrize("groups", [1, 4])
def test_a_normed_identity_merges_into_the_convolution_beside_it(groups):
    net = Net((1, 4, 7, 6))
    x = net(ops.Exp(), net.inputs[0])
    y = net(ops.Add(), net(ops.Conv2d(padding=PAD1, groups=groups), x, (4, 4 // groups, 3, 3)), net.norm(x))
    assert apply(net.out(net(ops.Relu(), y)), merge_branches) == {"Exp": 1, "Conv2d": 1, "Relu": 1}
    y = net(ops.Sub(), net(ops.Conv2d(), x, (4, 4, 1, 1)), net.norm(x))
    y = net(ops.Add(), x, net(ops.Mul(), y, net.positive(4, 1, 1)))
    net.graph.outputs = []
    graph = net.out(y)
    graph.prune()
    assert apply(graph, fold_scales, merge_branches) == {"Exp": 1, "Conv2d": 1}


def test_two_scaled_identities_are_no_convolution():
    net = Net((1, 4, 7, 6))
    x = net.inputs[0]
    assert apply(net.out(net(ops.Add(), net.norm(x), net.norm(x))), merge_branches) == {"BatchNorm": 2, "Add": 1}


def test_other_terms_of_the_sum_stay_and_shared_branches_do_not_merge():
    net = Net((1, 4, 7, 7), (1, 4, 7, 7))
    a = net(ops.Conv2d(padding=PAD1), net.inputs[0], (4, 4, 3, 3))
    b = net(ops.Conv2d(padding=PAD1), net.inputs[0], (4, 4, 3, 3))
    y = net(ops.Add(), net(ops.Sub(), a, net.inputs[1]), b)
    assert apply(net.out(y), merge_branches) == {"Conv2d": 1, "Sub": 1}
    assert apply(net.out(y, b), merge_branches) == {"Conv2d": 2, "Add": 1, "Sub": 1}


def test_an_activation_inside_a_branch_keeps_it():
    net = Net((1, 4, 7, 7))
    a = net(ops.Conv2d(padding=PAD1, activation="relu"), net.inputs[0], (4, 4, 3, 3))
    assert apply(net.out(net(ops.Add(), a, net.inputs[0])), merge_branches) == {"Conv2d": 1, "Add": 1}


def test_layers_in_a_row_merge_when_that_is_no_more_work():
    net = Net((1, 4, 7, 7))
    y = net(ops.Conv2d(padding=PAD1), net.inputs[0], (16, 4, 3, 3), (16,))
    y = net(ops.Conv2d(), y, (4, 16, 1, 1), (4,))
    assert apply(net.out(y), merge_sequences) == {"Conv2d": 1}
    net = Net((1, 4, 7, 7))
    y = net(ops.Conv2d(), net.inputs[0], (8, 4, 1, 1))
    y = net(ops.Conv2d(padding=PAD1), y, (6, 8, 3, 3), (6,))
    assert apply(net.out(y), merge_sequences) == {"Conv2d": 1}
    net = Net((2, 5, 8))
    y = net(ops.Linear(), net(ops.Linear(), net.inputs[0], (8, 8), (8,)), (8, 8), (8,))
    assert apply(net.out(y), merge_sequences) == {"Linear": 1}


def test_layers_in_a_row_that_must_stay():
    net = Net((1, 4, 7, 7))  # the pads see zeros, not the first bias
    y = net(ops.Conv2d(), net.inputs[0], (8, 4, 1, 1), (8,))
    y = net(ops.Conv2d(padding=PAD1), y, (6, 8, 3, 3), (6,))
    assert apply(net.out(y), merge_sequences) == {"Conv2d": 2}
    net = Net((1, 40, 7, 7))  # a bottleneck is less work
    y = net(ops.Conv2d(), net(ops.Conv2d(), net.inputs[0], (2, 40, 1, 1)), (40, 2, 1, 1))
    assert apply(net.out(y), merge_sequences) == {"Conv2d": 2}


def test_a_product_with_a_constant_matrix_is_a_linear_layer():
    net = Net((2, 3, 5, 8))
    y = net(ops.MatMul(), net.inputs[0], (8, 6))
    y = net(ops.Add(), net(ops.MatMul(transpose_b=True), y, (1, 1, 4, 6)), (4,))
    assert apply(net.out(y), linear_from_matmul, fold_scales) == {"Linear": 2}
    net = Net((5, 8))
    assert apply(net.out(net(ops.MatMul(), net.inputs[0], (3, 8, 6))), linear_from_matmul) == {"MatMul": 1}


def test_a_layer_norms_scale_and_shift_go_into_the_layers_that_read_it():
    from instep.rewrite.driver import run

    net = Net((2, 5, 8))
    n = net(ops.LayerNorm((2,)), net.inputs[0], (8,), (8,))
    y = net(ops.Add(), net(ops.Linear(), n, (8, 8)), net(ops.Relu(), net(ops.Linear(), n, (8, 8), (8,))))
    graph = net.out(y)
    assert apply(graph, fold_norm_scales) == {"LayerNorm": 1, "Linear": 2, "Relu": 1, "Add": 1}
    result, _ = run(graph, [fold_norm_scales])
    norm = next(n for n in result.nodes if isinstance(n.op, ops.LayerNorm))
    assert np.all(result.weights[norm.inputs[1]] == 1) and np.all(result.weights[norm.inputs[2]] == 0)
    # a residual reads it too: nothing may change
    _, reports = run(net.out(net(ops.Add(), y, n)), [fold_norm_scales])
    assert not reports[0].changed


def test_a_padded_convolution_behind_a_norm_takes_the_scale_and_leaves_the_shift():
    net = Net((1, 8, 6, 6))
    n = net(ops.GroupNorm(2), net.inputs[0], net.positive(8), (8,))
    assert apply(net.out(net(ops.Conv2d(padding=PAD1), n, (4, 8, 3, 3))), fold_norm_scales) == {
        "GroupNorm": 1, "Conv2d": 1}  # fmt: skip


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_branches_of_several_layers_merge_with_the_convolution_beside_them(layout):
    """An edge-oriented block (Zhang et al., 2021): 1×1 padded with its own bias, then 3×3, dense and depthwise."""
    first = layout == "NCHW"
    net = Net((1, 4, 7, 6) if first else (1, 7, 6, 4))

    def conv(x, o, i, k, padding=((0, 0), (0, 0)), groups=1):
        weight = (o, i // groups, k, k) if first else (o, k, k, i // groups)
        return net(ops.Conv2d(padding=padding, groups=groups, layout=layout), x, weight, (o,))

    x = net(ops.Exp(), net.inputs[0])
    y = conv(x, 4, 4, 3, PAD1)
    y = net(ops.Add(), y, conv(conv(x, 8, 4, 1, PAD1), 4, 8, 3))
    y = net(ops.Sub(), y, conv(conv(x, 4, 4, 1, PAD1), 4, 4, 3, groups=4))
    y = net(ops.Add(), y, conv(conv(conv(x, 8, 4, 1, PAD1), 8, 8, 3), 4, 8, 1))
    assert apply(net.out(net(ops.Relu(), y)), merge_branches) == {"Exp": 1, "Conv2d": 1, "Relu": 1}


def test_a_row_of_layers_stays_where_one_would_cost_more():
    net = Net((1, 8, 9, 9))
    a = net(ops.Conv2d(padding=PAD1), net.inputs[0], (2, 8, 3, 3))
    b = net(ops.Conv2d(), net(ops.Conv2d(padding=PAD1), net.inputs[0], (1, 8, 1, 1)), (2, 1, 3, 3))
    assert apply(net.out(net(ops.Add(), a, b)), merge_branches) == {"Conv2d": 1}
    net = Net((1, 8, 9, 9))
    # two separable branches: 8·8 + 9·8 products each, dense 8·8·9
    dw = [
        net(ops.Conv2d(padding=PAD1, groups=8), net(ops.Conv2d(), net.inputs[0], (8, 8, 1, 1)), (8, 1, 3, 3))
        for _ in "ab"
    ]
    assert apply(net.out(net(ops.Add(), *dw)), merge_branches) == {"Conv2d": 4, "Add": 1}


def test_a_border_filled_by_the_bias_is_not_a_border_of_zeros():
    """1×1 with a bias, then 3×3 that pads with zeros: at the border the bias is missing, so they stay two."""
    net = Net((1, 2, 7, 7))
    y = net(ops.Conv2d(), net.inputs[0], (16, 2, 1, 1), (16,))
    assert apply(net.out(net(ops.Conv2d(padding=PAD1), y, (2, 16, 3, 3))), merge_sequences) == {"Conv2d": 2}
    net = Net((1, 2, 7, 7))
    y = net(ops.Conv2d(padding=PAD1), net.inputs[0], (16, 2, 1, 1), (16,))
    assert apply(net.out(net(ops.Conv2d(), y, (2, 16, 3, 3))), merge_sequences) == {"Conv2d": 1}
    net = Net((1, 2, 7, 7))
    y = net(ops.Conv2d(padding=((2, 0), (1, 0))), net.inputs[0], (16, 2, 1, 1))
    assert apply(net.out(net(ops.Conv2d(padding=PAD1), y, (2, 16, 3, 3), (2,))), merge_sequences) == {"Conv2d": 1}


@pytest.mark.parametrize(("one", "two"), [(1, 1), (1, 6), (6, 1), (2, 6), (3, 2), (6, 6)])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_grouped_layers_in_a_row_merge_where_it_pays(one, two, layout):
    first = layout == "NCHW"
    net = Net((1, 6, 5, 5) if first else (1, 5, 5, 6))

    def weight(o, i):
        return (o, i, 1, 1) if first else (o, 1, 1, i)

    y = net(ops.Conv2d(groups=one, layout=layout), net.inputs[0], weight(6, 6 // one), (6,))
    y = net(ops.Conv2d(groups=two, layout=layout), y, weight(6, 6 // two), (6,))
    groups = np.gcd(one, two)
    pays = 36 // groups <= 36 // one + 36 // two
    assert apply(net.out(y), merge_sequences) == {"Conv2d": 1 if pays else 2}
