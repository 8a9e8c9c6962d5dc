"""The sorted table of strings that a checkpoint's ``.index`` file is (the format of LevelDB's tables)."""

from __future__ import annotations

from collections.abc import Iterator

from instep.capture.tf.wire import varint

__all__ = ["entries"]

_MAGIC = bytes.fromhex("57fb808b247547db")
_FOOTER = 48


def entries(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Key and value of every entry, in order. Raises ValueError where the table contradicts itself."""
    if len(data) < _FOOTER or data[-8:] != _MAGIC:
        raise ValueError("it does not end as an index of TensorFlow's does")
    at = len(data) - _FOOTER
    _, at = _handle(data, at)  # where the index of filters lies: tables of checkpoints have none
    place, _ = _handle(data, at)
    spent = 0
    for _, value in _block(data, place):
        inner, _ = _handle(value, 0)
        spent += inner[1]
        if spent > len(data):
            raise ValueError("its blocks are together larger than itself")
        yield from _block(data, inner)


def _handle(data: bytes, at: int) -> tuple[tuple[int, int], int]:
    """(offset, size) of a block, and where that ends."""
    offset, at = varint(data, at)
    size, at = varint(data, at)
    return (offset, size), at


def _block(data: bytes, place: tuple[int, int]) -> Iterator[tuple[bytes, bytes]]:
    """Entries share the first bytes of their keys with the one before."""
    offset, size = place
    if offset + size + 5 > len(data) or size < 4:
        raise ValueError(f"a block of {size} bytes at {offset} lies outside of its {len(data)} bytes")
    if data[offset + size]:
        raise ValueError(f"the block at {offset} is compressed, which checkpoints of TensorFlow 2 are not")
    block = data[offset : offset + size]
    restarts = int.from_bytes(block[-4:], "little")
    end = size - 4 - 4 * restarts
    if end < 0:
        raise ValueError(f"the block at {offset} claims {restarts} restarts")
    at, key = 0, b""
    while at < end:
        shared, at = varint(block, at)
        own, at = varint(block, at)
        length, at = varint(block, at)
        if shared > len(key) or at + own + length > end:
            raise ValueError(f"an entry of the block at {offset} leaves the block")
        key = key[:shared] + block[at : at + own]
        yield key, block[at + own : at + own + length]
        at += own + length
