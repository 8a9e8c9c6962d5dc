"""Matrix products and normalisations."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from instep.graph.operator import Operator, Spec, activate, broadcast, operator

__all__ = ["BatchNorm", "GroupNorm", "LayerNorm", "Linear", "MatMul", "RmsNorm"]


@operator
class Linear(Operator):
    """x · Wᵀ + b over the last axis. Inputs: x [..., I], weight [O, I], optionally bias [O]."""

    activation: str = ""

    def infer(self, *inputs: Spec) -> tuple[Spec, ...]:
        x, weight = inputs[:2]
        if len(weight.shape) != 2 or x.shape[-1] != weight.shape[1]:
            raise ValueError(f"weight {list(weight.shape)} does not fit the last axis of {list(x.shape)}")
        return (Spec((*x.shape[:-1], weight.shape[0]), x.dtype),)

    def evaluate(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        result = inputs[0] @ inputs[1].T
        if len(inputs) > 2:
            result = result + inputs[2]
        return (activate(result, self.activation),)

    def macs(self, inputs: Sequence[Spec], outputs: Sequence[Spec]) -> int:
        return outputs[0].size * inputs[1].shape[1]

    def arithmetic(self, inputs: Sequence[Spec], outputs: Sequence[Spec]) -> int:
        return 2 * self.macs(inputs, outputs) + (outputs[0].size if len(inputs) > 2 else 0)


@operator
class MatMul(Operator):
    """Batched product of the last two axes, each first transposed where its flag says so; numpy batch broadcasting.

    Both inputs have rank ≥ 2.
    """

    transpose_a: bool = False
    transpose_b: bool = False

    def infer(self, *inputs: Spec) -> tuple[Spec, ...]:
        a, b = inputs
        if min(len(a.shape), len(b.shape)) < 2:
            raise ValueError(f"needs ranks of 2 and more, got {list(a.shape)} and {list(b.shape)}")
        m, k = a.shape[-2:][:: -1 if self.transpose_a else 1]
        k2, n = b.shape[-2:][:: -1 if self.transpose_b else 1]
        if k != k2:
            raise ValueError(f"inner sizes {k} and {k2} of {list(a.shape)} and {list(b.shape)} differ")
        return (Spec((*broadcast(a.shape[:-2], b.shape[:-2]), m, n), a.dtype),)

    def evaluate(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        a = inputs[0].swapaxes(-1, -2) if self.transpose_a else inputs[0]
        b = inputs[1].swapaxes(-1, -2) if self.transpose_b else inputs[1]
        return (a @ b,)

    def macs(self, inputs: Sequence[Spec], outputs: Sequence[Spec]) -> int:
        return outputs[0].size * inputs[0].shape[-2 if self.transpose_a else -1]


def _along(vector: np.ndarray, rank: int, axis: int) -> np.ndarray:
    return vector.reshape([-1 if i == axis else 1 for i in range(rank)])


def _check_eps(eps: float) -> None:
    """Below 0, what stands under the root could be below 0, too."""
    if not eps >= 0:
        raise ValueError(f"eps must be 0 or more, got {eps}")


@operator
class BatchNorm(Operator):
    """(x - mean) / √(var + eps) · weight + bias with running statistics (Ioffe & Szegedy, arXiv 1502.03167).

    Inputs: x, weight, bias, mean, var, each vector along ``axis``. ``momentum`` is PyTorch's (the weight of the
    new batch; Keras' is 1 - momentum); it matters for training only. One that is ``fixed`` normalises with its running
    statistics while the rest is trained, too, and learns none (Keras' trainable=False, a layer that PyTorch keeps in
    eval mode); its weight and bias may be trained all the same.
    """

    eps: float = 1e-5
    axis: int = 1
    momentum: float = 0.1
    fixed: bool = False
    each = 2

    def infer(self, *inputs: Spec) -> tuple[Spec, ...]:
        x = inputs[0]
        _check_eps(self.eps)
        if not 0 <= self.momentum <= 1:
            raise ValueError(f"momentum must be from 0 to 1, the weight of the new batch, got {self.momentum}")
        for vector in inputs[1:]:
            if vector.shape != (x.shape[self.axis],):
                raise ValueError(f"{list(vector.shape)} does not fit axis {self.axis} of {list(x.shape)}")
        return (x,)

    def evaluate(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        x = inputs[0]
        weight, bias, mean, var = (_along(v, x.ndim, self.axis) for v in inputs[1:])
        return ((x - mean) / np.sqrt(var + x.dtype.type(self.eps)) * weight + bias,)


@operator
class GroupNorm(Operator):
    """Normalise each sample's ``groups`` groups of channels over the channels and all later places, then scale.

    Inputs: x [N, ...], weight [C], bias [C]; the channels lie on ``axis``. groups = C is instance
    normalisation (Wu & He, arXiv 1803.08494; torch.nn.GroupNorm).
    """

    groups: int
    eps: float = 1e-5
    axis: int = 1

    def infer(self, *inputs: Spec) -> tuple[Spec, ...]:
        x = inputs[0]
        _check_eps(self.eps)
        if x.shape[self.axis] % self.groups:
            raise ValueError(f"{x.shape[self.axis]} channels do not split into {self.groups} groups")
        return (x,)

    def evaluate(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        x, weight, bias = inputs
        first = np.moveaxis(x, self.axis, 1)
        flat = first.reshape(first.shape[0], self.groups, -1)
        mean = flat.mean(-1, keepdims=True)
        var = np.square(flat - mean).mean(-1, keepdims=True)
        result = ((flat - mean) / np.sqrt(var + x.dtype.type(self.eps))).reshape(first.shape)
        result = result * _along(weight, x.ndim, 1) + _along(bias, x.ndim, 1)
        return (np.moveaxis(result, 1, self.axis),)

    def arithmetic(self, inputs: Sequence[Spec], outputs: Sequence[Spec]) -> int:
        return 4 * inputs[0].size + inputs[0].shape[0] * self.groups


@operator
class LayerNorm(Operator):
    """Normalise over ``axes`` (sorted, non-negative), then scale and shift (Ba et al., arXiv 1607.06450).

    Inputs: x, weight, bias; weight and bias have the shape of the normalised axes. Variance is the biased one.
    """

    axes: tuple[int, ...]
    eps: float = 1e-5

    def infer(self, *inputs: Spec) -> tuple[Spec, ...]:
        x = inputs[0]
        _check_eps(self.eps)
        want = tuple(x.shape[a] for a in self.axes)
        for vector in inputs[1:]:
            if vector.shape != want:
                raise ValueError(f"{list(vector.shape)} does not fit axes {list(self.axes)} of {list(x.shape)}")
        return (x,)

    def spread(self, vector: np.ndarray, rank: int, shape: tuple[int, ...]) -> np.ndarray:
        """``vector`` of the normalised axes, broadcastable to x."""
        return vector.reshape([shape[i] if i in self.axes else 1 for i in range(rank)])

    def evaluate(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        x, weight, bias = inputs
        mean = x.mean(self.axes, keepdims=True)
        var = np.square(x - mean).mean(self.axes, keepdims=True)
        result = (x - mean) / np.sqrt(var + x.dtype.type(self.eps))
        return (result * self.spread(weight, x.ndim, x.shape) + self.spread(bias, x.ndim, x.shape),)

    def arithmetic(self, inputs: Sequence[Spec], outputs: Sequence[Spec]) -> int:
        """x - mean, times 1/√, times weight, plus bias; and + eps once for each set that is normalised."""
        return 4 * inputs[0].size + inputs[0].size // max(inputs[1].size, 1)


@operator
class RmsNorm(Operator):
    """x / √(mean(x²) + eps) · weight over the trailing axes ``axes`` (Zhang & Sennrich, arXiv 1910.07467).

    Inputs: x, weight (shape of the normalised axes).
    """

    axes: tuple[int, ...]
    eps: float = 1e-6

    def infer(self, *inputs: Spec) -> tuple[Spec, ...]:
        x, weight = inputs
        _check_eps(self.eps)
        if weight.shape != tuple(x.shape[a] for a in self.axes):
            raise ValueError(f"{list(weight.shape)} does not fit axes {list(self.axes)} of {list(x.shape)}")
        return (x,)

    def evaluate(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        x, weight = inputs
        scale = np.sqrt(np.square(x).mean(self.axes, keepdims=True) + x.dtype.type(self.eps))
        spread = [x.shape[i] if i in self.axes else 1 for i in range(x.ndim)]
        return (x / scale * weight.reshape(spread),)

    def arithmetic(self, inputs: Sequence[Spec], outputs: Sequence[Spec]) -> int:
        return 2 * inputs[0].size + inputs[0].size // max(inputs[1].size, 1)
