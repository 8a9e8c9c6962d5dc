"""What somebody may have meant by a word that is not known here: what other frameworks call so, or the nearest word."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping

__all__ = ["FIELDS", "LAYERS_ELSEWHERE", "WORDS", "meant", "plain_word", "syntax"]

#: What layers are called elsewhere, in small letters without underscores.
LAYERS_ELSEWHERE: dict[str, str] = {
    "conv1d": "conv", "conv2d": "conv", "convolution": "conv", "depthwiseconv2d": "conv", "separableconv2d": "conv",
    "convtranspose2d": "conv_transpose", "conv2dtranspose": "conv_transpose", "deconv": "conv_transpose",
    "dense": "linear", "fc": "linear", "fullyconnected": "linear",
    "bn": "batch_norm", "batchnorm2d": "batch_norm", "batchnormalization": "batch_norm",
    "layernormalization": "layer_norm", "instancenorm": "group_norm", "instancenorm2d": "group_norm",
    "maxpooling2d": "max_pool", "averagepooling2d": "avg_pool", "avgpool2d": "avg_pool", "maxpool2d": "max_pool",
    "gap": "global_avg_pool", "globalaveragepooling2d": "global_avg_pool",
    "upsample": "resize", "upsampling": "resize", "upsampling2d": "resize", "interpolate": "resize",
    "depthtospace": "pixel_shuffle", "swish": "silu", "hardswish": "hard_swish", "hardsigmoid": "hard_sigmoid",
    "leakyrelu": "leaky_relu", "logistic": "sigmoid", "cat": "concat", "concatenate": "concat", "chunk": "split",
    "transpose": "permute", "view": "reshape", "squeeze": "reshape", "unsqueeze": "reshape", "mean": "reduce_mean",
    "max": "reduce_max", "multiply": "mul", "subtract": "sub", "divide": "div", "clamp": "clip",
    "zeropadding2d": "pad", "spatialdropout2d": "dropout", "multiheadattention": "attention", "mha": "attention",
    "transformerencoderlayer": "transformer", "parameter": "param", "dilatedconv": "conv",
}  # fmt: skip
#: What fields are called elsewhere: what they may be here, the first that the layer has.
FIELDS: dict[str, tuple[str, ...]] = {
    "filters": ("out",), "channels": ("out",), "outchannels": ("out",), "features": ("out",),
    "units": ("out", "hidden"),
    "outfeatures": ("out",), "embeddingdim": ("out",), "numembeddings": ("count",), "hiddensize": ("hidden",),
    "kernelsize": ("kernel",), "ksize": ("kernel",), "size": ("kernel", "scale", "out"), "poolsize": ("kernel",),
    "strides": ("stride",), "dilationrate": ("dilation",), "pad": ("padding",), "pads": ("padding",),
    "usebias": ("bias",), "activation": ("act",), "nonlinearity": ("act",), "epsilon": ("eps",), "p": ("rate",),
    "center": ("bias",), "affine": ("scale",), "dim": ("axis", "axes"), "dims": ("axes", "perm"),
    "order": ("perm",), "numheads": ("heads",), "numgroups": ("groups",), "alpha": ("start",), "init": ("start",),
    "scalefactor": ("scale",), "upscalefactor": ("scale",), "blocksize": ("scale",), "negativeslope": ("alpha",),
    "keepdim": ("keepdims",), "kernelinitializer": ("init",), "initializer": ("init",), "weightdecay": ("decay",),
    "parts": ("sizes",), "trainable": ("trained",), "requiresgrad": ("trained",), "arguments": ("args",),
    "inputs": ("in", "input"), "outputs": ("out", "output"), "layers": ("body",), "steps": ("body",),
}  # fmt: skip
#: What values of fields are called elsewhere.
WORDS: dict[str, str] = {
    "swish": "silu", "linear": "none", "identity": "none", "cubic": "bicubic", "linearresize": "bilinear",
    "integer": "int", "string": "str", "number": "float", "boolean": "bool",
    "yes": "true", "on": "true", "no": "false", "off": "false",
}  # fmt: skip


def meant(
    word: str, known: Iterable[str], elsewhere: Mapping[str, str | tuple[str, ...]] | None = None, *, end: str = "?"
) -> str:
    """``; did you mean 'conv'?`` or "". ``elsewhere``: what other frameworks call what is known here."""
    words = list(known)[:500]
    other = (elsewhere or {}).get(plain_word(word), ())
    for name in (other,) if isinstance(other, str) else other:
        if name in words:
            return f"; did you mean '{name}'{end}"
    plain = {plain_word(w): w for w in reversed(words)}
    close = difflib.get_close_matches(plain_word(word)[:80], plain, 1)
    return f"; did you mean '{plain[close[0]]}'{end}" if close else ""


def plain_word(word: str) -> str:
    """A word in small letters without underscores, as the tables here have it."""
    return word.lower().replace("_", "")


def syntax(text: str, line: int, begun: int | None) -> str:
    """Why YAML may not take ``line`` (from 1) of a text, in words that say what to change; "" where nothing is known.

    ``begun``: the line on which what is not closed there begins.
    """
    lines = text.splitlines()
    said = lines[line - 1] if 0 < line <= len(lines) else ""
    if "\t" in said:
        return "there is a tab here; steps are indented by spaces"
    if begun is not None and begun < line:
        return (
            f"what begins on line {begun} is not closed, or not indented like this; look for a bracket, a quote, a dash"
        )
    if ":{" in said or ":[" in said:
        return "behind a colon stands a space: '- conv: {out: 8}'"
    if said.count(": ") > 1:
        return "a text that has a colon stands in quotes"
    return ""
