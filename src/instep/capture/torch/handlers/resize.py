"""Interpolation: F.interpolate in all its modes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from instep.capture.torch.builder import Builder
from instep.capture.torch.registry import handles
from instep.graph import Value, ops

__all__: list[str] = []

Sizes = Sequence[int] | None
Scales = Sequence[float] | None


def _resize(
    b: Builder,
    x: Value,
    size: Sequence[int],
    scales: Sequence[float | None],
    mode: str,
    coordinates: str,
    antialias: bool = False,
) -> Value:
    """``scales`` are torch's: where given, 1 / scale is the step between sampled positions instead of in / out."""
    # torch copies an axis that keeps its size, whatever its scale, except in these two modes
    keeps_scale = (mode == "bicubic" and not antialias) or (mode == "nearest" and coordinates == "half_pixel")
    if not keeps_scale:
        scales = [1.0 if n == o and s else s for n, o, s in zip(x.shape[2:], size, scales, strict=True)]
    if mode == "nearest" and coordinates == "asymmetric":
        # and doubling by "nearest" takes i // 2, whatever the scale
        scales = [2.0 if 2 * n == o and s else s for n, o, s in zip(x.shape[2:], size, scales, strict=True)]
    if coordinates == "align_corners" or any(s is None for s in scales):
        given = None
    else:
        exact = all(round(n * s) == n * s == o for n, s, o in zip(x.shape[2:], scales, size, strict=True))  # type: ignore[operator]
        given = None if exact else tuple(float(s) for s in scales if s is not None)
    return b(ops.Resize2d(tuple(size), mode, coordinates, given, antialias), x)  # type: ignore[arg-type]


def _arguments(b: Builder, rest: tuple[Any, ...], named: dict[str, Any], n: int, corners: bool) -> tuple[Any, ...]:
    """(size, scales, align_corners) of the ``.vec`` and ``.default`` overloads."""
    rest = tuple(rest)
    align = named.get("align_corners", rest[1] if corners and len(rest) > 1 else False)
    after = rest[(2 if corners else 1) :]
    size = b.shape()[2:]
    if str(b.step.target).endswith(".vec"):
        scales = named.get("scale_factors", after[0] if after else None)
        scales = [None] * n if scales is None else list(scales)
    else:
        scales = [*after, *[None] * n][:n]
        for i, key in enumerate(("scales_d", "scales_h", "scales_w")[3 - n :] if n > 1 else ("scales",)):
            scales[i] = named.get(key, scales[i])
    return size, scales, align


@handles("upsample_bilinear2d", "upsample_bicubic2d", "_upsample_bilinear2d_aa", "_upsample_bicubic2d_aa")
def smooth(b: Builder, x: Value, *rest: Any, **named: Any) -> Value:
    name = str(b.step.target)
    size, scales, align = _arguments(b, rest, named, 2, True)
    mode = "bicubic" if "bicubic" in name else "bilinear"
    return _resize(b, x, size, scales, mode, "align_corners" if align else "half_pixel", "_aa" in name)


@handles("upsample_nearest2d", "_upsample_nearest_exact2d")
def nearest(b: Builder, x: Value, *rest: Any, **named: Any) -> Value:
    size, scales, _ = _arguments(b, rest, named, 2, False)
    return _resize(b, x, size, scales, "nearest", _nearest_rule(b))


def _nearest_rule(b: Builder) -> str:
    return "half_pixel" if "exact" in str(b.step.target) else "asymmetric"


@handles("upsample_nearest1d", "_upsample_nearest_exact1d", "upsample_linear1d")
def line(b: Builder, x: Value, *rest: Any, **named: Any) -> Value:
    linear = "linear" in str(b.step.target)
    (out,), (scale,), align = _arguments(b, rest, named, 1, linear)
    rule = ("align_corners" if align else "half_pixel") if linear else _nearest_rule(b)
    flat = b.reshape(x, (x.shape[0], x.shape[1], 1, x.shape[2]))
    y = _resize(b, flat, (1, out), (None if scale is None else 1.0, scale), "bilinear" if linear else "nearest", rule)
    return b.reshape(y, (x.shape[0], x.shape[1], out))


@handles("upsample_nearest3d", "_upsample_nearest_exact3d", "upsample_trilinear3d")
def volume(b: Builder, x: Value, *rest: Any, **named: Any) -> Value:
    """Separable: first the planes, then the depth as the rows of a plane."""
    linear = "linear" in str(b.step.target)
    size, scales, align = _arguments(b, rest, named, 3, linear)
    rule = ("align_corners" if align else "half_pixel") if linear else _nearest_rule(b)
    mode = "bilinear" if linear else "nearest"
    n, c, d, h, w = x.shape
    y = _resize(b, b.reshape(x, (n, c * d, h, w)), size[1:], scales[1:], mode, rule)
    y = b.reshape(y, (n, c, d, size[1] * size[2]))
    flat = size[1] * size[2]
    y = _resize(b, y, (size[0], flat), (scales[0], None if scales[0] is None else 1.0), mode, rule)
    return b.reshape(y, (n, c, *size))
