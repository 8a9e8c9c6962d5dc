"""Why an operator of a file is not captured, and what to do instead, in one sentence."""

from __future__ import annotations

__all__ = ["why_not"]

_CONTROL = {"STABLEHLO_WHILE", "STABLEHLO_CASE"}
#: Operators whose results have sizes that the numbers decide, and others that no graph operator is.
_DECIDED = {
    "WHERE": "how many elements it finds depends on the numbers",
    "UNIQUE": "how many values it finds depends on the numbers",
}
_OWN = {
    "BITCAST": "it reads the bits of one type as another's; export the network without it",
    "RANDOM_STANDARD_NORMAL": "what it draws has no truth to compare with; export the network for inference",
    "RANDOM_UNIFORM": "what it draws has no truth to compare with; export the network for inference",
    "MULTINOMIAL": "what it draws has no truth to compare with; export the network for inference",
    "HASHTABLE": "tables of words are no part of the computation; give the network their numbers as an input",
    "BASIC_LSTM": "it is old, undocumented quantised TensorFlow 1; export it with UNIDIRECTIONAL_SEQUENCE_LSTM",
}


def why_not(name: str) -> str:
    """What to say of the builtin (or "CUSTOM:…") operator ``name`` that has no handler."""
    if name.startswith("CUSTOM:Flex"):
        return "it runs TensorFlow itself (a Flex operator); export the network with TFLite's own operators"
    if name.startswith("CUSTOM:"):
        return "a custom operator's meaning is not in the file"
    if name in _DECIDED:
        return f"{_DECIDED[name]}; end the network before it, or export it with a fixed number of results"
    if name in _OWN:
        return _OWN[name]
    if name in _CONTROL:
        return "control flow has no place in a static graph; export the network without it"
    return "say what it means with a handler (docs/architecture.md), or export the network without it"
