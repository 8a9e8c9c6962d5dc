"""Options of custom operators, which are bytes: maps of names (flexbuffers), or the numbers of a C structure."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import Any

from flatbuffers import flexbuffers

__all__ = ["Decode", "flexible", "structure"]

#: An operator's bytes → its options by name. Raises ValueError and the like for bytes that are none.
Decode = Callable[[bytes], Mapping[str, Any]]


def flexible(*names: str) -> Decode:
    """Reads the numbers of these ``names`` from a map; those that it lacks are left out.

    Only numbers of the outermost map are followed: a small buffer can name one vector inside of another without end.
    """

    def decode(data: bytes) -> Mapping[str, Any]:
        root = flexbuffers.GetRoot(bytearray(data))
        entries = root.AsMap
        found = {}
        for name in names:
            try:
                entry = entries[name]
            except KeyError:
                continue
            if entry.IsNumeric or entry.IsBool:
                found[name] = entry.Value
        return found

    return decode


def structure(*names: str) -> Decode:
    """Reads 32-bit integers in this order."""

    def decode(data: bytes) -> Mapping[str, Any]:
        return dict(zip(names, struct.unpack_from(f"<{len(names)}i", data), strict=True))

    return decode
