"""Runs in a child process: builds Keras models, saves each as .keras and .h5, and keeps what Keras makes of inputs.

``python keras_cases.py FOLDER [NAME …]``; the backend is KERAS_BACKEND's. ``NAME`` of keras.applications builds that.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers as L
from keras import ops

from keras_case_names import ARCHIVES_ALONE

CASES: dict[str, Any] = {}


def case(function: Any) -> Any:
    CASES[function.__name__] = function
    return function


def chain(shape: tuple[int, ...], *stack: Any, dtype: str = "float32") -> keras.Model:
    x = i = keras.Input(shape, dtype=dtype, name="x")
    for layer in stack:
        x = layer(x)
    return keras.Model(i, x)


def many(shape: tuple[int, ...], *heads: Any) -> keras.Model:
    """One input, one output per layer."""
    i = keras.Input(shape, name="x")
    return keras.Model(i, [h(i) for h in heads])


@case
def convolutions() -> keras.Model:
    rng = np.random.default_rng(1)
    heads = []
    for n in range(14):
        stride = int(rng.integers(1, 4))
        heads.append(
            L.Conv2D(
                6, tuple(int(k) for k in rng.integers(1, 5, 2)), strides=stride, padding=("same", "valid")[n % 2],
                dilation_rate=1 if stride > 1 else tuple(int(d) for d in rng.integers(1, 3, 2)),
                groups=(1, 2, 3)[n % 3], use_bias=bool(n % 4), activation=("relu", "tanh", None)[n % 3],
            )
        )  # fmt: skip
    return many((13, 17, 6), *heads)


@case
def depthwise() -> keras.Model:
    return many(
        (12, 11, 5),
        L.DepthwiseConv2D(3, strides=2, padding="same"),
        L.DepthwiseConv2D((3, 5), depth_multiplier=3, use_bias=False),
        L.DepthwiseConv2D(3, dilation_rate=2, padding="same", activation="relu6"),
        L.SeparableConv2D(7, 3, strides=2, padding="same", depth_multiplier=2),
        L.SeparableConv2D(4, (1, 3), use_bias=False, activation="silu"),
    )


@case
def lines() -> keras.Model:
    return many(
        (21, 4),
        L.Conv1D(6, 3, strides=2, padding="same"),
        L.Conv1D(6, 4, dilation_rate=2, padding="causal"),
        L.Conv1D(8, 3, groups=4),
        L.DepthwiseConv1D(3, depth_multiplier=2),
        L.SeparableConv1D(5, 3, padding="same"),
        L.Conv1DTranspose(3, 4, strides=3, padding="same"),
        L.MaxPooling1D(3, 2, padding="same"),
        L.AveragePooling1D(4, 3, padding="same"),
        L.UpSampling1D(3),
        L.ZeroPadding1D((2, 1)),
        L.Cropping1D((1, 3)),
        L.GlobalAveragePooling1D(),
        L.GlobalMaxPooling1D(keepdims=True),
    )


@case
def transposed() -> keras.Model:
    heads = [
        L.Conv2DTranspose(4, k, strides=s, padding=p, use_bias=bool(k % 2), activation=("relu", None)[s % 2])
        for k, s, p in [(3, 2, "same"), (4, 2, "same"), (2, 2, "valid"), (3, 1, "same"), (5, 3, "valid"),
                        (2, 3, "same")]
    ]  # fmt: skip
    heads += [
        L.Conv2DTranspose(3, (3, 4), strides=(1, 2), padding="valid"),
        L.Conv2DTranspose(3, 3, strides=2, padding="same", output_padding=1),
        L.Conv2DTranspose(3, 3, strides=3, padding="valid", output_padding=1),
    ]
    if keras.backend.backend() == "jax":  # TensorFlow's has no dilation on a CPU
        heads.append(L.Conv2DTranspose(3, 3, dilation_rate=2, padding="valid"))
    return many((5, 7, 6), *heads)


@case
def volumes() -> keras.Model:
    return many(
        (6, 7, 8, 3),
        L.Conv3D(4, 3, strides=2, padding="same"),
        L.Conv3D(4, (1, 2, 3), activation="relu"),
        L.Conv3DTranspose(2, 3, strides=2, padding="same"),
        L.MaxPooling3D(2, padding="same"),
        L.AveragePooling3D((2, 3, 3), strides=2, padding="same"),
        L.GlobalAveragePooling3D(),
        L.ZeroPadding3D(((1, 0), (0, 2), (1, 1))),
        L.Cropping3D(1),
        L.UpSampling3D((1, 2, 2)),
    )


@case
def pools() -> keras.Model:
    heads = [
        kind(k, s, padding=p)
        for kind in (L.MaxPooling2D, L.AveragePooling2D)
        for k, s, p in [(2, None, "valid"), (3, 2, "same"), ((2, 3), (1, 2), "same"), (3, 1, "valid")]
    ]
    heads += [L.GlobalAveragePooling2D(), L.GlobalMaxPooling2D(keepdims=True)]
    return many((11, 14, 3), *heads)


@case
def norms() -> keras.Model:
    return many(
        (6, 5, 12),
        L.BatchNormalization(),
        L.BatchNormalization(scale=False, momentum=0.9, epsilon=1e-5),
        L.BatchNormalization(center=False, axis=1),
        L.BatchNormalization(center=False, scale=False),
        L.LayerNormalization(),
        L.LayerNormalization(axis=(1, 2, 3), epsilon=1e-5),
        L.LayerNormalization(center=False),
        L.LayerNormalization(scale=False, axis=-2),
        L.GroupNormalization(4),
        L.GroupNormalization(-1, scale=False),
        L.GroupNormalization(1, epsilon=1e-6),
        L.UnitNormalization(),
        L.RMSNormalization(),
        L.Normalization(mean=[1.0] * 12, variance=[0.5] * 12),
        L.Normalization(mean=0.3, variance=2.0, invert=True, axis=None),
        L.Normalization(axis=-1),
    )


ACTIVATIONS = ("relu", "relu6", "sigmoid", "tanh", "softmax", "softplus", "softsign", "selu", "elu", "exponential",
               "linear", "leaky_relu", "silu", "swish", "gelu", "hard_sigmoid", "hard_silu", "hard_swish", "mish",
               "log_softmax", "tanh_shrink", "soft_shrink", "hard_shrink", "hard_tanh", "squareplus", "log_sigmoid",
               "celu", "glu", "sparse_sigmoid")  # fmt: skip


@case
def activations() -> keras.Model:
    return many(
        (4, 5, 6),
        *[L.Activation(a) for a in ACTIVATIONS],
        L.ReLU(),
        L.ReLU(max_value=6),
        L.ReLU(max_value=1.5, negative_slope=0.1),
        L.ReLU(threshold=0.5),
        L.ReLU(max_value=2.0, negative_slope=0.2, threshold=0.3),
        L.ReLU(negative_slope=0.3),
        L.LeakyReLU(),
        L.LeakyReLU(negative_slope=0.05),
        L.PReLU(alpha_initializer="glorot_uniform"),
        L.PReLU(shared_axes=[1, 2], alpha_initializer="random_normal"),
        L.PReLU(shared_axes=[3], alpha_initializer="random_normal"),
        L.ELU(0.7),
        L.Softmax(),
        L.Softmax(axis=1),
        L.Softmax(axis=(1, 2)),
    )


@case
def shapes() -> keras.Model:
    i = keras.Input((6, 8, 4), name="x")
    flat = L.Flatten()(i)
    return keras.Model(
        i,
        [
            flat,
            L.Reshape((4, -1))(i),
            L.Permute((3, 1, 2))(i),
            L.RepeatVector(3)(L.Dense(5)(flat)),
            L.ZeroPadding2D(((1, 2), (0, 3)))(i),
            L.ZeroPadding2D(2)(i),
            L.Cropping2D(((1, 2), (0, 3)))(i),
            L.UpSampling2D(2)(i),
            L.UpSampling2D((3, 2), interpolation="bilinear")(i),
            L.Resizing(9, 5)(i),
            L.Resizing(4, 13, interpolation="nearest")(i),
            L.Rescaling(1 / 127.5, offset=-1)(i),
            L.Rescaling([1.0, 2.0, 3.0, 4.0], offset=[0.5, 0.0, 0.0, 1.0])(i),
            L.CenterCrop(4, 5)(i),
            L.Dropout(0.3)(i),
            L.SpatialDropout2D(0.2)(i),
            L.GaussianNoise(0.1)(i),
            L.Identity()(i),
        ],
    )


@case
def joins() -> keras.Model:
    a, b = keras.Input((5, 6), name="a"), keras.Input((5, 6), name="b")
    c = L.Dense(6)(L.Flatten()(a))
    kinds = [L.Add, L.Subtract, L.Multiply, L.Average, L.Maximum, L.Minimum, L.Concatenate]
    outs = [k()([a, b]) for k in kinds] + [L.Concatenate(axis=1)([a, b, a]), L.Add()([a, b, a])]
    outs += [L.Dot(axes=2)([a, b]), L.Dot(axes=(1, 1), normalize=True)([a, b]), L.Multiply()([a, c]), L.Dot(1)([c, c])]
    return keras.Model([a, b], outs)


@case
def attention() -> keras.Model:
    i, j = keras.Input((7, 8), name="i"), keras.Input((5, 6), name="j")
    both = L.MultiHeadAttention(3, 4)(i, j)
    own = L.MultiHeadAttention(2, 4, output_shape=9, use_bias=False)(i, i, use_causal_mask=True)
    plain = L.Attention(use_scale=True)([i, L.Dense(8)(j)])
    added = L.AdditiveAttention()([i, L.Dense(8)(j)])
    keyed = L.AdditiveAttention(use_scale=False)([i, j, L.Dense(8)(j)])
    einsum = L.EinsumDense("abc,cde->abde", output_shape=(None, 2, 3), bias_axes="de", activation="relu")(i)
    back = L.EinsumDense("...de,def->...f", output_shape=(4,), bias_axes="f")(einsum)
    return keras.Model([i, j], [both, own, plain, added, keyed, einsum, back])


@case
def recurrent() -> keras.Model:
    return many(
        (5, 4),
        L.LSTM(3),
        L.LSTM(3, return_sequences=True, go_backwards=True, use_bias=False),
        L.GRU(3, return_sequences=True),
        L.GRU(4, reset_after=False),
        L.SimpleRNN(3, activation="relu"),
        L.Bidirectional(L.LSTM(3, return_sequences=True)),
        L.Bidirectional(L.GRU(2), merge_mode="sum"),
        L.TimeDistributed(L.Dense(3, activation="tanh")),
    )


@case
def states() -> keras.Model:
    """What one recurrent layer ends with is what the next begins with, in both directions."""
    x = keras.Input((5, 4), name="x")
    y, *last = L.Bidirectional(L.LSTM(3, return_sequences=True, return_state=True))(x)
    z, h = L.Bidirectional(L.GRU(2, return_state=True), merge_mode="mul")(y)[:2]
    both = L.Bidirectional(L.LSTM(3), merge_mode="sum")(x, initial_state=last)
    word = L.LSTM(3, return_sequences=True)(y, initial_state=last[:2])
    return keras.Model(x, [y, *last, z, h, both, word, L.GRU(2)(x, initial_state=h)])


@case
def nested() -> keras.Model:
    block = keras.Sequential([keras.Input((8, 8, 4)), L.Conv2D(4, 3, padding="same"), L.BatchNormalization(), L.ReLU()],
                             name="block")  # fmt: skip
    a = keras.Input((8, 8, 4), name="a")
    inner_out = L.Concatenate()([block(a), a])
    inner = keras.Model(a, [inner_out, L.GlobalAveragePooling2D()(inner_out)], name="inner")
    x = keras.Input((8, 8, 4), name="x")
    shared = L.Conv2D(4, 1, name="shared")
    y, z = inner(block(shared(x)))
    u, v = inner(shared(block(x)))
    frames = L.TimeDistributed(keras.Sequential([keras.Input((8, 4)), L.Conv1D(3, 3), L.BatchNormalization()]))(x)
    return keras.Model(x, {"late": L.Dense(3)(z), "y": y, "sum": L.Add()([u, y]), "v": v, "frames": frames})


@case
def sequential() -> keras.Model:
    return keras.Sequential(
        [keras.Input((16, 16, 3)), L.Conv2D(4, 3, activation="relu", name="conv"), L.MaxPooling2D(), L.Flatten(),
         L.Dropout(0.5), L.Dense(10, activation="softmax", name="head")]
    )  # fmt: skip


@case
def words() -> keras.Model:
    return chain((9,), L.Embedding(20, 6), L.Conv1D(4, 3), L.GlobalMaxPooling1D(), dtype="int32")


@case
def functions() -> keras.Model:
    i = keras.Input((6, 5, 4), name="x")
    x = ops.relu6(i * 2.0 + 1.0) / 3.0 - (1.0 - i)
    parts = ops.split(x, 2, axis=-1)
    outs = [
        x,
        ops.concatenate([parts[1], parts[0]], axis=-1),
        ops.mean(x, axis=(1, 2), keepdims=True),
        ops.max(x, axis=-1),
        ops.reshape(x, (-1, 30, 4)),
        ops.transpose(x, (0, 3, 1, 2)),
        x[:, 1:-1, ::2],
        x[..., 0],
        x[:, ::-1, 1, None],
        ops.sqrt(ops.abs(x) + 1.0),
        ops.maximum(x, 0.5),
        ops.matmul(ops.reshape(x, (-1, 30, 4)), ops.transpose(ops.reshape(x, (-1, 30, 4)), (0, 2, 1))),
        ops.expand_dims(ops.sum(x, axis=1), 1),
        ops.squeeze(ops.mean(x, axis=2, keepdims=True), 2),
        ops.stack([x, x], axis=1),
        ops.pad(x, [[0, 0], [1, 2], [0, 0], [0, 0]]),
        ops.pad(x, [[0, 0], [1, 2], [2, 0], [0, 0]], mode="reflect"),
        ops.clip(x, -0.5, 0.5),
        ops.where(x > 0.2, x, 0.1),
        ops.softmax(x, axis=1),
        ops.gelu(x),
        ops.leaky_relu(x),
        ops.hard_sigmoid(x),
        ops.square(x) ** 1.5,
        ops.roll(x, 2, 1),
        ops.tile(x, (1, 2, 1, 1)),
        ops.repeat(x, 2, axis=2),
        ops.image.resize(x, (9, 7), interpolation="bilinear"),
        ops.take(x, [2, 0, -1], axis=1),
        ops.normalize(x, axis=-1),
        ops.exp(-x) * ops.sigmoid(x) + ops.tanh(x),
        ops.log1p(ops.abs(x) * 1e-4) * 1e4,
    ]
    return keras.Model(i, outs)


@case
def products() -> keras.Model:
    """Kernels that are constants, and kernels that are computed."""
    rng = np.random.default_rng(2)
    x, k = keras.Input((10, 9, 4), name="x"), keras.Input((3, 3, 4, 6), name="k")
    line, row = keras.Input((9, 4), name="line"), ops.mean(x, axis=1)
    kernel = ops.mean(k, axis=0)
    wide = ops.mean(kernel, axis=3, keepdims=True)

    def numbers(*shape: int) -> Any:
        return ops.convert_to_tensor(rng.standard_normal(shape).astype(np.float32))

    outs = [
        ops.conv(x, numbers(3, 2, 4, 6), strides=2, padding="same"),
        ops.conv(x, numbers(3, 3, 4, 6), dilation_rate=2),
        ops.conv(x, kernel, padding="same"),
        ops.conv(line, numbers(4, 4, 5), strides=3),
        ops.depthwise_conv(x, numbers(3, 3, 4, 2), padding="same"),
        ops.depthwise_conv(x, wide, strides=2),
        ops.depthwise_conv(line, numbers(3, 4, 2)),
        ops.separable_conv(x, numbers(3, 3, 4, 2), numbers(1, 1, 8, 3)),
        ops.max_pool(x, 3, 2, "same"),
        ops.average_pool(x, (2, 3), 2, "same"),
        ops.average_pool(line, 2),
        ops.einsum("bhwc,bhwd->bcd", x, x),
        ops.einsum("bhwc,bwc->bwh", x, row),
        ops.einsum("...c,cd->...d", x, numbers(4, 3)),
        ops.einsum("bhwc,bwd,dce->bhe", x, row, numbers(4, 4, 2)),
        ops.matmul(x, numbers(4, 3)),
        ops.matmul(x, numbers(4)),
        ops.logsumexp(x, axis=-1),
        ops.log1p(ops.abs(x)),
        ops.swapaxes(x, 1, 3),
        ops.moveaxis(x, -1, 1),
        ops.cumsum(x, axis=2),
        ops.take_along_axis(x, ops.argmax(x, axis=2, keepdims=True), axis=2),
        *ops.top_k(x, 2),
    ]
    return keras.Model([x, k, line], outs)


@case
def cells() -> keras.Model:
    """Cells in a row, pictures that follow each other, heads that share their keys, a kernel that training divides."""
    x, film, line = (
        keras.Input((5, 4), name="x"),
        keras.Input((3, 7, 6, 2), name="film"),
        keras.Input((3, 8, 2), name="l"),
    )
    rows = L.RNN([L.LSTMCell(4), L.GRUCell(3, reset_after=False), L.GRUCell(2)], return_sequences=True)(x)
    outs = [
        rows,
        *L.RNN([L.SimpleRNNCell(3), L.LSTMCell(2)], return_state=True, go_backwards=True)(x),
        L.RNN(L.GRUCell(3))(x),
        L.ConvLSTM2D(3, 3, padding="same", return_sequences=True)(film),
        L.ConvLSTM2D(2, (2, 3), strides=(1, 2), dilation_rate=1, use_bias=False, go_backwards=True)(film),
        L.ConvLSTM2D(2, 3, data_format="channels_first")(L.Permute((1, 4, 2, 3))(film)),
        L.ConvLSTM1D(3, 3, strides=2, recurrent_activation="hard_sigmoid")(line),
        L.GroupQueryAttention(3, 4, 2)(x, x),
        L.GroupQueryAttention(3, 2, 1, use_bias=False)(x, x, use_causal_mask=True),
        L.SpectralNormalization(L.Dense(3, activation="relu"))(x),
    ]
    return keras.Model([x, film, line], outs)


def randomise(model: keras.Model, seed: int) -> None:
    """Weights as training might leave them: statistics that are not zero and one."""
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        shape = tuple(weight.shape)
        if str(weight.dtype) != "float32":
            continue
        fan = float(np.prod(shape[:-1])) if len(shape) > 1 else 1.0
        value = rng.standard_normal(shape) / np.sqrt(fan) if len(shape) > 1 else rng.uniform(-0.5, 0.5, shape)
        if weight.path.endswith(("variance", "gamma", "scale")):
            value = rng.uniform(0.5, 1.5, shape)
        weight.assign(value.astype(np.float32))
    for layer in model.layers:
        if isinstance(layer, L.Normalization) and layer.input_mean is None:
            layer.finalize_state()


def build(name: str) -> keras.Model:
    if name in CASES:
        return CASES[name]()
    size = {"NASNetMobile": 224, "Xception": 128, "InceptionV3": 128}.get(name, 96)
    return getattr(keras.applications, name)(weights=None, input_shape=(size, size, 3), classes=10)


def main(folder: Path, names: list[str]) -> None:
    for seed, name in enumerate(names or list(CASES)):
        keras.utils.set_random_seed(seed)
        model = build(name)
        randomise(model, seed)
        rng = np.random.default_rng(seed)
        inputs = [
            rng.integers(0, 20, (2, *i.shape[1:])).astype(np.int32) if "int" in str(i.dtype)
            else rng.standard_normal((2, *i.shape[1:])).astype(np.float32)
            for i in model.inputs
        ]  # fmt: skip
        outputs = keras.tree.flatten(model(inputs[0] if len(inputs) == 1 else inputs, training=False))
        arrays = {f"in{i}": a for i, a in enumerate(inputs)} | {f"out{i}": np.asarray(a) for i, a in enumerate(outputs)}
        arrays["trained"] = np.asarray(sum(int(np.prod(w.shape)) for w in model.trainable_weights))
        np.savez(folder / f"{name}.npz", **arrays)
        model.save(folder / f"{name}.keras")
        if name not in ARCHIVES_ALONE:
            model.save(folder / f"{name}.h5")
        print(json.dumps({"name": name, "parameters": int(model.count_params())}), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
