"""Figures for results that are lossy by intention (FP16, INT8, pruned), against thresholds that the user states."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from instep.verify.verdict import correlation

__all__ = ["Figures", "measure_lossy", "psnr", "sqnr", "ssim", "top_k"]


def sqnr(result: np.ndarray, truth: np.ndarray) -> float:
    """Signal to quantisation noise in dB: 10 log10(Σ truth² / Σ (result - truth)²); inf when equal."""
    error = float(np.sum(np.square(np.asarray(result, np.float64) - truth)))
    signal = float(np.sum(np.square(np.asarray(truth, np.float64))))
    if error == 0.0:
        return math.inf
    return 10 * math.log10(signal / error) if signal > 0 else -math.inf


def psnr(result: np.ndarray, truth: np.ndarray, peak: float | None = None) -> float:
    """Peak signal to noise in dB; ``peak`` defaults to the truth's range (max - min)."""
    truth = np.asarray(truth, np.float64)
    peak = float(truth.max() - truth.min()) if peak is None else peak
    mse = float(np.mean(np.square(np.asarray(result, np.float64) - truth)))
    if mse == 0.0:
        return math.inf
    return 10 * math.log10(peak * peak / mse) if peak > 0 else -math.inf


def _box(x: np.ndarray, size: int) -> np.ndarray:
    """Mean over size × size windows of the last two axes (valid places), by running sums."""
    for axis in (-1, -2):
        total = np.cumsum(x, axis)
        total = np.concatenate([np.zeros_like(np.take(total, [0], axis)), total], axis)
        n = total.shape[axis]
        x = (np.take(total, np.arange(size, n), axis) - np.take(total, np.arange(0, n - size), axis)) / size
    return x


def ssim(result: np.ndarray, truth: np.ndarray, peak: float | None = None, window: int = 7) -> float:
    """Mean structural similarity over the last two axes with a square window (Wang et al., 2004; k1 .01, k2 .03)."""
    a, b = np.asarray(result, np.float64), np.asarray(truth, np.float64)
    peak = float(b.max() - b.min()) if peak is None else peak
    c1, c2 = (0.01 * peak) ** 2, (0.03 * peak) ** 2
    ma, mb = _box(a, window), _box(b, window)
    va, vb, cov = _box(a * a, window) - ma * ma, _box(b * b, window) - mb * mb, _box(a * b, window) - ma * mb
    down = (ma * ma + mb * mb + c1) * (va + vb + c2)
    up = (2 * ma * mb + c1) * (2 * cov + c2)
    return float(np.mean(np.where(down > 0, up / np.where(down > 0, down, 1), 1.0)))


def top_k(result: np.ndarray, truth: np.ndarray, k: int = 1) -> float:
    """Share of rows (last axis) whose best class of the truth is among the result's best ``k``."""
    rows, right = np.asarray(result).reshape(-1, result.shape[-1]), np.asarray(truth).reshape(-1, truth.shape[-1])
    best = np.argmax(right, -1)
    chosen = np.argsort(-rows, -1)[:, :k]
    return float(np.mean([b in c for b, c in zip(best, chosen, strict=True)]))


def _image_last(a: np.ndarray) -> np.ndarray | None:
    """The array with height and width last, when it looks like pictures."""
    if a.ndim != 4:
        return None
    if a.shape[3] in (1, 3, 4) and min(a.shape[1:3]) >= 7:
        return a.transpose(0, 3, 1, 2)
    return a if a.shape[1] in (1, 3, 4) and min(a.shape[2:]) >= 7 else None


def measure_lossy(result: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """The figures that make sense for one output: sqnr, correlation, and psnr with ssim or top1 with top5."""
    figures = {"sqnr": sqnr(result, truth), "correlation": correlation(result, truth)}  # type: ignore[arg-type]
    a, b = _image_last(np.asarray(result)), _image_last(np.asarray(truth))
    if a is not None and b is not None:
        figures["psnr"], figures["ssim"] = psnr(a, b), ssim(a, b)
    elif truth.ndim == 2 and truth.shape[-1] >= 10:
        figures["top1"], figures["top5"] = top_k(result, truth, 1), top_k(result, truth, 5)
    return figures


@dataclass(frozen=True)
class Figures:
    """Thresholds that the user states; each is a minimum, None is not judged. With none stated nothing is ``ok``."""

    sqnr: float | None = None
    correlation: float | None = None
    psnr: float | None = None
    ssim: float | None = None
    top1: float | None = None
    top5: float | None = None

    def judge(self, measured: Sequence[tuple[str, int, dict[str, float]]]) -> dict[str, Any]:
        """Worst figures over all outputs and inputs (means for top-k), whether each meets its threshold, and ``ok``."""
        keys = ("sqnr", "correlation", "psnr", "ssim", "top1", "top5")
        found: dict[str, float] = {}
        for key in keys:
            values = [m[key] for _, _, m in measured if key in m and not math.isnan(m[key])]
            if values:
                found[key] = sum(values) / len(values) if key.startswith("top") else min(values)
        failed = [
            f"{key} {found.get(key, math.nan):.4g} is below {limit:g}"
            for key in keys
            if (limit := getattr(self, key)) is not None and not found.get(key, -math.inf) >= limit
        ]
        stated = any(getattr(self, key) is not None for key in keys)
        plain = {k: (v if math.isfinite(v) else str(v)) for k, v in found.items()}
        return {"figures": plain, "stated": stated, "failed": failed, "ok": stated and not failed}
