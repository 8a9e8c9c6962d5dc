"""Folding: constants, identities, duplicates, batch norms and scales."""

from __future__ import annotations

import math

import numpy as np
import pytest

from instep.graph import ops
from instep.rewrite.fold.constants import fold_constants
from instep.rewrite.fold.duplicates import merge_constants, merge_duplicates
from instep.rewrite.fold.identities import drop_dropouts, drop_identities
from instep.rewrite.fold.reductions import unstack_reductions
from instep.rewrite.fold.scales import fold_scales, spell_scales
from instep.rewrite.fuse.activations import fuse_activations
from rewriting import Net, apply

PAD1 = ((1, 1), (1, 1))
LAYERS = {
    "conv": (ops.Conv2d(padding=PAD1), (6, 4, 3, 3)),
    "strided": (ops.Conv2d(stride=(2, 2), padding=((0, 1), (0, 1))), (6, 4, 3, 3)),
    "grouped": (ops.Conv2d(groups=2), (6, 2, 3, 3)),
    "depthwise": (ops.Conv2d(groups=4, padding=PAD1), (8, 1, 3, 3)),
    "transposed": (ops.ConvTranspose2d(stride=(2, 2), padding=PAD1, output_padding=(1, 1)), (4, 6, 3, 3)),
    "transposed-grouped": (ops.ConvTranspose2d(stride=(2, 2), groups=2), (4, 3, 2, 2)),
}


def test_constant_subgraphs_are_computed_ahead_but_large_broadcasts_are_left_to_their_readers():
    net = Net((1, 3, 4, 4))
    c = net(ops.Exp(), net.constant((3, 1, 1)))
    wide = net(ops.Expand((64, 3, 64, 64)), net.constant((3, 1, 1)))
    y = net(ops.Mul(), net.inputs[0], c)
    z = net(ops.ReduceSum((0, 2, 3), False), wide)
    counts = apply(net.out(y, z), fold_constants)
    assert counts == {"Mul": 1, "Expand": 1, "ReduceSum": 1}


def test_a_scalar_stays_a_scalar():
    net = Net((2, 3))
    c = net(ops.Slice((1,), (2,), (1,)), net(ops.Exp(), net.constant((3,))))
    y = net(ops.Mul(), net.inputs[0], net(ops.Reshape(()), c))
    assert apply(net.out(y), fold_constants) == {"Mul": 1}


def test_dropouts_go_and_inputs_and_outputs_stay_what_they_are():
    net = Net((1, 4, 6, 6))
    x = net.inputs[0]
    bare = net(ops.Dropout(0.2), x)
    inner = net(ops.Exp(), net(ops.Dropout(0.5, (2, 3)), x))
    last = net(ops.Dropout(0.5), inner)
    again = net(ops.Dropout(0.1), last)
    assert apply(net.out(bare, last, again), drop_dropouts) == {"Exp": 1, "Reshape": 2}


def test_operators_that_do_nothing_go():
    net = Net((1, 4, 6, 6))
    x = net(ops.Exp(), net.inputs[0])
    y = net(ops.Add(), x, np.zeros((4, 1, 1)))
    y = net(ops.Mul(), np.ones(()), y)
    y = net(ops.Permute((0, 2, 3, 1)), y)
    y = net(ops.Permute((0, 3, 1, 2)), y)
    y = net(ops.Reshape((4, 36)), y)
    y = net(ops.Reshape((1, 4, 6, 6)), y)
    y = net(ops.Slice((0,) * 4, (1, 4, 6, 6), (1,) * 4), y)
    y = net(ops.Pad(((0, 0),) * 4), y)
    y = net(ops.Clip(-math.inf, math.inf), y)
    y = net(ops.Relu(), y)  # exp is positive
    y = net(ops.Concat(1), y)
    y = net(ops.Cast("float64"), y)
    y = net(ops.Expand((1, 4, 6, 6)), y)
    assert apply(net.out(net(ops.Sin(), y)), drop_identities, rounds=2) == {"Exp": 1, "Sin": 1}


