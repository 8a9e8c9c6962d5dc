"""Helper functions that exported JAX code brings along: each is copied, as it stands here, where it is used.

Instep reads this file as text and never imports it. A helper may use the imports below and other helpers. Pictures have
channels last, kernels are HWIO, and everything that depends on shapes alone is computed with numpy while tracing.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from instep.emit.code.prelude.resize import resize_taps


def convolve(x, kernel, bias=None, *, strides, padding, kernel_dilation=None, feature_group_count=1):
    """Convolution of any rank, channels last; ``padding`` has (before, after) for each spatial axis."""
    spatial = "DHW"[-len(strides) :]
    layout = (f"N{spatial}C", f"{spatial}IO", f"N{spatial}C")
    y = lax.conv_general_dilated(
        x, kernel, strides, padding, None, kernel_dilation, layout, feature_group_count=feature_group_count
    )
    return y if bias is None else y + bias


def convolve_transposed(x, kernel, bias=None, *, strides, padding, kernel_dilation=(1, 1), feature_group_count=1):
    """The gradient of a convolution: the kernel is [H, W, out / groups, in], the padding that of the spread input."""
    h, w, per_group, channels = kernel.shape
    groups = feature_group_count
    split = kernel[::-1, ::-1].reshape(h, w, per_group, groups, channels // groups)
    turned = split.transpose(0, 1, 4, 3, 2).reshape(h, w, channels // groups, groups * per_group)
    y = lax.conv_general_dilated(
        x, turned, (1, 1), padding, strides, kernel_dilation, ("NHWC", "HWIO", "NHWC"), feature_group_count=groups
    )
    return y if bias is None else y + bias


def max_pool(x, window, strides, padding=((0, 0), (0, 0)), dilation=(1, 1)):
    """Maximum over windows; padded places never win."""
    return lax.reduce_window(
        x,
        -jnp.inf,
        lax.max,
        (1, *window, 1),
        (1, *strides, 1),
        ((0, 0), *padding, (0, 0)),
        window_dilation=(1, *dilation, 1),
    )


def avg_pool(x, window, strides, padding=((0, 0), (0, 0)), count_include_pad=True, overhang=(0, 0)):
    """Mean over windows; places on ``overhang`` (more rows below, more columns to the right) are never counted."""
    pads = [(a, b + c) for (a, b), c in zip(padding, overhang, strict=True)]
    total = lax.reduce_window(x, 0.0, lax.add, (1, *window, 1), (1, *strides, 1), ((0, 0), *pads, (0, 0)))
    counts = []
    for n, size, step, (a, b), more in zip(x.shape[1:3], window, strides, padding, overhang, strict=True):
        places = np.pad(np.ones(n), (a, b), constant_values=float(count_include_pad))
        places = np.pad(places, (0, more))
        counts.append(np.array([places[i : i + size].sum() for i in range(0, len(places) - size + 1, step)]))
    divisor = counts[0][:, None, None] * counts[1][:, None]
    return total / jnp.asarray(divisor, x.dtype)


def adaptive_pool(x, output_size, reduce):
    """``reduce`` over bins from floor(i · n / out) to ceil((i + 1) · n / out) along height and width."""
    for axis, out in zip((1, 2), output_size, strict=True):
        n = x.shape[axis]
        bins = [lax.slice_in_dim(x, i * n // out, -(-(i + 1) * n // out), axis=axis) for i in range(out)]
        x = jnp.concatenate([reduce(part, axis=axis, keepdims=True) for part in bins], axis)
    return x


def resize(x, size, mode="bilinear", coordinates="half_pixel", scale=None, antialias=False):
    """Height and width to ``size``, with torch's or TensorFlow's pixel coordinates; exact in the type of ``x``."""
    for axis in (1, 2):
        factor = scale[axis - 1] if scale else None
        places, weights = resize_taps(x.shape[axis], size[axis - 1], mode, coordinates, factor, antialias)
        taps = [jnp.take(x, index, axis=axis) for index in places]
        if weights is None:
            x = taps[0]
            continue
        shape = [1, -1, 1, 1] if axis == 1 else [1, 1, -1, 1]
        shares = [tap * jnp.asarray(w.reshape(shape), x.dtype) for tap, w in zip(taps, weights, strict=True)]
        x = shares[0]
        for share in shares[1:]:
            x = x + share
    return x


def depth_to_space(x, block, order):
    """Channels to blocks of pixels; in "CRD" (torch) a channel is (c, dy, dx), in "DCR" (TensorFlow) (dy, dx, c)."""
    n, h, w, c = x.shape
    if order == "CRD":
        parts = x.reshape(n, h, w, c // block**2, block, block).transpose(0, 1, 4, 2, 5, 3)
    else:
        parts = x.reshape(n, h, w, block, block, c // block**2).transpose(0, 1, 3, 2, 4, 5)
    return parts.reshape(n, h * block, w * block, c // block**2)


def space_to_depth(x, block, order):
    """Blocks of pixels to channels: the inverse of depth_to_space."""
    n, h, w, c = x.shape
    parts = x.reshape(n, h // block, block, w // block, block, c)
    parts = parts.transpose(0, 1, 3, 5, 2, 4) if order == "CRD" else parts.transpose(0, 1, 3, 2, 4, 5)
    return parts.reshape(n, h // block, w // block, c * block**2)


def windows(size, kernel, strides, padding, dilation):
    """How many windows fit, for each spatial axis."""
    rows = zip(size, kernel, strides, padding, dilation, strict=True)
    return [(n + a + b - d * (k - 1) - 1) // s + 1 for n, k, s, (a, b), d in rows]


def unfold(x, kernel, strides, padding, dilation):
    """The windows of a picture as rows: [N, H, W, C] → [N, places, C · KH · KW] (torch.nn.Unfold)."""
    oh, ow = windows(x.shape[1:3], kernel, strides, padding, dilation)
    (sh, sw), (dh, dw) = strides, dilation
    x = jnp.pad(x, ((0, 0), *padding, (0, 0)))
    parts = [
        x[:, i * dh : i * dh + (oh - 1) * sh + 1 : sh, j * dw : j * dw + (ow - 1) * sw + 1 : sw]
        for i in range(kernel[0])
        for j in range(kernel[1])
    ]
    return jnp.stack(parts, -1).reshape(x.shape[0], oh * ow, -1)


def fold(x, output_size, kernel, strides, padding, dilation):
    """The sum of windows as a picture: [N, places, C · KH · KW] → [N, H, W, C] (torch.nn.Fold)."""
    oh, ow = windows(output_size, kernel, strides, padding, dilation)
    (sh, sw), (dh, dw), ((top, below), (left, right)) = strides, dilation, padding
    h, w = output_size
    parts = x.reshape(x.shape[0], oh, ow, -1, *kernel)
    full = jnp.zeros((x.shape[0], h + top + below, w + left + right, parts.shape[3]), x.dtype)
    for i in range(kernel[0]):
        for j in range(kernel[1]):
            rows = slice(i * dh, i * dh + (oh - 1) * sh + 1, sh)
            columns = slice(j * dw, j * dw + (ow - 1) * sw + 1, sw)
            full = full.at[:, rows, columns].add(parts[..., i, j])
    return full[:, top : top + h, left : left + w]


def grid_sample(x, grid, mode, padding_mode, align_corners):
    """``x`` at the places ``grid`` [N, OH, OW, 2], which are (x, y) in [-1, 1] (torch.nn.functional.grid_sample)."""
    n, h, w, _ = x.shape
    gx, gy = grid[..., 0], grid[..., 1]
    if align_corners:
        px, py = (gx + 1) / 2 * (w - 1), (gy + 1) / 2 * (h - 1)
    else:
        px, py = ((gx + 1) * w - 1) / 2, ((gy + 1) * h - 1) / 2
    if padding_mode == "border":
        px, py = jnp.clip(px, 0, w - 1), jnp.clip(py, 0, h - 1)
    batch = np.arange(n)[:, None, None]

    def at(yy, xx):
        inside = (yy >= 0) & (yy < h) & (xx >= 0) & (xx < w)
        rows, columns = jnp.clip(yy, 0, h - 1).astype(int), jnp.clip(xx, 0, w - 1).astype(int)
        return jnp.where(inside[..., None], x[batch, rows, columns], 0)

    if mode == "nearest":
        return at(jnp.round(py), jnp.round(px))
    x0, y0 = jnp.floor(px), jnp.floor(py)
    fx, fy = (px - x0)[..., None], (py - y0)[..., None]
    top = at(y0, x0) * (1 - fx) + at(y0, x0 + 1) * fx
    bottom = at(y0 + 1, x0) * (1 - fx) + at(y0 + 1, x0 + 1) * fx
    return top * (1 - fy) + bottom * fy


def normalise(x, axes, epsilon):
    """``x`` with mean 0 and (biased) variance 1 over ``axes``."""
    centred = x - x.mean(axes, keepdims=True)
    return centred * lax.rsqrt(jnp.square(centred).mean(axes, keepdims=True) + epsilon)


def along(vector, x, axes):
    """``vector`` of the axes ``axes`` of ``x``, shaped so that it broadcasts against ``x``."""
    return vector.reshape([n if i in axes else 1 for i, n in enumerate(x.shape)])


def affine(x, scale, bias, axes):
    """``x`` times ``scale`` plus ``bias``, vectors of the axes ``axes``; each may be None."""
    x = x if scale is None else x * along(scale, x, axes)
    return x if bias is None else x + along(bias, x, axes)


def normalise_layer(x, scale, bias, axes, epsilon):
    """Layer norm over any axes."""
    return affine(normalise(x, axes, epsilon), scale, bias, axes)


def normalise_groups(x, scale, bias, groups, epsilon, axis=-1):
    """Group norm with the channels on any axis; one group a channel is instance norm."""
    last = jnp.moveaxis(x, axis, -1)
    split = last.reshape(*last.shape[:-1], groups, -1)
    axes = tuple(i for i in range(1, split.ndim) if i != split.ndim - 2)
    y = affine(normalise(split, axes, epsilon).reshape(last.shape), scale, bias, (last.ndim - 1,))
    return jnp.moveaxis(y, -1, axis)


def normalise_rms(x, scale, axes, epsilon):
    """Root-mean-square norm over any axes."""
    return affine(x * lax.rsqrt(jnp.square(x).mean(axes, keepdims=True) + epsilon), scale, None, axes)


def normalise_batch(x, scale, bias, mean, var, axis, epsilon):
    """Batch norm with given statistics."""
    mean, var, scale, bias = (along(v, x, (axis % x.ndim,)) for v in (mean, var, scale, bias))
    return (x - mean) * (lax.rsqrt(var + epsilon) * scale) + bias


def softplus(x, beta, threshold):
    """log(1 + exp(beta · x)) / beta, and ``x`` itself where beta · x is above ``threshold``."""
    return jnp.where(x * beta > threshold, x, jax.nn.softplus(x * beta) / beta)


def prelu(x, slope):
    """``x`` where it is not negative, ``slope`` · x elsewhere."""
    return jnp.where(x >= 0, x, slope * x)


def converted(x, dtype):
    """``x`` in another floating type; float64 stays, so that a run in float64 is one throughout."""
    return x if x.dtype == jnp.float64 else x.astype(dtype)


def scan(step, carry, rows, *, reverse=False):
    """jax.lax.scan that begins with arrays of the network: in the type of the others, and for each of a batch."""
    first = jax.tree.map(lambda x: x[0], rows)
    after = jax.eval_shape(step, carry, first)[0]
    carry = jax.tree.map(lambda x, like: jnp.broadcast_to(x.astype(like.dtype), like.shape), carry, after)
    return lax.scan(step, carry, rows, reverse=reverse)
