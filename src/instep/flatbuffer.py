"""Reads flatbuffers that nobody vouches for: every offset and length is checked against the file before it is used."""

from __future__ import annotations

import struct

import numpy as np

__all__ = ["Flatbuffer", "FlatbufferError"]

#: No list of a sound file has more entries, no name more letters.
_LIMIT = 1 << 20
#: A file may share vectors, but what is read of it in all is of its own order: else a small file could name one long
#: vector a million times.
_SHARING = 8


class FlatbufferError(ValueError):
    """The bytes are no sound flatbuffer; the message is one clause."""


class Flatbuffer:
    """Tables, vectors and numbers by vtable slot. A place (an int) is where a table starts; 0 stands for "left out".

    Every method raises FlatbufferError when the file does not hold what it is asked for.
    """

    def __init__(self, data: memoryview) -> None:
        self.data = data
        self.size = len(data)
        self._left = _SHARING * self.size + _LIMIT

    def number(self, at: int, form: str) -> int:
        """The number of ``struct`` format ``form`` at byte ``at``."""
        if at < 0 or at + struct.calcsize(form) > self.size:
            raise FlatbufferError("an offset points outside the file")
        return struct.unpack_from("<" + form, self.data, at)[0]

    def place(self, table: int, slot: int) -> int:
        """Where field ``slot`` of ``table`` lies; 0 when it is left out."""
        vtable = table - self.number(table, "i")
        length = self.number(vtable, "H")
        entry = 4 + 2 * slot
        if entry + 2 > length:
            return 0
        offset = self.number(vtable + entry, "H")
        return table + offset if offset else 0

    def scalar(self, table: int, slot: int, form: str, default: int = 0) -> int:
        at = self.place(table, slot)
        return self.number(at, form) if at else default

    def child(self, table: int, slot: int) -> int:
        """The table, vector or string that a field refers to; 0 when left out."""
        at = self.place(table, slot)
        return at + self.number(at, "I") if at else 0

    def span(self, table: int, slot: int, width: int) -> tuple[int, int]:
        """(start, count) of a vector field of elements ``width`` bytes wide; (0, 0) when left out."""
        at = self.child(table, slot)
        if not at:
            return 0, 0
        count = self.number(at, "I")
        if at + 4 + count * width > self.size:
            raise FlatbufferError("a vector is longer than the file")
        return at + 4, count

    def tables(self, table: int, slot: int) -> list[int]:
        """The places of a vector of tables."""
        start, count = self._counted(self.span(table, slot, 4), 4)
        if count > _LIMIT:
            raise FlatbufferError(f"it claims {count} tables in one list")
        return [start + 4 * i + self.number(start + 4 * i, "I") for i in range(count)]

    def array(self, table: int, slot: int, dtype: str) -> np.ndarray:
        """A vector of numbers."""
        kind = np.dtype(dtype).newbyteorder("<")
        start, count = self._counted(self.span(table, slot, kind.itemsize), kind.itemsize)
        return np.frombuffer(self.data, kind, count, start) if count else np.zeros(0, kind)

    def text(self, table: int, slot: int) -> str:
        start, count = self._counted(self.span(table, slot, 1), 1)
        if count > _LIMIT:
            raise FlatbufferError("it holds a name of more than a million letters")
        return bytes(self.data[start : start + count]).decode("utf-8", "replace")

    def checked(self, table: int) -> int:
        """``table`` once its vtable and all fields are known to lie inside the file: readers that trust may follow."""
        vtable = table - self.number(table, "i")
        length, width = self.number(vtable, "H"), self.number(vtable + 2, "H")
        if length % 2 or length < 4 or vtable + length > self.size or table + width > self.size:
            raise FlatbufferError("a table reaches beyond the file")
        for entry in range(4, length, 2):
            if self.number(vtable + entry, "H") >= max(width, 1):
                raise FlatbufferError("a field lies outside its table")
        return table

    def _counted(self, span: tuple[int, int], width: int) -> tuple[int, int]:
        self._left -= span[1] * width
        if self._left < 0:
            raise FlatbufferError("its lists name more than the file can hold")
        return span