def test_what_looks_like_an_identity_but_changes_values_stays():
    net = Net((1, 4, 6, 6))
    x = net.inputs[0]
    y = net(ops.Add(), x, np.zeros((2, 4, 6, 6)))  # broadcasts the batch
    z = net(ops.Sub(), np.zeros((1,)), x)  # a negation
    w = net(ops.Resize2d((6, 6), scale=(1.1, 1.1)), x)  # the scale shifts the samples
    r = net(ops.Relu(), net(ops.Tanh(), x))
    counts = apply(net.out(y, z, w, r), drop_identities)
    assert counts == {"Add": 1, "Sub": 1, "Resize2d": 1, "Relu": 1, "Tanh": 1}


def test_readers_broadcast_by_themselves():
    net = Net((2, 1, 5), (2, 3, 5))
    wide = net(ops.Expand((2, 3, 5)), net.inputs[0])
    y = net(ops.Mul(), wide, net(ops.Add(), net.inputs[1], wide))
    assert apply(net.out(y), drop_identities) == {"Mul": 1, "Add": 1}
    net = Net((2, 1, 5), (5,))
    y = net(ops.Mul(), *(net(ops.Expand((2, 3, 5)), x) for x in net.inputs))
    assert apply(net.out(y), drop_identities) == {"Mul": 1, "Expand": 1}


def test_clips_in_a_row_become_one():
    net = Net((2, 50))
    y = net(ops.Relu(), net(ops.Clip(-1.0, 0.5), net.inputs[0]))
    y = net(ops.Clip(0.1, 6.0), y)
    assert apply(net.out(net(ops.Exp(), y)), drop_identities) == {"Clip": 1, "Exp": 1}


def test_slice_of_slice_with_steps():
    net = Net((1, 40))
    y = net(ops.Slice((0, 3), (1, 38), (1, 3)), net.inputs[0])
    y = net(ops.Slice((0, 1), (1, 11), (1, 2)), y)
    assert apply(net.out(y), drop_identities) == {"Slice": 1}


def test_equal_work_is_done_once_and_equal_constants_are_tied():
    net = Net((1, 4, 5, 5))
    w = net.rng.normal(size=(4, 4, 3, 3))
    a, b = (net(ops.Conv2d(), net.inputs[0], w.copy()) for _ in range(2))
    y = net(ops.Mul(), net(ops.Exp(), a), net(ops.Exp(), b))
    assert apply(net.out(y), merge_constants, merge_duplicates) == {"Conv2d": 1, "Exp": 1, "Mul": 1}


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("bias", [True, False])
def test_batch_norm_behind_a_layer_folds(kind, bias):
    op, shape = LAYERS[kind]
    net = Net((2, 4, 9, 9))
    out = op.infer(net.inputs[0].spec, net.constant(shape).spec)[0].shape[1]
    y = net(op, net.inputs[0], shape, *([(out,)] if bias else []))
    assert apply(net.out(net(ops.Relu(), net.norm(y))), fold_scales) == {op.name: 1, "Relu": 1}


@pytest.mark.parametrize("kind", LAYERS)
def test_batch_norm_behind_a_channel_last_layer_folds(kind):
    op, shape = LAYERS[kind]
    op = op.with_(layout="NHWC")
    net = Net((2, 9, 9, 4))
    y = net(op, net.inputs[0], tuple(shape[i] for i in (0, 2, 3, 1)))
    assert apply(net.out(net.norm(y, axis=3)), fold_scales) == {op.name: 1}


def test_batch_norm_behind_linear_and_conv3d_folds():
    net = Net((2, 7, 4), (1, 3, 5, 5, 5))
    y = net.norm(net(ops.Linear(), net.inputs[0], (6, 4), (6,)), axis=2)
    z = net.norm(net(ops.Conv3d(padding=((1, 1),) * 3), net.inputs[1], (4, 3, 3, 3, 3)))
    assert apply(net.out(y, z), fold_scales) == {"Linear": 1, "Conv3d": 1}


@pytest.mark.parametrize(
    ("kind", "left"),
    [
        ("conv", {"Conv2d": 1, "Add": 1}),  # the pads see zeros, not the shift
        ("grouped", {"Conv2d": 1}),
        ("depthwise", {"Conv2d": 1, "Add": 1}),
        ("transposed", {"ConvTranspose2d": 1, "Add": 1}),
    ],
)
def test_batch_norm_before_a_layer_folds_its_scale_and_where_there_is_no_padding_its_shift(kind, left):
    op, shape = LAYERS[kind]
    net = Net((1, 4, 9, 9))
    assert apply(net.out(net(op, net.norm(net.inputs[0]), shape)), fold_scales) == left


