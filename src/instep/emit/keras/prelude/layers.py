"""Layers that exported Keras code brings along: each is copied, as it stands here, where it is used.

Instep reads this file as text and never imports it. A ``.keras`` file that has one of them loads where the exported
code has been imported.
"""

# pyright: basic, reportOptionalMemberAccess=false, reportIndexIssue=false, reportOptionalSubscript=false
# pyright: reportOptionalOperand=false, reportOperatorIssue=false, reportArgumentType=false, reportCallIssue=false
# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

import keras
import numpy as np
from keras import layers, ops

from instep.emit.code.prelude.resize import resize_taps
from instep.emit.keras.prelude.functions import conv_transpose


@keras.saving.register_keras_serializable("instep")
class BatchNormalization(layers.BatchNormalization):
    """Batch norm with PyTorch's running variance: it learns the unbiased variance, where Keras takes the biased one."""

    def call(self, inputs, training=None, mask=None):
        kept = ops.cast(self.moving_variance, "float32") * self.momentum
        outputs = super().call(inputs, training=training, mask=mask)
        if training and self.trainable:
            shape = ops.shape(inputs)
            count = ops.cast(ops.prod([n for i, n in enumerate(shape) if i in self._reduction_axes]), "float32")
            learnt = self.moving_variance
            self.moving_variance.assign(learnt + (learnt - kept) / ops.maximum(count - 1, 1))
        return outputs


@keras.saving.register_keras_serializable("instep")
class FixedBatchNormalization(layers.BatchNormalization):
    """Batch norm that keeps to its running statistics while the rest is trained, its own scale and shift among it."""

    def call(self, inputs, training=None, mask=None):
        return super().call(inputs, training=False, mask=mask)


@keras.saving.register_keras_serializable("instep")
class Parameter(layers.Layer):
    """An array that belongs to the network itself; what the layer is called with does not matter."""

    def __init__(self, shape, kind="float32", initializer="zeros", trainable=True, **options):
        super().__init__(trainable=trainable, **options)
        self.shape, self.kind, self.initializer = tuple(shape), kind, keras.initializers.get(initializer)
        self.value = self.add_weight(
            shape=self.shape, dtype=kind, initializer=self.initializer, trainable=trainable, name="value"
        )

    def call(self, inputs):
        return ops.convert_to_tensor(self.value)

    def compute_output_spec(self, inputs):
        return keras.KerasTensor(self.shape, dtype=self.value.dtype)

    def get_config(self):
        initializer = keras.initializers.serialize(self.initializer)
        return {**super().get_config(), "shape": self.shape, "kind": self.kind, "initializer": initializer}


@keras.saving.register_keras_serializable("instep")
class PaddedAveragePooling2D(layers.Layer):
    """Mean over windows with explicit pads; places on ``overhang`` (at the bottom, at the right) are never counted."""

    def __init__(self, pool_size, strides, padding, overhang=(0, 0), count_include_pad=False, **options):
        super().__init__(**options)
        self.settings = {"pool_size": pool_size, "strides": strides, "padding": padding}
        self.settings |= {"overhang": overhang, "count_include_pad": count_include_pad}

    def call(self, inputs):
        size, strides, padding, overhang, counted = self.settings.values()
        pads = [(a, b + more) for (a, b), more in zip(padding, overhang, strict=True)]
        x = ops.average_pool(ops.pad(inputs, [(0, 0), *pads, (0, 0)]), size, strides)
        for axis, (k, s, (a, b), more) in enumerate(zip(size, strides, padding, overhang, strict=True)):
            places = np.pad(np.ones(inputs.shape[axis + 1]), (a, b), constant_values=float(counted))
            places = np.pad(places, (0, more))
            counts = np.array([places[i : i + k].sum() for i in range(0, len(places) - k + 1, s)])
            shape = (1, -1, 1, 1) if axis == 0 else (1, 1, -1, 1)
            x = x * ops.cast((k / counts).reshape(shape), x.dtype)
        return x

    def get_config(self):
        return {**super().get_config(), **self.settings}


@keras.saving.register_keras_serializable("instep")
class DilatedMaxPooling2D(layers.Layer):
    """Maximum over windows with gaps; padded places never win."""

    def __init__(self, pool_size, strides, padding, dilation, **options):
        super().__init__(**options)
        self.settings = {"pool_size": pool_size, "strides": strides, "padding": padding, "dilation": dilation}

    def call(self, inputs):
        (kh, kw), (sh, sw), padding, (dh, dw) = self.settings.values()
        x = ops.pad(inputs, ((0, 0), *padding, (0, 0)), constant_values=float("-inf"))
        h, w = x.shape[1] - dh * (kh - 1), x.shape[2] - dw * (kw - 1)
        result = x[:, :h:sh, :w:sw]
        for i in range(kh):
            for j in range(kw):
                result = ops.maximum(result, x[:, i * dh : i * dh + h : sh, j * dw : j * dw + w : sw])
        return result

    def get_config(self):
        return {**super().get_config(), **self.settings}


