"""The forms that are chosen because they measured best on XNNPACK; another target may ask for the plain ones."""

from __future__ import annotations

from collections.abc import Collection

__all__ = ["FORMS", "checked"]

#: Name → the form, and what stands in its place where it is avoided. A name of a rewrite leaves that rewrite out.
FORMS: dict[str, str] = {
    "fuse-scale-and-shift": "x · s + t per channel as a depthwise 1×1 convolution; else MUL and ADD",
    "widen-broadcasts": "a short row of channels repeated along the columns; else the row, broadcast by the operator",
    "absorb-transposes": "BATCH_MATMUL reads and writes transposed (adj_y); else TRANSPOSE",
    "mix-small-axes": "a Linear over few entries of an inner axis as BATCH_MATMUL of its matrix; else TRANSPOSEs",
    "spell-softmax": "a softmax over another axis than the last by its definition; else TRANSPOSEs",
    "split-depthwise": "a depthwise kernel of more than 25 places as a sum of dilated ones; else one kernel",
    "copy-channels": "channels copied by a 1×1 convolution for a depthwise multiplier; else the multiplier",
    "deconvolution-phases": "a convolution and DEPTH_TO_SPACE; else TRANSPOSE_CONV",
    "slice-borders": "reflected borders as SLICE and CONCATENATION; else MIRROR_PAD",
    "depthwise-strides": "every s-th row as a depthwise 1×1 convolution of stride s; else STRIDED_SLICE",
    "one-hot-channels": "channels chosen or reordered by a 1×1 convolution; else GATHER or TRANSPOSE",
    "transpose-groups": "a shuffle of groups of channels as RESHAPE, TRANSPOSE, RESHAPE; else GATHER",
    "join-repeats": "nearest upsampling as CONCATENATION of the image with itself; else RESIZE_NEAREST_NEIGHBOR",
    "split-means": "a mean over many places as one over rows, then one over columns; else one MEAN",
    "pool-by-axes": "a maximum over many places as rows, then columns; else one MAX_POOL_2D",
}


def checked(avoid: Collection[str]) -> frozenset[str]:
    """``avoid`` as a set. ValueError for a name that is no form."""
    if isinstance(avoid, str):
        raise ValueError(f"avoid must be a collection of names, got the text {avoid!r}")
    unknown = sorted(set(avoid) - FORMS.keys())
    if unknown:
        raise ValueError(f"no form is named {', '.join(unknown)}; there are {', '.join(FORMS)}")
    return frozenset(avoid)
