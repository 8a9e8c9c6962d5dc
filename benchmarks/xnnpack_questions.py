"""The questions of the study of XNNPACK's forms: several spellings of one computation each."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
from benchmarks.xnnpack_sketch import Form, Sketch, apply, ask, conv

from instep.graph import Graph, Value, ops
from instep.rewrite.edit import Editor
from instep.rewrite.lower import DECOMPOSITIONS, Build

__all__ = ["questions"]


def questions() -> None:
    image, sr, tokens = (1, 56, 56, 64), (1, 180, 320, 32), (1, 196, 192)
    for shape in (image, sr):
        ask(
            "leaky ReLU 0.2",
            shape,
            LEAKY_RELU=lambda s: s(ops.LeakyRelu(0.2)),
            PRELU=lambda s: s(ops.Prelu(), s.x, s.c(np.full((1, 1, s.x.shape[3]), 0.2))),
            MAXIMUM_of_x_and_ax=lambda s: s(ops.Maximum(), s.x, s(ops.Mul(), s.x, s.c(0.2))),
        )
        ask(
            "SiLU",
            shape,
            LOGISTIC_MUL=lambda s: s(ops.Mul(), s.x, s(ops.Sigmoid())),
            HARD_SWISH_for_scale=lambda s: s(ops.HardSwish()),
        )
        ask(
            "GELU erf",
            shape,
            GELU=lambda s: s(ops.Gelu(False)),
            GELU_tanh=lambda s: s(ops.Gelu(True)),
            TANH=lambda s: s(ops.Tanh()),
            LOGISTIC=lambda s: s(ops.Sigmoid()),
            EXP=lambda s: s(ops.Exp()),
            ELU=lambda s: s(ops.Elu()),
            RELU=lambda s: s(ops.Relu()),
            ADD=lambda s: s(ops.Add(), s.x, s.c(1.0)),
        )
        ask(
            "scale and shift per channel",
            shape,
            MUL_ADD=lambda s: s(ops.Add(), s(ops.Mul(), s.x, s.c((s.x.shape[3],))), s.c((s.x.shape[3],))),
            DEPTHWISE_1x1=lambda s: apply(s, conv(1, s.x.shape[3], s.x.shape[3], groups=s.x.shape[3])),
            MUL_alone=lambda s: s(ops.Mul(), s.x, s.c((s.x.shape[3],))),
            MUL_scalar=lambda s: s(ops.Mul(), s.x, s.c(2.0)),
        )
        ask(
            "global mean", shape,
            MEAN=lambda s: s(ops.ReduceMean((1, 2), True)),
            MEAN_of_rows_then_columns=lambda s: s(ops.ReduceMean((1,), True), s(ops.ReduceMean((2,), True))),
            AVERAGE_POOL=lambda s: s(ops.AvgPool2d(s.x.shape[1:3], s.x.shape[1:3], layout="NHWC")),
            SUM_MUL=lambda s: s(ops.Mul(), s(ops.ReduceSum((1, 2), True)), s.c(0.1)),
            MEAN_of_rank_3=lambda s: s(
                ops.ReduceMean((1,), True), s(ops.Reshape((1, s.x.shape[1] * s.x.shape[2], s.x.shape[3])))
            ),
            DEPTHWISE=lambda s: s(
                ops.Conv2d((1, 1), groups=s.x.shape[3], layout="NHWC"), s.x, s.c((s.x.shape[3], *s.x.shape[1:3], 1))
            ),
        )  # fmt: skip
        ask(
            "3x3 convolution pads (stride 1)", shape,
            SAME=lambda s: apply(s, conv(3, s.x.shape[3], s.x.shape[3])),
            PAD_and_VALID=lambda s: apply(
                s, conv(3, s.x.shape[3], s.x.shape[3], pads=(0, 0)), s(ops.Pad(((0, 0), (1, 1), (1, 1), (0, 0))))
            ),
        )  # fmt: skip
        ask(
            "add of an image and channels", shape, (1, 1, 1, shape[3]),
            ADD=lambda s: s(ops.Add(), *s.graph.inputs), MUL=lambda s: s(ops.Mul(), *s.graph.inputs),
        )  # fmt: skip
        ask(
            "multiply by one map", shape, (*shape[:3], 1),
            MUL=lambda s: s(ops.Mul(), *s.graph.inputs), ADD_of_equal_shapes=lambda s: s(ops.Add(), s.x, s.x),
        )  # fmt: skip
    norms(image, "NHWC")
    norms(tokens, "tokens")
    shuffles()
    pools(image)
    matrices()
    joins()
    convolutions()
    layouts()
    channels()


def norms(shape: tuple[int, ...], kind: str) -> None:
    axis, c = len(shape) - 1, shape[-1]

    def affine(s: Sketch, x: Value) -> Value:
        return s(ops.Add(), s(ops.Mul(), x, s.c((c,))), s.c((c,)))

    def two_pass(s: Sketch, sum_of: Callable[[Sketch, Value], Value], finish=affine) -> Value:
        d = s(ops.Sub(), s.x, sum_of(s, s.x))
        v = sum_of(s, s(ops.Mul(), d, d))
        return finish(s, s(ops.Mul(), d, s(ops.Rsqrt(), s(ops.Add(), v, s.c(1e-5)))))

    def mean(s: Sketch, x: Value) -> Value:
        return s(ops.ReduceMean((axis,), True), x)

    def by_matrix(s: Sketch, x: Value) -> Value:
        return s(ops.Linear(), x, s.c(np.full((1, c), 1 / c)))

    def by_conv(s: Sketch, x: Value) -> Value:
        return s(ops.Conv2d(layout="NHWC"), x, s.c(np.full((1, 1, 1, c), 1 / c)))

    def square_mean(s: Sketch) -> Value:
        m = mean(s, s.x)
        d = s(ops.Sub(), s.x, m)
        v = mean(s, s(ops.SquaredDifference(), s.x, m))
        return affine(s, s(ops.Mul(), d, s(ops.Rsqrt(), s(ops.Add(), v, s.c(1e-5)))))

    def centring_matrix(s: Sketch) -> Value:
        d = s(ops.Linear(), s.x, s.c(np.eye(c) - 1 / c))
        v = by_matrix(s, s(ops.Mul(), d, d))
        return affine(s, s(ops.Mul(), d, s(ops.Rsqrt(), s(ops.Add(), v, s.c(1e-5)))))

    def divided(s: Sketch) -> Value:
        d = s(ops.Sub(), s.x, mean(s, s.x))
        v = mean(s, s(ops.Mul(), d, d))
        return affine(s, s(ops.Div(), d, s(ops.Sqrt(), s(ops.Add(), v, s.c(1e-5)))))

    def by_depthwise(s: Sketch, x: Value) -> Value:
        return apply(s, conv(1, c, c, groups=c), x if x.rank == 4 else s(ops.Reshape((1, 1, *x.shape[1:])), x))

    ask(
        f"LayerNorm over channels, {kind}", shape,
        MEAN_SUB_MUL_MEAN=lambda s: two_pass(s, mean),
        same_with_SQUARED_DIFFERENCE=square_mean,
        means_by_FULLY_CONNECTED=lambda s: two_pass(s, by_matrix),
        **({"means by 1x1 CONV": lambda s: two_pass(s, by_conv)} if len(shape) == 4 else {}),
        centring_matrix_by_FULLY_CONNECTED=centring_matrix,
        DIV_by_SQRT=divided,
        affine_by_DEPTHWISE_1x1=lambda s: two_pass(s, mean, by_depthwise),
        affine_by_DEPTHWISE_and_means_by_FC=lambda s: two_pass(s, by_matrix, by_depthwise),
        without_affine=lambda s: two_pass(s, mean, lambda s, x: x),
        MEAN_alone=lambda s: mean(s, s.x),
        FULLY_CONNECTED_mean_alone=lambda s: by_matrix(s, s.x),
        SUB_alone=lambda s: s(ops.Sub(), s.x, s.c((*s.x.shape[:-1], 1))),
    )  # fmt: skip
    if len(shape) == 4:

        def group_norm(groups: int) -> Form:
            return lambda s: s(ops.GroupNorm(groups, 1e-5, 3), s.x, s.c((c,)), s.c((c,)))

        ask(
            "GroupNorm", shape,
            one_group=group_norm(1), eight_groups=group_norm(8), instance=group_norm(c),
        )  # fmt: skip


def shuffles() -> None:
    for block, c, h, w in ((2, 3, 180, 320), (4, 3, 64, 64), (2, 64, 28, 28)):
        area = block * block

        def transposed(s: Sketch, c: int = c, area: int = area) -> Value:
            n, h, w, _ = s.x.shape
            x = s(ops.Reshape((n * h * w, c, area)))
            return s(ops.Reshape(s.x.shape), s(ops.Permute((0, 2, 1)), x))

        order = np.arange(c * area).reshape(c, area).T.reshape(-1)

        def by_conv(s: Sketch, order: np.ndarray = order) -> Value:
            n = len(order)
            return s(ops.Conv2d(layout="NHWC"), s.x, s.c(np.eye(n)[order].reshape(n, 1, 1, n)))

        def long(s: Sketch, c: int = c, block: int = block) -> Value:
            n, h, w, _ = s.x.shape
            x = s(ops.Reshape((n * h, w, block, block * c)))
            return s(ops.Reshape((n, h * block, w * block, c)), s(ops.Permute((0, 2, 1, 3)), x))

        dcr = ops.DepthToSpace(block, "DCR", "NHWC")
        ask(
            f"pixel shuffle, block {block}, {c} channels out", (1, h, w, c * area),
            DEPTH_TO_SPACE_alone=lambda s, dcr=dcr: s(dcr),
            RESHAPE_TRANSPOSE_instead=long,
            order_by_TRANSPOSE=lambda s, dcr=dcr, t=transposed: s(dcr, t(s)),
            order_by_1x1_CONV=lambda s, dcr=dcr, t=by_conv: s(dcr, t(s)),
            order_by_GATHER=lambda s, dcr=dcr, o=order: s(dcr, s(ops.Gather(3), s.x, s.c(o, "int32"))),
        )  # fmt: skip
    for groups, shape in ((2, (1, 28, 28, 24)), (2, (1, 28, 28, 48)), (2, (1, 28, 28, 116)), (3, (1, 14, 14, 480))):
        mixed = np.arange(shape[3]).reshape(groups, -1).T.reshape(-1)

        def regroup(s: Sketch, groups: int = groups) -> Value:
            n, h, w, c = s.x.shape
            turned = s(ops.Permute((0, 1, 3, 2)), s(ops.Reshape((1, n * h * w, groups, c // groups))))
            return s(ops.Reshape(s.x.shape), turned)

        def choose(s: Sketch, mixed: np.ndarray = mixed) -> Value:
            weight = s.c(np.eye(len(mixed))[mixed].reshape(len(mixed), 1, 1, -1))
            return s(ops.Conv2d(layout="NHWC"), s.x, weight)

        ask(
            f"channel shuffle of {groups} groups", shape,
            TRANSPOSE=regroup,
            one_hot_1x1_CONV=choose,
            GATHER=lambda s, o=mixed: s(ops.Gather(3), s.x, s.c(o, "int32")),
        )  # fmt: skip
    for r, shape in ((2, (1, 28, 28, 64)), (4, (1, 90, 160, 3)), (2, (1, 14, 14, 256))):

        def by_mul(s: Sketch, r: int = r) -> Value:
            n, h, w, c = s.x.shape
            rows = s(ops.Mul(), s(ops.Reshape((n * h, 1, w * c))), s.c(np.ones((1, r, 1))))
            cols = s(ops.Mul(), s(ops.Reshape((n * h * r * w, 1, c)), rows), s.c(np.ones((1, r, 1))))
            return s(ops.Reshape((n, h * r, w * r, c)), cols)

        def by_concat(s: Sketch, r: int = r) -> Value:
            n, h, w, c = s.x.shape
            wide = s(ops.Concat(2), *[s(ops.Reshape((n * h, w, c)))] * r)
            tall = s(ops.Concat(1), *[s(ops.Reshape((n * h, 1, w * c * r)), wide)] * r)
            return s(ops.Reshape((n, h * r, w * r, c)), tall)

        ask(
            f"nearest x{r}", shape,
            RESIZE_NEAREST_NEIGHBOR=lambda s, r=r: s(
                ops.Resize2d((s.x.shape[1] * r, s.x.shape[2] * r), "nearest", "asymmetric", layout="NHWC")
            ),
            RESIZE_BILINEAR_for_scale=lambda s, r=r: s(
                ops.Resize2d((s.x.shape[1] * r, s.x.shape[2] * r), layout="NHWC")
            ),
            CONCAT_and_DEPTH_TO_SPACE=lambda s, r=r: s(
                ops.DepthToSpace(r, "DCR", "NHWC"), s(ops.Concat(3), *[s.x] * (r * r))
            ),
            MUL_by_ones=by_mul,
            CONCATS=by_concat,
        )  # fmt: skip
    ask(
        "every second row and column", (1, 56, 56, 64),
        STRIDED_SLICE=lambda s: s(ops.Slice((0, 0, 0, 0), s.x.shape, (1, 2, 2, 1))),
        SPACE_TO_DEPTH_SLICE=lambda s: s(
            ops.Slice((0, 0, 0, 0), (1, 28, 28, 64), (1, 1, 1, 1)), s(ops.SpaceToDepth(2, "DCR", "NHWC"))
        ),
        RESHAPE_SLICE_twice=lambda s: s(
            ops.Reshape((1, 28, 28, 64)),
            s(
                ops.Slice((0, 0, 0, 0), (28, 28, 1, 64), (1, 1, 1, 1)),
                s(
                    ops.Reshape((28, 28, 2, 64)),
                    s(ops.Slice((0, 0, 0, 0), (28, 1, 56, 64), (1, 1, 1, 1)), s(ops.Reshape((28, 2, 56, 64)))),
                ),
            ),
        ),
        DEPTHWISE_1x1_stride_2=lambda s: s(
            ops.Conv2d((2, 2), groups=64, layout="NHWC"), s.x, s.c(np.ones((64, 1, 1, 1)))
        ),
        MAX_POOL_1x1_stride_2=lambda s: s(ops.MaxPool2d((1, 1), (2, 2), layout="NHWC")),
        RESHAPE_SLICE_once=lambda s: s(
            ops.Reshape((1, 28, 28, 64)),
            s(ops.Slice((0, 0, 0, 0), (28, 1, 28, 64), (1, 1, 1, 1)), s(ops.Reshape((28, 2, 28, 128)))),
        ),
    )  # fmt: skip


def pools(shape: tuple[int, ...]) -> None:
    pool = ops.MaxPool2d((3, 3), (2, 2), layout="NHWC")
    pads = ((0, 0), (1, 1), (1, 1), (0, 0))

    def edges(s: Sketch) -> Value:
        n, h, w, c = s.x.shape
        top = s(ops.Slice((0, 0, 0, 0), (n, 1, w, c), (1, 1, 1, 1)))
        tall = s(ops.Concat(1), top, s.x)
        left = s(ops.Slice((0, 0, 0, 0), (n, h + 1, 1, c), (1, 1, 1, 1)), tall)
        return s(pool, s(ops.Concat(2), left, tall))

    def same(s: Sketch) -> Value:
        return s(ops.MaxPool2d((3, 3), (2, 2), ((0, 1), (0, 1)), layout="NHWC"))

    ask(
        "max pool 3x3 stride 2 pads 1", (1, 112, 112, 64),
        PADV2=lambda s: s(pool, s(ops.Pad(pads, "constant", -np.inf))),
        PAD_with_zeros_after_a_ReLU=lambda s: s(pool, s(ops.Pad(pads))),
        edges_by_SLICE_CONCAT=edges,
        SAME_for_scale=same,
    )  # fmt: skip
    for k in (5, 9, 13):
        p = (k // 2, k // 2)
        ask(
            f"max pool {k}x{k} stride 1", shape,
            MAX_POOL=lambda s, k=k, p=p: s(ops.MaxPool2d((k, k), (1, 1), (p, p), layout="NHWC")),
            rows_then_columns=lambda s, k=k, p=p: s(
                ops.MaxPool2d((1, k), (1, 1), ((0, 0), p), layout="NHWC"),
                s(ops.MaxPool2d((k, 1), (1, 1), (p, (0, 0)), layout="NHWC")),
            ),
        )  # fmt: skip
    ask(
        "softmax over 49 of the last axis", (1, 12 * 49, 49),
        SOFTMAX=lambda s: s(ops.Softmax(2)),
        TRANSPOSE_SOFTMAX_TRANSPOSE=lambda s: s(
            ops.Permute((0, 2, 1)), s(ops.Softmax(2), s(ops.Permute((0, 2, 1))))
        ),
    )  # fmt: skip
    ask(
        "softmax over the first of two axes", (1, 64, 784),
        TRANSPOSE_SOFTMAX_TRANSPOSE=lambda s: s(ops.Permute((0, 2, 1)), s(ops.Softmax(2), s(ops.Permute((0, 2, 1))))),
        MAX_SUB_EXP_SUM_DIV=lambda s: (
            e := s(ops.Exp(), s(ops.Sub(), s.x, s(ops.ReduceMax((1,), True))))
        ) and s(ops.Div(), e, s(ops.ReduceSum((1,), True), e)),
    )  # fmt: skip
    turned = ops.Permute((0, 1, 3, 2))
    for rows in (4, 8, 16):
        ask(
            f"softmax with rows of {rows} behind it", (1, 98, 98, rows),
            TRANSPOSE_SOFTMAX_TRANSPOSE=lambda s: s(turned, s(ops.Softmax(3), s(turned))),
            MAX_SUB_EXP_SUM_DIV=lambda s: (
                e := s(ops.Exp(), s(ops.Sub(), s.x, s(ops.ReduceMax((2,), True))))
            ) and s(ops.Div(), e, s(ops.ReduceSum((2,), True), e)),
        )  # fmt: skip
    for heads in (4, 6, 8):

        def moved(s: Sketch, n: int = heads) -> Value:
            x = s(ops.Linear(), s(ops.Permute((0, 2, 3, 1))), s.c((n, n)), s.c((n,)))
            return s(ops.Permute((0, 3, 1, 2)), x)

        def rows_mixed(s: Sketch, n: int = heads) -> Value:
            x = s(ops.MatMul(), s.c((1, n, n)), s(ops.Reshape((1, n, 196 * 196))))
            return s(ops.Reshape((1, n, 196, 196)), s(ops.Add(), x, s.c((1, n, 1))))

        ask(
            f"a linear map over {heads} heads", (1, heads, 196, 196),
            TRANSPOSE_FC_TRANSPOSE=moved, BATCH_MATMUL_left_constant=rows_mixed,
        )  # fmt: skip


def matrices() -> None:
    for shape, out in (((1, 196, 192), 576), ((1, 49, 768), 768), ((1, 196, 192), 192)):
        c = shape[2]

        def four(s: Sketch, out: int = out, c: int = c) -> Value:
            x = s(ops.Reshape((1, 1, *s.x.shape[1:])))
            return s(ops.Reshape((1, s.x.shape[1], out)), apply(s, conv(1, out, c), x))

        ask(
            f"tokens times a matrix to {out}", shape,
            FULLY_CONNECTED=lambda s, o=out, c=c: s(ops.Linear(), s.x, s.c((o, c)), s.c((o,))),
            CONV_1x1=four,
            BATCH_MATMUL_of_a_constant=lambda s, o=out, c=c: s(
                ops.Add(), s(ops.MatMul(False, True), s.x, s.c((o, c))), s.c((o,))
            ),
            FULLY_CONNECTED_of_rank_2=lambda s, o=out, c=c: s(
                ops.Linear(), s(ops.Reshape(s.x.shape[1:])), s.c((o, c)), s.c((o,))
            ),
        )  # fmt: skip
    ask(
        "attention scores", (12, 196, 64), (12, 196, 64),
        BATCH_MATMUL_adj_y=lambda s: s(ops.MatMul(False, True), *s.graph.inputs),
        TRANSPOSE_BATCH_MATMUL=lambda s: s(ops.MatMul(), s.x, s(ops.Permute((0, 2, 1)), s.graph.inputs[1])),
        BATCH_MATMUL_of_rank_4=lambda s: s(
            ops.MatMul(False, True), *(s(ops.Reshape((1, 12, 196, 64)), v) for v in s.graph.inputs)
        ),
    )  # fmt: skip
    ask(
        "rows by a constant matrix (resize, adaptive pool) 28 to 56", (1, 28, 28, 64),
        BATCH_MATMUL_left_constant=lambda s: s(
            ops.MatMul(), s.c((1, 56, 28)), s(ops.Reshape((1, 28, 28 * 64)))
        ),
        TRANSPOSE_FC_TRANSPOSE=lambda s: s(
            ops.Permute((0, 2, 1)),
            s(ops.Linear(), s(ops.Permute((0, 2, 1)), s(ops.Reshape((1, 28, 28 * 64)))), s.c((56, 28))),
        ),
        RESIZE_BILINEAR_for_scale=lambda s: s(ops.Resize2d((56, 28), layout="NHWC")),
    )  # fmt: skip
    ask(
        "gate of squeeze and excitation", (1, 1, 1, 256),
        CONV_1x1=lambda s: apply(s, conv(1, 64, 256)),
        FULLY_CONNECTED=lambda s: s(ops.Linear(), s.x, s.c((64, 256)), s.c((64,))),
    )  # fmt: skip


def joins() -> None:
    image = (1, 56, 56, 32)
    for count in (4, 6, 8):

        def flat(s: Sketch) -> Value:
            return s(ops.Concat(3), *s.graph.inputs)

        def tree(s: Sketch) -> Value:
            values = s.graph.inputs
            return s(ops.Concat(3), *(s(ops.Concat(3), *values[i : i + 4]) for i in range(0, len(values), 4)))

        def chain(s: Sketch) -> Value:
            values = s.graph.inputs
            return s(ops.Concat(3), s(ops.Concat(3), *values[:5]), *values[5:])

        forms = {"CONCATENATION": flat} | ({"tree of CONCATENATIONs": tree, "chain": chain} if count > 5 else {})
        ask(f"join of {count}", *[image] * count, **forms)

    def joined(s: Sketch) -> Value:
        return apply(s, conv(1, 64, 128), s(ops.Concat(3), *s.graph.inputs))

    def summed(s: Sketch) -> Value:
        parts = [apply(s, conv(1, 64, 32), v) for v in s.graph.inputs]
        return s(ops.Add(), s(ops.Add(), parts[0], parts[1]), s(ops.Add(), parts[2], parts[3]))

    ask("1x1 convolution of a join of 4", *[image] * 4, CONCAT_CONV=joined, sum_of_CONVs=summed)

    def halves(s: Sketch) -> Value:
        n, h, w, c = s.x.shape
        a = s(ops.Slice((0, 0, 0, 0), (n, h, w, c // 2), (1, 1, 1, 1)))
        b = s(ops.Slice((0, 0, 0, c // 2), (n, h, w, c), (1, 1, 1, 1)))
        return s(ops.Mul(), a, b)

    ask("halves multiplied", (1, 56, 56, 128), two_SLICEs=halves)
    ask(
        "reshape between", (1, 56, 56, 64),
        RELU_RELU=lambda s: s(ops.Tanh(), s(ops.Tanh())),
        RELU_RESHAPE_RELU=lambda s: s(ops.Tanh(), s(ops.Reshape((1, 3136, 64)), s(ops.Tanh()))),
    )  # fmt: skip
    ask(
        "reflect pad of 1", (1, 64, 64, 64),
        MIRROR_PAD=lambda s: s(ops.Pad(((0, 0), (1, 1), (1, 1), (0, 0)), "reflect")),
        SLICE_CONCAT=reflected, PAD_zero_for_scale=lambda s: s(ops.Pad(((0, 0), (1, 1), (1, 1), (0, 0)))),
    )  # fmt: skip


def convolutions() -> None:
    def deconv(k: int, crops: tuple[int, int], extra: int, stride: int = 2) -> Form:
        op = ops.ConvTranspose2d((stride, stride), (crops, crops), (extra, extra), layout="NHWC")
        return lambda s: s(op, s.x, s.c((s.x.shape[3], k, k, 32)), s.c((32,)))

    def shuffled(k: int) -> Form:
        def form(s: Sketch) -> Value:
            made = conv(k, 128, s.x.shape[3])
            return s(ops.DepthToSpace(2, "DCR", "NHWC"), apply(s, made))

        return form

    for shape in ((1, 56, 56, 64), (1, 90, 160, 32)):
        ask(
            "transposed convolution 3x3, stride 2, pads 1, output pad 1", shape,
            VALID_and_SLICE=deconv(3, (1, 1), 1),
            kernel_of_4_as_SAME=deconv(4, (1, 1), 0),
            SAME_for_scale=deconv(3, (0, 1), 0),
            CONV_2x2_and_DEPTH_TO_SPACE=lambda s: s(
                ops.DepthToSpace(2, "DCR", "NHWC"),
                apply(s, (conv(2, 128, s.x.shape[3])[0].with_(padding=((0, 1), (0, 1))), (128, 2, 2, s.x.shape[3]))),
            ),
        )  # fmt: skip
        ask(
            "transposed convolution 4x4, stride 2, pads 1", shape,
            SAME=deconv(4, (1, 1), 0), CONV_3x3_and_DEPTH_TO_SPACE=shuffled(3),
        )  # fmt: skip
        ask(
            "transposed convolution 2x2, stride 2", shape,
            VALID=deconv(2, (0, 0), 0), CONV_1x1_and_DEPTH_TO_SPACE=shuffled(1),
        )  # fmt: skip

    def im2col(s: Sketch) -> Value:
        c = s.x.shape[3]
        kernels = np.tile(np.eye(9).reshape(9, 3, 3, 1), (c, 1, 1, 1))
        return s(ops.Conv2d((1, 1), ((1, 1), (1, 1)), groups=c, layout="NHWC"), s.x, s.c(kernels))

    def by_slices(s: Sketch) -> Value:
        n, h, w, c = s.x.shape
        x = s(ops.Pad(((0, 0), (1, 1), (1, 1), (0, 0))))
        parts = [s(ops.Slice((0, i, j, 0), (n, i + h, j + w, c), (1, 1, 1, 1)), x) for i in range(3) for j in range(3)]
        joined = s(ops.Reshape((n * h * w, 9, c)), s(ops.Concat(3), *parts))
        return s(ops.Reshape((n, h, w, 9 * c)), s(ops.Permute((0, 2, 1)), joined))

    def by_conv(s: Sketch) -> Value:
        c = s.x.shape[3]
        kernels = np.zeros((c, 9, 3, 3, c))
        for i in range(9):
            kernels[np.arange(c), i, i // 3, i % 3, np.arange(c)] = 1
        return s(ops.Conv2d((1, 1), ((1, 1), (1, 1)), layout="NHWC"), s.x, s.c(kernels.reshape(9 * c, 3, 3, c)))

    for shape in ((1, 28, 28, 16), (1, 28, 28, 64)):
        ask("im2col 3x3", shape, DEPTHWISE_one_hot=im2col, SLICE_CONCAT_TRANSPOSE=by_slices, CONV_one_hot=by_conv)
    for multiplier, c in ((1, 32), (2, 32), (4, 16)):
        ask(
            f"depthwise 3x3 multiplier {multiplier}", (1, 56, 56, c),
            DEPTHWISE=lambda s, c=c, m=multiplier: apply(s, (conv(3, c * m, c)[0].with_(groups=c), (c * m, 3, 3, 1))),
            CONV_dense=lambda s, c=c, m=multiplier: apply(s, conv(3, c * m, c)),
        )  # fmt: skip
    for groups, c in ((2, 64), (4, 64), (8, 64), (32, 128)):

        def split(s: Sketch, groups: int = groups, c: int = c) -> Value:
            size = c // groups
            parts = []
            for g in range(groups):
                start, stop = (0, 0, 0, g * size), (*s.x.shape[:3], (g + 1) * size)
                parts.append(apply(s, conv(3, size, size), s(ops.Slice(start, stop, (1, 1, 1, 1)))))
            return s(ops.Concat(3), *parts)

        ask(
            f"grouped 3x3, {groups} groups", (1, 28, 28, c),
            CONV_2D_grouped=lambda s, c=c, g=groups: apply(s, conv(3, c, c, groups=g)),
            SLICE_CONV_CONCAT=split, CONV_2D_block_dense=lambda s, c=c: apply(s, conv(3, c, c)),
        )  # fmt: skip
    ask(
        "3x3 depthwise then 1x1", (1, 56, 56, 64),
        DEPTHWISE_CONV=lambda s: apply(s, conv(1, 64, 64), apply(s, conv(3, 64, 64, groups=64))),
        CONV_3x3_dense=lambda s: apply(s, conv(3, 64, 64)), CONV_1x1_alone=lambda s: apply(s, conv(1, 64, 64)),
        DEPTHWISE_alone=lambda s: apply(s, conv(3, 64, 64, groups=64)),
    )  # fmt: skip
    for k in (5, 7, 11):
        ask(
            f"depthwise {k}x{k}", (1, 56, 56, 64),
            SAME=lambda s, k=k: apply(s, conv(k, 64, 64, groups=64)),
            PAD_VALID=lambda s, k=k: apply(
                s, conv(k, 64, 64, (0, 0), groups=64), s(ops.Pad(((0, 0), *[(k // 2, k // 2)] * 2, (0, 0))))
            ),
            split_into_dilated_kernels_of_25=lambda s, k=k: split_depthwise(s, k),
        )  # fmt: skip


def split_depthwise(s: Sketch, k: int) -> Value:
    """As the rewrite ``lower`` splits it: rows and columns by their remainder, each part a dilated kernel."""
    c = s.x.shape[3]
    op, shape = conv(k, c, c, groups=c)
    graph = Graph([s.x], [], [], {}, ["x"], [])
    node = graph.add(op, [s.x, graph.constant(np.zeros(shape, np.float32), "w")])
    graph.outputs, graph.output_names = [node.output], ["y"]
    edit = Editor(graph)
    DECOMPOSITIONS[ops.Conv2d](Build(edit, node))
    edit.finish()
    s.graph.nodes, s.graph.weights = graph.nodes, graph.weights
    return graph.outputs[0]


def reflected(s: Sketch) -> Value:
    x = s.x
    for axis in (1, 2):
        size = x.shape[axis]

        def at(i: int, x: Value = x, axis: int = axis) -> Value:
            starts, stops = [0] * 4, list(x.shape)
            starts[axis], stops[axis] = i, i + 1
            return s(ops.Slice(tuple(starts), tuple(stops), (1, 1, 1, 1)), x)

        x = s(ops.Concat(axis), at(1), x, at(size - 2))
    return x


def layouts() -> None:
    def moves(*perms: tuple[int, ...]) -> dict[str, Form]:
        return {str(p): lambda s, p=p: s(ops.Permute(p)) for p in perms}

    ask("transpose", (1, 56, 56, 64), **moves((0, 3, 1, 2), (0, 2, 1, 3), (0, 1, 3, 2), (0, 3, 2, 1)))
    ask("transpose of heads", (1, 196, 12, 64), **moves((0, 2, 1, 3), (0, 2, 3, 1)))
    ask("transpose of windows", (8, 7, 8, 448), **moves((0, 2, 1, 3)))


def channels() -> None:
    ask(
        "3x3 convolution 50 to n channels", (1, 64, 64, 50),
        **{f"{n}": lambda s, n=n: apply(s, conv(3, n, 50)) for n in (8, 16, 20, 25, 31, 32, 36, 48, 50, 64, 80, 96)},
        **{
            f"{a} and {b} joined": lambda s, a=a, b=b: s(
                ops.Concat(3), apply(s, conv(3, a, 50)), apply(s, conv(3, b, 50))
            )
            for a, b in ((16, 8), (32, 16), (64, 16))
        },
        **{
            "25 as 32 and a slice": lambda s: s(
                ops.Slice((0, 0, 0, 0), (1, 64, 64, 25), (1, 1, 1, 1)), apply(s, conv(3, 32, 50))
            )
        },
    )  # fmt: skip
    for c, o, h, w in ((6, 6, 180, 320), (3, 6, 180, 320), (64, 3, 160, 160), (16, 8, 90, 160), (64, 1, 90, 160)):

        def packed(s: Sketch, *, pack: int, c: int = c, o: int = o) -> Value:
            op = ops.Conv2d((1, pack), ((1, 1), (1, 1)), layout="NHWC")
            return s(ops.Reshape((*s.x.shape[:3], o)), apply(s, (op, (o * pack, 3, 2 + pack, c))))

        ask(
            f"3x3 convolution {c} to {o}, columns side by side", (1, h, w, c),
            plain=lambda s, c=c, o=o: apply(s, conv(3, o, c)),
            **{f"{p} columns": functools.partial(packed, pack=p) for p in (2, 4, 5, 16) if p * o <= 16},
        )  # fmt: skip
    for c, o in ((3, 32), (6, 6), (12, 12), (20, 20), (50, 50), (46, 46), (16, 3), (32, 3), (32, 12), (64, 48)):
        up4, up8 = (lambda n: -(-n // 4) * 4), (lambda n: -(-n // 8) * 8)

        def with_channels(ci: int, co: int, c: int = c) -> Form:
            def form(s: Sketch) -> Value:
                x = s.x if ci == c else s(ops.Pad(((0, 0), (0, 0), (0, 0), (0, ci - c))))
                return apply(s, conv(3, co, ci), x)

            return form

        def alone(ci: int, co: int) -> Form:
            return lambda s: apply(s, conv(3, co, ci), s(ops.Pad(((0, 0),) * 3 + ((0, ci - s.x.shape[3]),))))

        ask(
            f"3x3 convolution {c} to {o}, channels padded",
            (1, 90, 160, c),
            **{
                f"{c} to {o}": with_channels(c, o),
                f"{c} to {up4(o)}": with_channels(c, up4(o)),
                f"{c} to {up8(o)}": with_channels(c, up8(o)),
                f"{up4(c)} to {up4(o)} with PAD": with_channels(up4(c), up4(o)),
                f"{up8(c)} to {up8(o)} with PAD": with_channels(up8(c), up8(o)),
            },
        )
