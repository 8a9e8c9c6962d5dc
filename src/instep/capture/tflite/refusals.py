"""Why an operator of a file is not captured, and what to do instead, in one sentence."""

from __future__ import annotations

__all__ = ["why_not"]

_DRAWN = "what it draws has no truth to compare with; export the network for inference"
_WORDS = "words and tables of them are no part of the computation; give the network their numbers as an input"
_TRAINED = "its sums over lists of varying length have no place in a static graph; give the network dense inputs"
#: Why each builtin operator without a handler has none.
_OWN = {
    "BITCAST": "it reads the bits of one type as another's; export the network without it",
    "RANDOM_STANDARD_NORMAL": _DRAWN,
    "RANDOM_UNIFORM": _DRAWN,
    "MULTINOMIAL": _DRAWN,
    "STABLEHLO_RNG_BIT_GENERATOR": _DRAWN,
    "HASHTABLE": _WORDS,
    "HASHTABLE_FIND": _WORDS,
    "HASHTABLE_IMPORT": _WORDS,
    "HASHTABLE_SIZE": _WORDS,
    "HASHTABLE_LOOKUP": _WORDS,
    "LSH_PROJECTION": _WORDS,
    "SKIP_GRAM": _WORDS,
    "EMBEDDING_LOOKUP_SPARSE": _TRAINED,
    "CONCAT_EMBEDDINGS": "LiteRT has no meaning of it; export the network again, with GATHER",
    "DENSIFY": "its weights are stored sparse; export the network with dense ones",
    "DELEGATE": "one device's own program stands in its place; take the file from before its compilation",
    "PLACEHOLDER_FOR_GREATER_OP_CODES": "the file does not say which operator it is",
    "CUSTOM": "the file does not name it",
    "STABLEHLO_CONVOLUTION": "no runtime of TFLite computes it; have the converter write CONV_2D",
    "STABLEHLO_CUSTOM_CALL": "its meaning is not in the file; export the network without it",
    "STABLEHLO_REMAINDER": "no runtime of TFLite computes it; export the network with FLOOR_MOD",
    "STABLEHLO_SCATTER": "how it joins what meets at one place is a program of its own; export it with SCATTER_ND",
    "STABLEHLO_SORT": "how it compares is a program of its own; export it with TOPK_V2",
}


def why_not(name: str) -> str:
    """What to say of the builtin (or "CUSTOM:…") operator ``name`` that has no handler."""
    if name.startswith("CUSTOM:Flex"):
        return "it runs TensorFlow itself (a Flex operator); export the network with TFLite's own operators"
    if name.startswith("CUSTOM:"):
        return "a custom operator's meaning is not in the file"
    if name in _OWN:
        return _OWN[name]
    return "say what it means with a handler (docs/architecture.md), or export the network without it"
