"""The tables of TFLite's schema that every reader of a file needs, checked; and the schema's names for its numbers."""

from __future__ import annotations

import functools
import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any, TypeVar

from instep.flatbuffer import Flatbuffer, FlatbufferError

__all__ = ["MODEL", "ModelTables", "operator_names", "origins_within", "type_names", "written_facts"]

#: Fields of the table Model by their vtable slot.
MODEL = {"codes": 1, "subgraphs": 2, "description": 3, "buffers": 4, "metadata": 6, "signatures": 7}
_MAX_OPERANDS = 1 << 14
#: A source line's name in a file is not longer than this.
_MAX_ORIGIN = 256
_T = TypeVar("_T")


class ModelTables(Flatbuffer):
    """What a file holds beside its tensors' and operators' own facts: buffers, codes, operands, names, metadata."""

    def buffers(self, model: int) -> list[tuple[int, int]]:
        """(start, length) of every buffer's bytes, inside the flatbuffer or behind it."""
        return [self._buffer(b) for b in self.tables(model, MODEL["buffers"])]

    def _buffer(self, table: int) -> tuple[int, int]:
        start, count = self.span(table, 0, 1)
        offset, size = self.scalar(table, 1, "Q"), self.scalar(table, 2, "Q")
        if not count and offset > 1:
            if offset + size > self.size:
                raise FlatbufferError("a buffer lies outside the file")
            return offset, size
        return start, count

    def codes(self, model: int) -> list[tuple[str, int]]:
        """Name ("CONV_2D", "CUSTOM:name") and version of every operator code."""
        return [self._code(c) for c in self.tables(model, MODEL["codes"])]

    def _code(self, table: int) -> tuple[str, int]:
        number = max(self.scalar(table, 0, "b"), self.scalar(table, 3, "i"))
        name = operator_names().get(number, f"UNKNOWN_{number}")
        return f"CUSTOM:{self.text(table, 1)}" if name == "CUSTOM" else name, self.scalar(table, 2, "i", 1)

    def subgraphs(self, model: int) -> list[int]:
        """The tables of the subgraphs, one at least."""
        found = self.tables(model, MODEL["subgraphs"])
        if not found:
            raise FlatbufferError("it holds no subgraph")
        return found

    def chosen(self, table: int, slot: int, among: Sequence[_T], what: str) -> _T:
        """The entry of ``among`` that ``table`` names in ``slot``; ``what`` is how an error tells the two."""
        index = self.scalar(table, slot, "I")
        if index >= len(among):
            raise FlatbufferError(f"{what} {index} of {len(among)}")
        return among[index]

    def operands(self, table: int, slot: int, count: int) -> tuple[int, ...]:
        """Indices of tensors, -1 where one is left out."""
        found = self.array(table, slot, "i4")
        if len(found) > _MAX_OPERANDS:
            raise FlatbufferError(f"an operator lists {len(found)} tensors")
        if ((found < -1) | (found >= count)).any():
            raise FlatbufferError(f"an operator or signature names a tensor that is not among the {count}")
        return tuple(found.tolist())

    def names(self, signature: int, slot: int, wanted: Sequence[int], tensors: Sequence[str]) -> list[str]:
        """A signature's names of its inputs (slot 0) or outputs (1) in the order ``wanted``; else those of ``tensors``.

        ``signature`` 0 is none.
        """
        names: dict[int, list[str]] = {}
        for entry in self.tables(signature, slot) if signature else []:
            names.setdefault(self.scalar(entry, 1, "I"), []).append(self.text(entry, 0))
        return [names[i].pop(0) if names.get(i) else tensors[i] for i in wanted]

    def metadata(
        self, model: int, buffers: Sequence[tuple[int, int]], only: Collection[str] | None = None
    ) -> dict[str, bytes]:
        """The named notes of the file, or those of ``only``."""
        found = {}
        for entry in self.tables(model, MODEL["metadata"]):
            index, name = self.scalar(entry, 1, "I"), self.text(entry, 0)
            if index < len(buffers) and (only is None or name in only):
                start, count = buffers[index]
                found[name] = bytes(self.data[start : start + count])
        return found


@functools.cache
def operator_names() -> dict[int, str]:
    """TFLite's operator codes → their names, "CONV_2D", by the schema that comes with LiteRT."""
    from ai_edge_litert.schema_py_generated import BuiltinOperator

    return {v: k for k, v in vars(BuiltinOperator).items() if isinstance(v, int)}


@functools.cache
def type_names() -> dict[int, str]:
    """TFLite's tensor types → their names, "float32", by the same schema."""
    from ai_edge_litert.schema_py_generated import TensorType

    return {v: k.lower() for k, v in vars(TensorType).items() if isinstance(v, int)}


def written_facts(metadata: Mapping[str, bytes]) -> dict[str, Any]:
    """What Instep wrote into a file ({} for another tool's file): the JSON of its metadata entry "instep"."""
    try:
        facts = json.loads(metadata.get("instep", b"{}"))
    except (ValueError, RecursionError):
        return {}
    return facts if isinstance(facts, dict) else {}


def origins_within(facts: Mapping[str, Any]) -> dict[str, str]:
    """Tensor → source line (``model.py:41``) of the operator that makes it, where a file of Instep tells.

    Nobody vouches for a file: entries that are no short line of text are left out.
    """
    entries = facts.get("origins")
    if not isinstance(entries, dict):
        return {}
    return {
        tensor: line
        for tensor, line in entries.items()
        if isinstance(line, str) and 0 < len(line) <= _MAX_ORIGIN and line.isprintable()
    }
