"""Layers that exported Flax NNX code brings along where Flax has none of that kind: read as text, never imported."""

# pyright: reportAttributeAccessIssue=false, reportIndexIssue=false
from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from instep.emit.jax.prelude.arrays import convolve_transposed


class BatchNorm(nnx.BatchNorm):
    """Batch norm with PyTorch's running variance: it learns the unbiased variance, where Flax takes the biased one."""

    def __call__(self, x, use_running_average=None, *, mask=None):
        old = self.var[...]
        y = super().__call__(x, use_running_average, mask=mask)
        if not (self.use_running_average if use_running_average is None else use_running_average):
            count = x.size // x.shape[self.axis]
            kept = self.momentum * old
            self.var[...] = kept + (self.var[...] - kept) * (count / max(count - 1, 1))
        return y


class FixedBatchNorm(nnx.BatchNorm):
    """Batch norm that keeps to its running statistics while the rest is trained, too."""

    def __call__(self, x, use_running_average=None, *, mask=None):
        return super().__call__(x, use_running_average=True, mask=mask)


class PReLU(nnx.PReLU):
    """PReLU with a slope for each channel."""

    def __init__(self, num_features):
        super().__init__()
        self.negative_slope = nnx.Param(jnp.full(num_features, 0.25))


class GroupedConvTranspose(nnx.Module):
    """Transposed convolution in groups; the kernel is [H, W, out / groups, in]."""

    def __init__(
        self,
        in_features,
        out_features,
        kernel_size,
        strides,
        *,
        padding,
        kernel_dilation=(1, 1),
        feature_group_count=1,
        use_bias=True,
        rngs,
    ):
        shape = (*kernel_size, out_features // feature_group_count, in_features)
        self.kernel = nnx.Param(nnx.initializers.lecun_normal(in_axis=-1, out_axis=-2)(rngs.params(), shape))
        self.bias = nnx.Param(jnp.zeros(out_features)) if use_bias else nnx.data(None)
        self.strides, self.padding = strides, padding
        self.kernel_dilation, self.feature_group_count = kernel_dilation, feature_group_count

    def __call__(self, x):
        return convolve_transposed(
            x,
            self.kernel[...],
            None if self.bias is None else self.bias[...],
            strides=self.strides,
            padding=self.padding,
            kernel_dilation=self.kernel_dilation,
            feature_group_count=self.feature_group_count,
        )


class Buffer(nnx.Variable):
    """An array that belongs to the network and is not trained: an index, a mask."""


def frozen(layer, *names):
    """``layer``, whose arrays of these names are not trained (all, if none is named): no Params, but Buffers."""
    for name, held in list(vars(layer).items()):
        if isinstance(held, nnx.Param) and (not names or name in names):
            setattr(layer, name, Buffer(held[...]))
    return layer


class Undrawn(nnx.Rngs):
    """In place of random numbers where weights are loaded: layers take their shapes, and nothing is drawn."""

    def params(self):
        return jax.random.key(0)


def variable(model, name):
    """The variable of a name like ``stem.conv.kernel``."""
    place = model
    for part in name.split("."):
        place = place.layers if isinstance(place, nnx.Sequential) else place
        place = place[int(part)] if isinstance(place, nnx.List) else getattr(place, part)
    return place


def kernel(model, name):
    """The array of that name."""
    return variable(model, name)[...]


def kernels(model, free=()):
    """All trained arrays with several axes but those of these names."""
    others = {id(variable(model, name)) for name in free}
    held = [v for _, v in nnx.iter_graph(model) if isinstance(v, nnx.Param) and id(v) not in others]
    return [v[...] for v in held if v.ndim > 1]


def put(model, arrays):
    """Give the network its arrays, by their names: ``stem.conv.kernel``."""
    for name, array in arrays.items():
        place = variable(model, name)
        if place.shape != array.shape:
            raise ValueError(f"{name} is {list(array.shape)}, the network needs {list(place.shape)}")
        place.set_value(jnp.asarray(array))
    held = nnx.to_flat_state(nnx.state(model, nnx.Not(nnx.RngState)))
    missing = [path for path, place in held if isinstance(place.get_value(), jax.ShapeDtypeStruct)]
    if missing:
        raise ValueError(f"no arrays for {', '.join('.'.join(map(str, path)) for path in missing)}")
