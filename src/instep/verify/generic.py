"""What a wrong array looks like beside the right one when no known mistake fits: shifted, permuted, scaled, rounded."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np

from instep.graph import Node
from instep.verify.verdict import Diagnosis

__all__ = ["describe"]

#: A description holds when it leaves at most this share of the error's energy (RMS).
HOLDS = 0.05
#: A factor, an offset or a range that is fitted to so few numbers fits whatever is wrong with them.
FITTED = 3


def _rms(x: np.ndarray) -> float:
    return math.sqrt(float(np.mean(np.square(x)))) if x.size else 0.0


def _moved(right: np.ndarray) -> Iterator[tuple[str, str, np.ndarray]]:
    for axis, n in enumerate(right.shape):
        if n < 3:
            continue
        for by in (1, -1):
            yield (
                "shifted by one place",
                f"the right value moved by {by} along axis {axis} (edges aside)",
                np.roll(right, by, axis),
            )
        yield "reversed along an axis", f"the right value reversed along axis {axis}", np.flip(right, axis)
    for perm in itertools.islice(itertools.permutations(range(right.ndim)), 1, 120):
        turned = right.transpose(perm)
        if turned.shape == right.shape:
            yield "transposed", f"the right value with axes {list(perm)}", turned
        if right.ndim <= 4:
            yield (
                "memory read in the wrong layout",
                (f"the right value's memory in the order {list(perm)}"),
                np.ascontiguousarray(turned).reshape(right.shape),
            )


def _channels(right: np.ndarray, wrong: np.ndarray) -> Iterator[tuple[str, str, np.ndarray]]:
    """Per-channel matches along each axis: a permutation, a factor and offset."""
    for axis, n in enumerate(right.shape):
        if not 1 < n <= 4096 or right.size // n < 4:
            continue
        a = np.moveaxis(right, axis, 0).reshape(n, -1)
        b = np.moveaxis(wrong, axis, 0).reshape(n, -1)
        if not np.isfinite(b).all():
            continue
        za, zb = a - a.mean(1, keepdims=True), b - b.mean(1, keepdims=True)
        na, nb = np.sqrt((za * za).sum(1)), np.sqrt((zb * zb).sum(1))
        if (na > 0).all() and (nb > 0).all():
            order = np.argmax((zb / nb[:, None]) @ (za / na[:, None]).T, 1)
            if len(set(order.tolist())) == n and (order != np.arange(n)).any():
                yield (
                    "channels permuted",
                    (f"axis {axis} in the order {order[:8].tolist()}{'…' if n > 8 else ''}"),
                    np.take(right, order, axis),
                )
        factor = np.where(na > 0, (za * zb).sum(1) / np.where(na > 0, na * na, 1), 1.0)
        offset = b.mean(1) - factor * a.mean(1)
        fitted = (a * factor[:, None] + offset[:, None]).reshape(np.moveaxis(right, axis, 0).shape)
        only_offset = np.abs(factor - 1).max() < 1e-4
        only_factor = np.abs(offset).max() < 1e-4 * max(_rms(right), 1e-30)
        kind = "offset" if only_offset else "scaled" if only_factor else "scaled and offset"
        yield (
            f"{kind} per channel",
            (
                f"along axis {axis}: factors {factor.min():.6g} … {factor.max():.6g}, "
                f"offsets {offset.min():.3g} … {offset.max():.3g}"
            ),
            np.moveaxis(fitted, 0, axis),
        )


def _whole(right: np.ndarray, wrong: np.ndarray) -> Iterator[tuple[str, str, np.ndarray]]:
    down = float(np.vdot(right, right))
    if down > 0 and right.size > FITTED:
        factor = float(np.vdot(right, wrong)) / down
        yield "scaled", f"{factor:.6g} times the right value", right * factor
    yield "activation dropped or added", "the right value with its negative part cut off", np.maximum(right, 0)
    if right.size > FITTED:
        offset = float(np.mean(wrong - right))
        yield "offset", f"the right value plus {offset:.6g}", right + offset
        yield "clipped", "the right value clipped to its result's range", np.clip(right, wrong.min(), wrong.max())
    yield "zero", "all zeros", np.zeros_like(right)
    step = np.float16
    yield "computed in half precision", "the right value rounded to float16", right.astype(step).astype(np.float64)


def _few(right: np.ndarray, wrong: np.ndarray) -> tuple[str, str] | None:
    """Is the error in a few slices along one axis only?"""
    error = np.abs(wrong - right)
    for axis, n in enumerate(right.shape):
        if n < 4:
            continue
        worst = error.max(tuple(a for a in range(right.ndim) if a != axis))
        bad = np.flatnonzero(worst > 1e-3 * worst.max())
        if len(bad) <= max(1, n // 4):
            return "a few channels wrong", f"only indices {bad[:8].tolist()} of axis {axis} (of {n}) are wrong"
    return None


def describe(truth: np.ndarray, right: np.ndarray, wrong: np.ndarray, node: Node, value: str) -> Diagnosis | None:
    """The description that explains most of ``wrong`` - ``right``, when it explains nearly all of it."""
    if truth.dtype.kind != "f" or right.shape != wrong.shape:
        return None

    def made(cause: str, evidence: str, left: float) -> Diagnosis:
        return Diagnosis(cause, node.describe(), node.scope, node.origin, evidence, left, value)

    bad = int(np.count_nonzero(~np.isfinite(wrong) & np.isfinite(right)))
    if bad:
        return made("not finite", f"{bad} of {wrong.size} elements are NaN or infinite where the source's are not", 0.0)
    error = _rms(wrong - right)
    if error == 0.0:
        return None
    best: tuple[float, str, str] | None = None
    for cause, evidence, guess in itertools.chain(_whole(right, wrong), _channels(right, wrong), _moved(right)):
        if cause.startswith("shifted"):
            inner = tuple(slice(1, -1) if n > 4 else slice(None) for n in right.shape)
            left = _rms((wrong - guess)[inner]) / error
        else:
            left = _rms(wrong - guess) / error
        if best is None or left < 0.3 * best[0]:
            best = (left, cause, evidence)
    if best is None or best[0] > HOLDS:
        few = _few(right, wrong)
        return made(*few, 0.0) if few is not None else None
    left, cause, evidence = best
    return made(cause, f"{evidence} explains {100 * (1 - left):.4g} % of the error", left)