@keras.saving.register_keras_serializable("instep")
class SpreadConv2DTranspose(layers.Layer):
    """Transposed convolution in groups or dilated; the kernel is [H, W, out / groups, in]."""

    def __init__(
        self,
        filters,
        kernel_size,
        strides,
        pads,
        dilation,
        groups=1,
        use_bias=True,
        activation=None,
        kernel_regularizer=None,
        **options,
    ):
        super().__init__(**options)
        self.filters, self.kernel_size, self.use_bias = filters, kernel_size, use_bias
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)
        self.settings = {"strides": strides, "pads": pads, "dilation": dilation, "groups": groups}
        self.activation = keras.activations.get(activation)

    def build(self, input_shape):
        shape = (*self.kernel_size, self.filters // self.settings["groups"], input_shape[-1])
        self.kernel = self.add_weight(
            shape=shape, initializer="glorot_uniform", regularizer=self.kernel_regularizer, name="kernel"
        )
        if self.use_bias:
            self.bias = self.add_weight(shape=(self.filters,), initializer="zeros", name="bias")

    def call(self, inputs):
        x = conv_transpose(inputs, ops.convert_to_tensor(self.kernel), **self.settings)
        return self.activation(x + self.bias if self.use_bias else x)

    def get_config(self):
        own = {"filters": self.filters, "kernel_size": self.kernel_size, "use_bias": self.use_bias}
        activation = keras.activations.serialize(self.activation)
        own["kernel_regularizer"] = keras.regularizers.serialize(self.kernel_regularizer)
        return {**super().get_config(), **own, **self.settings, "activation": activation}


@keras.saving.register_keras_serializable("instep")
class Resize(layers.Layer):
    """Height and width to ``size``, with PyTorch's or TensorFlow's pixel coordinates, the same on every backend."""

    def __init__(self, size, mode, coordinates, scale=None, antialias=False, **options):
        super().__init__(**options)
        self.settings = {"size": size, "mode": mode, "coordinates": coordinates}
        self.settings |= {"scale": scale, "antialias": antialias}

    def call(self, inputs):
        size, mode, coordinates, scale, antialias = self.settings.values()
        x = inputs
        for axis, out in enumerate(size, 1):
            n, factor = x.shape[axis], scale[axis - 1] if scale else None
            shape = (1, -1, 1, 1) if axis == 1 else (1, 1, -1, 1)
            every, shares = resize_taps(n, out, mode, coordinates, factor, antialias)
            if shares is None:
                x = ops.take(x, every[0].astype("int32"), axis=axis)
                continue
            source, x = x, 0.0
            for places, weights in zip(every, shares, strict=True):
                x = (
                    ops.take(source, places.astype("int32"), axis=axis) * ops.cast(weights.reshape(shape), inputs.dtype)
                    + x
                )
        return x

    def get_config(self):
        return {**super().get_config(), **self.settings}


def windows(size, kernel, strides, padding, dilation):
    """For each place of the kernel the rows and columns that it reads, as slices of the padded picture."""
    counts = [
        (n + a + b - d * (k - 1) - 1) // s + 1
        for n, k, s, (a, b), d in zip(size, kernel, strides, padding, dilation, strict=True)
    ]
    cuts = [
        [slice(i * d, i * d + (count - 1) * s + 1, s) for i in range(k)]
        for k, s, d, count in zip(kernel, strides, dilation, counts, strict=True)
    ]
    return counts, [(rows, columns) for rows in cuts[0] for columns in cuts[1]]


@keras.saving.register_keras_serializable("instep")
class Unfold(layers.Layer):
    """The windows of a picture as rows: [N, H, W, C] to [N, places, C * KH * KW] (torch.nn.Unfold)."""

    def __init__(self, kernel_size, strides, padding, dilation, **options):
        super().__init__(**options)
        self.settings = {"kernel_size": kernel_size, "strides": strides, "padding": padding, "dilation": dilation}

    def call(self, inputs):
        (h, w), cuts = windows(inputs.shape[1:3], *self.settings.values())
        x = ops.pad(inputs, ((0, 0), *self.settings["padding"], (0, 0)))
        parts = ops.stack([x[:, rows, columns] for rows, columns in cuts], axis=-1)
        return ops.reshape(parts, (-1, h * w, inputs.shape[-1] * len(cuts)))

    def get_config(self):
        return {**super().get_config(), **self.settings}


@keras.saving.register_keras_serializable("instep")
class Fold(layers.Layer):
    """The sum of windows as a picture: [N, places, C * KH * KW] to [N, H, W, C] (torch.nn.Fold)."""

    def __init__(self, output_size, kernel_size, strides, padding, dilation, **options):
        super().__init__(**options)
        self.settings = {"output_size": output_size, "kernel_size": kernel_size, "strides": strides}
        self.settings |= {"padding": padding, "dilation": dilation}

    def call(self, inputs):
        (oh, ow), kernel, strides, padding, dilation = self.settings.values()
        (h, w), cuts = windows((oh, ow), kernel, strides, padding, dilation)
        (top, below), (left, right) = padding
        parts = ops.reshape(inputs, (-1, h, w, inputs.shape[-1] // len(cuts), len(cuts)))
        total = 0.0
        for i, (rows, columns) in enumerate(cuts):
            part = parts[..., i]
            for axis, (cut, size, step) in enumerate(
                ((rows, oh + top + below, strides[0]), (columns, ow + left + right, strides[1])), 1
            ):
                part = spread(part, axis, step, cut.start, size)
            total = part + total
        return total[:, top : top + oh, left : left + ow]

    def get_config(self):
        return {**super().get_config(), **self.settings}


def spread(x, axis, step, start, size):
    """``x`` with its places along ``axis`` moved ``step`` apart, from ``start`` on, among zeros up to ``size``."""
    n, rank = x.shape[axis], len(x.shape)
    if step > 1:
        x = ops.expand_dims(x, axis + 1)
        x = ops.pad(x, [(0, step - 1) if i == axis + 1 else (0, 0) for i in range(rank + 1)])
        x = ops.reshape(x, (-1, *x.shape[1:axis], n * step, *x.shape[axis + 2 :]))
        x = x[:, : (n - 1) * step + 1] if axis == 1 else x[:, :, : (n - 1) * step + 1]
    return ops.pad(x, [(start, size - start - x.shape[axis]) if i == axis else (0, 0) for i in range(rank)])


@keras.saving.register_keras_serializable("instep")
class GridSample(layers.Layer):
    """A picture at the places of a grid [N, OH, OW, 2], which are (x, y) in [-1, 1] (torch's grid_sample)."""

    def __init__(self, mode, padding_mode, align_corners, **options):
        super().__init__(**options)
        self.settings = {"mode": mode, "padding_mode": padding_mode, "align_corners": align_corners}

    def call(self, inputs):
        x, grid = inputs
        _, h, w, c = x.shape
        mode, border, corners = self.settings.values()
        px, py = [self.pixel(grid[..., i], n, border == "border", corners) for i, n in enumerate((w, h))]
        flat = ops.reshape(x, (-1, h * w, c))

        def at(yy, xx):
            inside = ops.logical_and(ops.logical_and(yy >= 0, yy < h), ops.logical_and(xx >= 0, xx < w))
            index = ops.cast(ops.clip(yy, 0, h - 1) * w + ops.clip(xx, 0, w - 1), "int32")
            rows = ops.reshape(index, (-1, grid.shape[1] * grid.shape[2], 1))
            picked = ops.take_along_axis(flat, ops.tile(rows, (1, 1, c)), axis=1)
            picked = ops.reshape(picked, (-1, *grid.shape[1:3], c))
            return picked * ops.expand_dims(ops.cast(inside, x.dtype), -1)

        if mode == "nearest":
            return at(ops.round(py), ops.round(px))
        x0, y0 = ops.floor(px), ops.floor(py)
        fx, fy = ops.expand_dims(px - x0, -1), ops.expand_dims(py - y0, -1)
        top = at(y0, x0) * (1 - fx) + at(y0, x0 + 1) * fx
        below = at(y0 + 1, x0) * (1 - fx) + at(y0 + 1, x0 + 1) * fx
        return top * (1 - fy) + below * fy

    @staticmethod
    def pixel(place, n, clipped, corners):
        found = (place + 1) / 2 * (n - 1) if corners else ((place + 1) * n - 1) / 2
        return ops.clip(found, 0, n - 1) if clipped else found

    def get_config(self):
        return {**super().get_config(), **self.settings}
