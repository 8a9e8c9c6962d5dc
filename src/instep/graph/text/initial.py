"""Initialisers by name, from one seed: every weight has a generator of its own, so that order does not matter.

Each is what the framework calls so: ``he_*``, ``glorot_*``, ``lecun_*`` and ``truncated_normal`` are Keras' and TF's,
``kaiming_normal``, ``xavier_normal`` and ``torch`` PyTorch's. The uniform ones are the same in both.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable

import numpy as np

__all__ = ["INITIALISERS", "Initial", "initialise"]

#: name and numbers, as read from a text
Initial = tuple[str, tuple[float, ...]]

#: Initialisers and how many numbers each may take.
INITIALISERS: dict[str, int] = {
    "torch": 0, "kaiming_normal": 0, "xavier_normal": 0, "he_normal": 0, "he_uniform": 0, "glorot_normal": 0,
    "glorot_uniform": 0, "lecun_normal": 0, "lecun_uniform": 0, "normal": 1, "truncated_normal": 1, "uniform": 1,
    "constant": 1, "zeros": 0, "ones": 0,
}  # fmt: skip

#: What a normal distribution cut at two deviations keeps of its deviation; Keras divides by it.
KEPT = 0.87962566103423978


def _truncated(rng: np.random.Generator, shape: tuple[int, ...], deviation: float) -> np.ndarray:
    """Normal, drawn again beyond two deviations (the deviation is not corrected)."""
    drawn = rng.standard_normal(shape, dtype=np.float32)
    flat = drawn.reshape(-1)
    far = np.flatnonzero(np.abs(flat) > 2)
    for _ in range(64):
        if not far.size:
            break
        again = rng.standard_normal(far.size, dtype=np.float32)
        flat[far] = again
        far = far[np.abs(again) > 2]
    np.clip(drawn, -2, 2, out=drawn)
    drawn *= np.float32(deviation)
    return drawn


def _uniform(rng: np.random.Generator, shape: tuple[int, ...], limit: float) -> np.ndarray:
    drawn = rng.random(shape, dtype=np.float32)
    drawn *= np.float32(2 * limit)
    drawn -= np.float32(limit)
    return drawn


def _normal(rng: np.random.Generator, shape: tuple[int, ...], deviation: float) -> np.ndarray:
    drawn = rng.standard_normal(shape, dtype=np.float32)
    drawn *= np.float32(deviation)
    return drawn


#: Each takes the generator, the shape, fan-in, fan-out and its number (or None).
_DRAW: dict[str, Callable[[np.random.Generator, tuple[int, ...], int, int, float | None], np.ndarray]] = {
    # torch.nn.Conv2d and Linear: kaiming_uniform(a=√5), which is ±1/√fan_in, for weights and biases alike
    "torch": lambda g, s, i, o, n: _uniform(g, s, 1 / math.sqrt(i)),
    # He et al., arXiv 1502.01852, gain √2: PyTorch draws whole normals, Keras cuts them at two deviations and corrects
    "kaiming_normal": lambda g, s, i, o, n: _normal(g, s, math.sqrt(2 / i)),
    "he_normal": lambda g, s, i, o, n: _truncated(g, s, math.sqrt(2 / i) / KEPT),
    "he_uniform": lambda g, s, i, o, n: _uniform(g, s, math.sqrt(6 / i)),
    # Glorot & Bengio 2010, likewise
    "xavier_normal": lambda g, s, i, o, n: _normal(g, s, math.sqrt(2 / (i + o))),
    "glorot_normal": lambda g, s, i, o, n: _truncated(g, s, math.sqrt(2 / (i + o)) / KEPT),
    "glorot_uniform": lambda g, s, i, o, n: _uniform(g, s, math.sqrt(6 / (i + o))),
    "lecun_normal": lambda g, s, i, o, n: _truncated(g, s, math.sqrt(1 / i) / KEPT),
    "lecun_uniform": lambda g, s, i, o, n: _uniform(g, s, math.sqrt(3 / i)),
    "normal": lambda g, s, i, o, n: _normal(g, s, 0.02 if n is None else n),
    "truncated_normal": lambda g, s, i, o, n: _truncated(g, s, 0.02 if n is None else n),
    "uniform": lambda g, s, i, o, n: _uniform(g, s, 0.05 if n is None else n),
    "constant": lambda g, s, i, o, n: np.full(s, 0 if n is None else n, np.float32),
    "zeros": lambda g, s, i, o, n: np.zeros(s, np.float32),
    "ones": lambda g, s, i, o, n: np.ones(s, np.float32),
}


def initialise(
    initial: Initial, name: str, shape: tuple[int, ...], fans: tuple[int, int], dtype: str, seed: int
) -> np.ndarray:
    """The array that weight ``name`` starts with; the same for the same name, shape and seed, always."""
    kind, numbers = initial
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    rng = np.random.Generator(np.random.PCG64(int.from_bytes(digest[:16], "little")))
    fan_in, fan_out = (max(f, 1) for f in fans)
    drawn = _DRAW[kind](rng, shape, fan_in, fan_out, numbers[0] if numbers else None)
    return np.ascontiguousarray(drawn.astype(dtype, copy=False)).reshape(shape)
