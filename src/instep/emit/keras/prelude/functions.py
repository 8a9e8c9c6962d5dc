"""Helper functions that exported Keras code brings along: each is copied, as it stands here, where it is used.

Instep reads this file as text and never imports it. A helper may use the imports below and other helpers. They work on
the tensors of a functional model, so that nothing but Keras' own operations goes into a ``.keras`` file. Of ``x + y``
they take care that y is no vector along another axis than the last: on TensorFlow Keras 3.15 adds it along a wrong one.
"""

# pyright: basic, reportOptionalMemberAccess=false, reportIndexIssue=false, reportOptionalSubscript=false
# pyright: reportOptionalOperand=false, reportOperatorIssue=false, reportArgumentType=false, reportCallIssue=false
# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

import numpy as np
from keras import ops


def pixel_shuffle(x, block):
    """Channels (c, dy, dx) to blocks of pixels: PyTorch's order, where TensorFlow has (dy, dx, c)."""
    _, h, w, c = x.shape
    parts = ops.reshape(x, (-1, h, w, c // block**2, block, block))
    parts = ops.transpose(parts, (0, 1, 4, 2, 5, 3))
    return ops.reshape(parts, (-1, h * block, w * block, c // block**2))


def pixel_unshuffle(x, block):
    """Blocks of pixels to channels (c, dy, dx): the inverse of pixel_shuffle."""
    _, h, w, c = x.shape
    parts = ops.reshape(x, (-1, h // block, block, w // block, block, c))
    parts = ops.transpose(parts, (0, 1, 3, 5, 2, 4))
    return ops.reshape(parts, (-1, h // block, w // block, c * block**2))


def pad(x, pads, mode):
    """Pads of the border's own values ("replicate") or of those on the other side ("circular")."""
    for axis, (before, after) in enumerate(pads):
        if before or after:
            places = np.arange(-before, x.shape[axis] + after)
            n = x.shape[axis]
            places = np.clip(places, 0, n - 1) if mode == "replicate" else places % n
            x = ops.take(x, places.tolist(), axis=axis)
    return x


def pad_each(x, pads, value):
    """Pads of ``value``, one axis after the other, for more axes than TensorFlow pads at once."""
    for axis, around in enumerate(pads):
        if any(around):
            before = (-1, *x.shape[1:axis]) if axis else ()
            after = x.shape[axis + 1 :]
            x = ops.reshape(x, (-1, x.shape[axis], int(np.prod(after))))
            x = ops.pad(x, ((0, 0), around, (0, 0)), constant_values=value)
            x = ops.reshape(x, (*before, x.shape[1], *after))
    return x


def for_each(value, like):
    """``value`` once for each sample of ``like``."""
    zeros = ops.zeros_like(ops.reshape(like, (-1, int(np.prod(like.shape[1:]))))[:, :1])
    return ops.reshape(ops.cast(zeros, value.dtype), (-1, *[1] * (len(value.shape) - 1))) + value


def along(vector, x, axes):
    """``vector`` of the axes ``axes`` of ``x``, shaped so that it broadcasts against ``x``."""
    return ops.reshape(vector, [n if i in axes else 1 for i, n in enumerate(x.shape)])


def normalise(x, axes, epsilon):
    """``x`` with mean 0 and (biased) variance 1 over ``axes``."""
    centred = x - ops.mean(x, axis=axes, keepdims=True)
    return centred * ops.rsqrt(ops.mean(ops.square(centred), axis=axes, keepdims=True) + epsilon)


def normalise_layer(x, scale, bias, axes, epsilon):
    """Layer norm over any axes."""
    return normalise(x, axes, epsilon) * along(scale, x, axes) - ops.negative(along(bias, x, axes))


def normalise_groups(x, scale, bias, groups, epsilon, axis):
    """Group norm with the channels on any axis; one group a channel is instance norm."""
    last = ops.moveaxis(x, axis, -1)
    split = ops.reshape(last, (-1, *last.shape[1:-1], groups, last.shape[-1] // groups))
    axes = tuple(i for i in range(1, len(split.shape)) if i != len(split.shape) - 2)
    flat = ops.reshape(normalise(split, axes, epsilon), (-1, *last.shape[1:]))
    return ops.moveaxis(flat * scale + bias, -1, axis)


def normalise_rms(x, scale, axes, epsilon):
    """Root-mean-square norm over any axes."""
    return x * ops.rsqrt(ops.mean(ops.square(x), axis=axes, keepdims=True) + epsilon) * along(scale, x, axes)


def normalise_batch(x, scale, bias, mean, var, axis, epsilon):
    """Batch norm with given statistics."""
    mean, var, scale, bias = (along(v, x, (axis,)) for v in (mean, var, scale, bias))
    return (x - mean) * (ops.rsqrt(var + epsilon) * scale) - ops.negative(bias)


def convolve(x, kernel, groups, **options):
    """Convolution in groups; Keras' operation takes one group alone where the kernel is computed."""
    if groups == 1:
        return ops.conv(x, kernel, **options)
    strides = options.get("strides", 1)
    even = isinstance(strides, int) or len(set(strides)) == 1  # all that TensorFlow's depthwise convolution takes
    if groups == x.shape[-1] and len(x.shape) == 4 and even:
        depthwise = ops.reshape(kernel, (*kernel.shape[:2], groups, kernel.shape[-1] // groups))
        return ops.depthwise_conv(x, depthwise, **options)
    pairs = zip(ops.split(x, groups, axis=-1), ops.split(kernel, groups, axis=-1), strict=True)
    return ops.concatenate([ops.conv(part, own, **options) for part, own in pairs], axis=-1)


def conv_transpose(x, kernel, strides, pads, dilation, groups):
    """The gradient of a convolution, as a convolution of the spread input that is padded by ``pads``.

    The kernel is [H, W, out / groups, in].
    """
    (_, h, w, c), (sh, sw) = x.shape, strides
    kh, kw, per_group, _ = kernel.shape
    x = ops.pad(ops.reshape(x, (-1, h, 1, w, 1, c)), ((0, 0), (0, 0), (0, sh - 1), (0, 0), (0, sw - 1), (0, 0)))
    x = ops.reshape(x, (-1, h * sh, w * sw, c))[:, : (h - 1) * sh + 1, : (w - 1) * sw + 1]
    x = ops.pad(x, ((0, 0), *[(max(a, 0), max(b, 0)) for a, b in pads], (0, 0)))
    (_, h, w, _), ((top, below), (left, right)) = x.shape, pads
    x = x[:, max(-top, 0) : h - max(-below, 0), max(-left, 0) : w - max(-right, 0)]
    turned = ops.reshape(ops.flip(kernel, (0, 1)), (kh, kw, per_group, groups, c // groups))
    turned = ops.reshape(ops.transpose(turned, (0, 1, 4, 3, 2)), (kh, kw, c // groups, groups * per_group))
    return convolve(x, turned, groups, dilation_rate=dilation)


def put(model, arrays):
    """``arrays``, by names such as "stem.conv.kernel", into the layers of ``model``, which is returned."""
    places = {}
    for layer in model.layers:
        for variable in layer.weights:
            places[f"{layer.name}.{variable.name}".removesuffix(".value")] = variable
    if set(places) != set(arrays):
        raise ValueError(f"the model and the file differ in {sorted(set(places) ^ set(arrays))}")
    for name, variable in places.items():
        variable.assign(arrays[name])
    return model