def test_batch_norm_and_relu_before_a_layer_become_one_addition():
    net = Net((1, 4, 9, 9))
    y = net(ops.Conv2d(padding=PAD1), net(ops.Relu(), net.norm(net.inputs[0])), (6, 4, 3, 3))
    assert apply(net.out(y), fold_scales, fuse_activations) == {"Add": 1, "Conv2d": 1}


def test_a_negative_scale_does_not_pass_a_relu():
    net = Net((1, 4, 9, 9))
    y = net(ops.Mul(), net.inputs[0], -net.positive(4, 1, 1))
    y = net(ops.Conv2d(), net(ops.Relu(), y), (6, 4, 3, 3))
    assert apply(net.out(y), fold_scales) == {"Mul": 1, "Relu": 1, "Conv2d": 1}


def test_shared_and_visible_values_keep_their_batch_norm():
    net = Net((1, 4, 9, 9))
    y = net(ops.Conv2d(), net.inputs[0], (4, 4, 3, 3))
    z = net.norm(y)
    assert apply(net.out(z, net(ops.Exp(), y)), fold_scales) == {"Conv2d": 1, "BatchNorm": 1, "Exp": 1}
    net = Net((1, 4, 9, 9))
    y = net(ops.Conv2d(), net.inputs[0], (4, 4, 3, 3))
    assert apply(net.out(y, net.norm(y)), fold_scales) == {"Conv2d": 1, "BatchNorm": 1}


def test_tied_weights_fold_apart():
    net = Net((1, 4, 9, 9))
    w = net.constant((4, 4, 1, 1))
    y = net.norm(net(ops.Conv2d(), net.inputs[0], w))
    y = net.norm(net(ops.Conv2d(), y, w))
    assert apply(net.out(y), fold_scales) == {"Conv2d": 2}


def test_chains_of_arithmetic_compose_and_fold():
    net = Net((1, 4, 9, 9))
    y = net(ops.Mul(), net(ops.Sub(), net.inputs[0], (1, 4, 1, 1)), np.array(2.0))
    y = net(ops.Div(), net(ops.Neg(), y), net.positive(4, 1, 1))
    counts = apply(net.out(net(ops.Exp(), net(ops.Add(), y, (1,)))), fold_scales)
    assert counts == {"Mul": 1, "Add": 1, "Exp": 1}
    y = net(ops.Sub(), np.array(1.0), net(ops.Conv2d(), net.inputs[0], (4, 4, 3, 3)))
    y = net(ops.Mul(), y, np.array(0.2))
    assert apply(net.out(y), fold_scales) == {"Conv2d": 1}


def test_a_position_table_is_not_a_bias():
    net = Net((1, 4, 9, 9))
    y = net(ops.Conv2d(), net.inputs[0], (4, 4, 3, 3))
    y = net(ops.Mul(), net(ops.Add(), y, (1, 4, 7, 7)), np.array(0.5))
    counts = apply(net.out(y), fold_scales)
    assert counts["Conv2d"] == 1 and counts["Add"] == 1


def test_scales_travel_through_views_concats_and_pools_to_the_layers():
    net = Net((1, 4, 8, 8))
    a = net(ops.Conv2d(padding=PAD1), net.inputs[0], (4, 4, 3, 3))
    b = net(ops.Conv2d(), net.inputs[0], (12, 4, 1, 1), (12,))
    b = net(ops.AvgPool2d((3, 3), (1, 1), PAD1, count_include_pad=False), b)
    y = net.norm(net(ops.Concat(1), a, b))
    y = net(ops.DepthToSpace(2), y)
    y = net(ops.Mul(), y, net.positive(4, 1, 1))
    y = net(ops.Reshape((4, 256)), y)
    y = net(ops.Mul(), y, net.positive(4, 1))
    counts = apply(net.out(y), fold_scales, rounds=2)
    assert counts == {"Conv2d": 2, "AvgPool2d": 1, "Concat": 1, "DepthToSpace": 1, "Reshape": 1}


