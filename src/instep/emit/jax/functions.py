"""The table of the pure-function style: what the Flax NNX rules say, as functions of dictionaries of arrays."""

from __future__ import annotations

from dataclasses import replace

from instep.emit.code.call import Call, Rule
from instep.emit.code.recurrences import Recur
from instep.emit.jax.table import TABLE

__all__ = ["FUNCTIONS", "function_table"]

#: Layer → the helper that does the same, and the fields that are its options.
FUNCTIONS: dict[str, tuple[str, tuple[str, ...]]] = {
    "nnx.Conv": ("conv", ("strides", "padding", "kernel_dilation", "feature_group_count")),
    "nnx.ConvTranspose": ("conv_transpose", ("strides", "padding", "kernel_dilation")),
    "GroupedConvTranspose": ("conv_transpose", ("strides", "padding", "kernel_dilation", "feature_group_count")),
    "nnx.Linear": ("linear", ()),
    "BatchNorm": ("batch_norm", ("momentum", "epsilon", "axis")),
    "FixedBatchNorm": ("batch_norm", ("momentum", "epsilon", "axis")),
    "nnx.LayerNorm": ("layer_norm", ("epsilon",)),
    "nnx.GroupNorm": ("group_norm", ("num_groups", "epsilon")),
    "nnx.RMSNorm": ("rms_norm", ("epsilon",)),
    "nnx.Embed": ("embed", ()),
    "nnx.PReLU": ("prelu_layer", ()),
    "PReLU": ("prelu_layer", ()),
    "nnx.Dropout": ("dropout", ("rate", "broadcast_dims")),
}
#: Helpers that read a dictionary of arrays also where the layer has none of them.
_ALWAYS = ("layer_norm", "rms_norm", "group_norm")
#: Helpers that do something else while training.
_TRAINED = ("batch_norm", "dropout")
#: Options that helpers have defaults for; the others are always said.
_OPTIONAL = {"kernel_dilation": (1, 1), "feature_group_count": 1, "axis": -1, "broadcast_dims": ()}


def function_table() -> dict:
    """As ``TABLE``, in the style of functions. Recurrent layers are loops there: JAX alone has no such layer."""
    return {kind: _in_style(rule) for kind, rule in TABLE.items() if kind is not Recur}


def _in_style(rule: Rule) -> Rule:
    def written(node, graph):
        calls = rule(node, graph)
        return [_call(c) for c in ([calls] if isinstance(calls, Call) else calls)]

    return written


def _call(call: Call) -> Call:
    if not call.layer:
        # what Flax's pools do, the prelude's do too
        pools = tuple(name for name in ("avg_pool", "max_pool") if f"nnx.{name}(" in call.code)
        return replace(call, code=call.code.replace("nnx.", ""), helpers=(*call.helpers, *pools))
    name, options = FUNCTIONS[call.layer]
    kept = {k: call.fields[k] for k in options if k not in _OPTIONAL or call.fields[k] != _OPTIONAL[k]}
    train = "" if name not in _TRAINED else ", None" if call.layer == "FixedBatchNorm" else ", train"
    given = "".join(f", {k}={{{k}}}" for k in kept)
    owner = "{layer}, " if call.weights else "{{}}, " if name in _ALWAYS else ""
    code = call.code.replace("{layer}({0})", f"{name}({owner}{{0}}{train}{given})")
    return replace(
        call, code=code, fields=kept, layer=name if call.weights else "", positional=0, helpers=(name,), defaults={}
    )
