"""Protocol buffers as they lie in a file: fields one after the other, checked before they are followed."""

from __future__ import annotations

from collections.abc import Iterator

__all__ = ["fields", "signed", "text", "varint"]


def varint(data: bytes, at: int) -> tuple[int, int]:
    """The number at ``at`` (seven bits a byte, lowest first), and where it ends. Raises ValueError."""
    number = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise ValueError(f"a number at byte {at} does not end")
        byte = data[at]
        number |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return number & (1 << 64) - 1, at
        shift += 7


def fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """(field number, value) of a message; a value is an integer, or the bytes of a string, message or fixed number."""
    at = 0
    while at < len(data):
        tag, at = varint(data, at)
        kind = tag & 7
        if kind == 0:
            value, at = varint(data, at)
            yield tag >> 3, value
            continue
        if kind == 2:
            size, at = varint(data, at)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise ValueError(f"a field at byte {at} is of kind {kind}, which messages do not have")
        if size > len(data) - at:
            raise ValueError(f"a field at byte {at} claims {size} bytes, {len(data) - at} are left")
        yield tag >> 3, data[at : at + size]
        at += size


def signed(value: int | bytes) -> int:
    """A field's integer as int64."""
    if not isinstance(value, int):
        raise ValueError("a field holds bytes where an integer belongs")
    return value - (1 << 64) if value >> 63 else value


def text(value: int | bytes) -> str:
    """A field's string."""
    if isinstance(value, int):
        raise ValueError("a field holds an integer where a string belongs")
    return value.decode("utf-8", "replace")