def test_a_shift_does_not_pass_a_pool_that_counts_its_padding():
    net = Net((1, 4, 8, 8))
    y = net(ops.Conv2d(), net.inputs[0], (4, 4, 1, 1))
    y = net(ops.AvgPool2d((3, 3), (1, 1), PAD1), y)
    assert apply(net.out(net(ops.Add(), y, (4, 1, 1))), fold_scales) == {"Conv2d": 1, "AvgPool2d": 1, "Add": 1}


def test_the_attention_scale_goes_into_the_queries():
    net = Net((2, 5, 8))
    x = net(ops.Linear(), net.inputs[0], (24, 8), (24,))
    x = net(ops.Permute((2, 0, 3, 1, 4)), net(ops.Reshape((2, 5, 3, 2, 4)), x))
    q, k, v = (
        net(ops.Reshape((2, 2, 5, 4)), net(ops.Slice((i, 0, 0, 0, 0), (i + 1, 2, 2, 5, 4), (1,) * 5), x))
        for i in range(3)
    )
    s = net(ops.Mul(), net(ops.MatMul(transpose_b=True), q, k), np.array(0.5))
    y = net(ops.MatMul(), net(ops.Softmax(3), s), v)
    counts = apply(net.out(y), fold_scales)
    assert "Mul" not in counts and counts["Linear"] == 1


def test_a_gates_scale_joins_the_scale_behind_the_product():
    net = Net((1, 4, 8, 8), (1, 4, 8, 8))
    gate = net(ops.Mul(), net(ops.Relu(), net.inputs[0]), np.array(1 / 6))
    y = net(ops.Mul(), net(ops.Mul(), net.inputs[1], gate), np.array([0.3]))
    y = net(ops.Div(), net(ops.Exp(), y), net.positive(4, 1, 1))
    assert apply(net.out(y), fold_scales) == {"Relu": 1, "Mul": 2, "Exp": 1, "Div": 1}
    net = Net((1, 4, 8, 8), (1, 4, 8, 8))
    gate = net(ops.Mul(), net.inputs[0], net.positive(4, 1, 1))
    y = net(ops.Mul(), net(ops.Mul(), net.inputs[1], gate), np.array([0.3]))  # the scalar goes into the vector
    assert apply(net.out(y), fold_scales) == {"Mul": 2}


def test_arithmetic_with_a_fused_activation_goes_into_the_layer_before():
    net = Net((1, 4, 8, 8))
    y = net(ops.Add(activation="relu6"), net(ops.Conv2d(), net.inputs[0], (4, 4, 1, 1)), np.array(3.0))
    y = net(ops.Mul(), net(ops.Add(activation="relu"), net(ops.Mul(), y, np.array(-1 / 6)), (4, 1, 1)), np.array(2.0))
    assert apply(net.out(net(ops.Exp(), y)), fold_scales) == {"Conv2d": 1, "Mul": 2, "Add": 1, "Exp": 1}


def test_batch_norms_behind_relus_go_where_they_can():
    """ConvMixer: x + BN(ReLU(depthwise(x))), then a pointwise layer."""
    net = Net((1, 4, 8, 8))
    x = net(ops.Sin(), net.inputs[0])
    inner = net.norm(net(ops.Relu(), net(ops.Conv2d(padding=PAD1, groups=4), x, (4, 1, 3, 3), (4,))))
    y = net(ops.Conv2d(), net(ops.Add(), inner, x), (6, 4, 1, 1))
    counts = apply(net.out(y), fold_scales, rounds=2)
    assert counts == {"Sin": 1, "Conv2d": 2, "Relu": 1, "Add": 1}
    net = Net((1, 4, 8, 8))  # here the next layer pads: the shift stays
    y = net.norm(net(ops.Prelu(), net(ops.Conv2d(), net.inputs[0], (4, 4, 1, 1)), (4, 1, 1)))
    y = net(ops.Conv2d(padding=PAD1), net(ops.Exp(), y), (6, 4, 3, 3))
    assert apply(net.out(y), fold_scales, rounds=2) == {"Conv2d": 2, "Prelu": 1, "Add": 1, "Exp": 1}


