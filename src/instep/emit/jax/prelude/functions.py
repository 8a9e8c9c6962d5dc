"""Layers as functions of their parameters, for exported code without Flax: read as text, never imported.

``params`` is the dictionary of the layer's own arrays. ``train`` is None, or while training a Training. The functions
that change running statistics do so in ``params``, which ``apply`` copied before.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from instep.emit.jax.prelude.arrays import (
    affine,
    along,
    convolve,
    convolve_transposed,
    normalise_groups,
    normalise_layer,
    normalise_rms,
    prelu,
)


class Training:
    """A training step: deals random keys to the dropouts; without a key they drop nothing."""

    def __init__(self, key):
        self.key = key

    def next_key(self):
        self.key, key = jax.random.split(self.key)
        return key


@jax.tree_util.register_pytree_node_class
class Fixed:
    """Whole numbers of the network, like an index: part of the dictionary's form, no leaf that is trained."""

    def __init__(self, array):
        self.array = np.asarray(array)

    def tree_flatten(self):
        return (), self

    @classmethod
    def tree_unflatten(cls, fixed, _):
        return fixed


def kernel(params, name):
    """The array of a name like ``stem.conv.kernel``."""
    for part in name.split("."):
        params = params[part]
    return params


def kernels(params, free=(), above=""):
    """All arrays with several axes but those of these names."""
    found = []
    for name, place in params.items():
        if isinstance(place, dict):
            found += kernels(place, free, f"{above}{name}.")
        elif not isinstance(place, Fixed) and place.ndim > 1 and f"{above}{name}" not in free:
            found.append(place)
    return found


def nested(arrays):
    """Arrays with names like ``stem.conv.kernel`` as dictionaries within dictionaries."""
    params = {}
    for name, array in arrays.items():
        *outer, last = name.split(".")
        place = params
        for part in outer:
            place = place.setdefault(part, {})
        place[last] = jnp.asarray(array) if array.dtype.kind == "f" else Fixed(array)
    return params


def frozen(params, *names):
    """A layer's own dictionary, whose arrays of these names (all, if none is named) are not trained."""
    params.update({name: lax.stop_gradient(params[name]) for name in names or params})
    return params


def conv(params, x, *, strides, padding, kernel_dilation=None, feature_group_count=1):
    """Convolution; the kernel is [..., in / groups, out]."""
    return convolve(
        x,
        params["kernel"],
        params.get("bias"),
        strides=strides,
        padding=padding,
        kernel_dilation=kernel_dilation,
        feature_group_count=feature_group_count,
    )


def conv_transpose(params, x, *, strides, padding, kernel_dilation=(1, 1), feature_group_count=1):
    """Transposed convolution; the kernel is [H, W, out / groups, in]."""
    return convolve_transposed(
        x,
        params["kernel"],
        params.get("bias"),
        strides=strides,
        padding=padding,
        kernel_dilation=kernel_dilation,
        feature_group_count=feature_group_count,
    )


def linear(params, x):
    """Matrix product over the last axis; the kernel is [in, out]."""
    y = x @ params["kernel"]
    return y + params["bias"] if "bias" in params else y


def batch_norm(params, x, train, *, momentum, epsilon, axis=-1):
    """Batch norm; training normalises with the biased variance and learns the unbiased one, as PyTorch does."""
    channel = (axis % x.ndim,)
    mean, var = lax.stop_gradient((params["mean"], params["var"]))
    if train is not None:
        axes = tuple(i for i in range(x.ndim) if i not in channel)
        count = x.size // x.shape[axis]
        batch_mean = x.mean(axes)
        batch_var = jnp.square(x - along(batch_mean, x, channel)).mean(axes)
        unbiased = batch_var * (count / max(count - 1, 1))
        params["mean"] = lax.stop_gradient(momentum * mean + (1 - momentum) * batch_mean)
        params["var"] = lax.stop_gradient(momentum * var + (1 - momentum) * unbiased)
        mean, var = batch_mean, batch_var
    factor = lax.rsqrt(var + epsilon) * params.get("scale", 1.0)
    return affine(x - along(mean, x, channel), factor, params.get("bias"), channel)


def layer_norm(params, x, *, epsilon):
    """Layer norm over the last axis."""
    return normalise_layer(x, params.get("scale"), params.get("bias"), (x.ndim - 1,), epsilon)


def rms_norm(params, x, *, epsilon):
    """Root-mean-square norm over the last axis."""
    return normalise_rms(x, params.get("scale"), (x.ndim - 1,), epsilon)


def group_norm(params, x, *, num_groups, epsilon):
    """Group norm with the channels on the last axis."""
    return normalise_groups(x, params.get("scale"), params.get("bias"), num_groups, epsilon)


def embed(params, x):
    """Rows of a table, by their numbers."""
    return jnp.take(params["embedding"], x, axis=0)


def prelu_layer(params, x):
    """PReLU with one slope, or one for each channel."""
    return prelu(x, params["negative_slope"])


def dropout(x, train, *, rate, broadcast_dims=()):
    """Drops elements while training with a key; one draw holds along ``broadcast_dims``."""
    if train is None or train.key is None or rate == 0:
        return x
    shape = [1 if i in broadcast_dims else n for i, n in enumerate(x.shape)]
    kept = jax.random.bernoulli(train.next_key(), 1 - rate, shape)
    return jnp.where(kept, x / (1 - rate), 0)