def test_a_depthwise_layer_of_one_place_is_a_scale():
    net = Net((1, 4, 8, 8))
    y = net(ops.Conv2d(), net.inputs[0], (6, 4, 1, 1), (6,))
    y = net(ops.Conv2d(groups=6), y, (6, 1, 1, 1), (6,))
    y = net(ops.Conv2d(groups=6), net(ops.Gelu(), y), (6, 1, 1, 1), (6,))
    y = net(ops.Conv2d(), y, (4, 6, 3, 3))
    assert apply(net.out(y), fold_scales) == {"Conv2d": 2, "Gelu": 1}
    y = net(ops.Conv2d(groups=4), net.inputs[0], (4, 1, 1, 1))
    graph = net.out(net(ops.Exp(), y))
    graph.prune()
    assert apply(graph, fold_scales, rounds=2) == {"Conv2d": 1, "Exp": 1}


def test_layer_scale_in_a_residual_block_goes_into_the_projection():
    net = Net((2, 5, 8))
    y = net(ops.Linear(), net(ops.Exp(), net.inputs[0]), (8, 8), (8,))
    y = net(ops.Add(), net.inputs[0], net(ops.Mul(), y, (8,)))
    assert apply(net.out(y), fold_scales) == {"Exp": 1, "Linear": 1, "Add": 1}


def test_a_batch_norm_that_stays_is_one_product_and_one_sum():
    net = Net((1, 4, 8, 8))
    assert apply(net.out(net(ops.Exp(), net.norm(net.inputs[0]))), fold_scales, spell_scales) == {
        "Mul": 1, "Add": 1, "Exp": 1}  # fmt: skip


def test_activations_fuse_where_nothing_else_reads_the_value():
    net = Net((1, 4, 8, 8))
    y = net(ops.Relu(), net(ops.Conv2d(), net.inputs[0], (4, 4, 1, 1)))
    z = net(ops.Clip(0.0, 6.0), net(ops.Add(), y, net.inputs[0]))
    w = net(ops.Clip(0.0, 5.0), net(ops.Conv2d(), z, (4, 4, 1, 1)))
    shared = net(ops.Conv2d(), w, (4, 4, 1, 1))
    counts = apply(net.out(net(ops.Relu(), shared), shared), fuse_activations)
    assert counts == {"Conv2d": 3, "Add": 1, "Clip": 1, "Relu": 1}


@pytest.mark.parametrize("kind", [ops.ReduceSum, ops.ReduceMean, ops.ReduceMax, ops.ReduceMin, ops.ReduceProd])
@pytest.mark.parametrize("keepdims", [False, True])
def test_a_reduced_stack_is_its_parts_taken_together(kind, keepdims):
    net = Net((2, 3, 4), (2, 3, 4), (2, 3, 4))
    stack = net(ops.Concat(1), *(net(ops.Reshape((2, 1, 3, 4)), net(ops.Tanh(), x)) for x in net.inputs))
    counts = apply(net.out(net(kind((1,), keepdims), stack)), unstack_reductions)
    pair = {
        "ReduceMean": "Add",
        "ReduceSum": "Add",
        "ReduceMax": "Maximum",
        "ReduceMin": "Minimum",
        "ReduceProd": "Mul",
    }
    want = {"Tanh": 3, pair[kind((1,)).name]: 2}
    if kind is ops.ReduceMean:
        want["Mul"] = 1
    assert counts == want | ({"Reshape": 3} if keepdims else {})


def test_reductions_of_one_entry_are_reshapes_and_stacks_that_others_read_stay():
    net = Net((1, 4, 1, 1), (1, 4, 1, 1))
    pooled = net(ops.ReduceMean((2, 3), False), net(ops.Tanh(), net.inputs[0]))
    stack = net(ops.Concat(2), *net.inputs)
    wide = net(ops.Concat(1), *net.inputs)
    graph = net.out(pooled, stack, net(ops.ReduceSum((2,), False), stack), net(ops.ReduceSum((1,), False), wide))
    assert apply(graph, unstack_reductions) == {"Tanh": 1, "Reshape": 1, "Concat": 2, "ReduceSum": 2}
