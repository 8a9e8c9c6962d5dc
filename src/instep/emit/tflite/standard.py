"""TFLite's standard metadata: how a picture becomes the input, for Android Studio, MediaPipe and the Task Library.

These take a float file of pictures only where it says by which mean and deviation pixels are normalised. The tables are
those of metadata_schema.fbs 1.5.0 (github.com/google-ai-edge/mediapipe, mediapipe/tasks/metadata), field by slot. Files
that belong to a network, such as its labels, are a ZIP archive behind the flatbuffer.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO, Any

import flatbuffers

from instep.graph import Graph, Value

__all__ = ["ENTRY", "Normalisation", "Standard", "standard_metadata", "standard_within"]

#: The metadata entry that the tools look for.
ENTRY = "TFLITE_METADATA"
#: Names and normalisation are all from the schema's first version, which any parser knows.
_MIN_PARSER = "1.0.0"
_IDENTIFIER = b"M001"
_IMAGE_PROPERTIES = 2
_NORMALIZATION = 1
_COLOURS = {3: 1, 1: 2}
_NONE: Mapping[int, int] = {}
#: Of all the files behind a network together.
_MAX_ATTACHED = 64 << 20


@dataclass(frozen=True)
class Normalisation:
    """A picture's bytes p, 0 to 255, become the input (p - ``mean``) / ``std``: one for all, or a channel each."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True)
class Standard:
    """What a file tells other tools: the bytes of its metadata entry (b"": none), and the files behind it, by name."""

    entry: bytes = b""
    files: Mapping[str, bytes] = field(default_factory=dict)

    def append(self, file: IO[bytes]) -> int:
        """Write the archive behind what ``file`` has; the number of bytes."""
        if not self.files:
            return 0
        start = file.tell()
        with zipfile.ZipFile(file, "w") as archive:
            for name, data in self.files.items():
                archive.writestr(zipfile.ZipInfo(name), data)
        return file.tell() - start


def standard_within(path: str | os.PathLike[str], metadata: Mapping[str, bytes]) -> Standard:
    """What the TFLite file ``path`` of any tool, with this ``metadata``, tells others (no files of a damaged ZIP)."""
    return Standard(metadata.get(ENTRY, b""), _attached(path))


def _attached(path: str | os.PathLike[str]) -> dict[str, bytes]:
    try:
        with zipfile.ZipFile(path) as archive:
            entries = [e for e in archive.infolist() if not e.is_dir()]
            if sum(e.file_size for e in entries) > _MAX_ATTACHED:
                return {}
            return {e.filename: archive.read(e) for e in entries}
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, ValueError, OSError, EOFError):
        return {}


def standard_metadata(graph: Graph, normalisation: Normalisation, name: str) -> bytes:
    """The entry's bytes for a lowered graph whose pictures are [N, H, W, C]; b"" where no input is a picture.

    The input is said to be RGB (three channels) or grey (one).
    """
    if not any(_is_picture(value, normalisation) for value in graph.inputs):
        return b""
    tables = _Tables()
    inputs = [
        tables.tensor(said, value.shape, normalisation if _is_picture(value, normalisation) else None)
        for said, value in zip(graph.input_names, graph.inputs, strict=True)
    ]
    outputs = [tables.tensor(said, (), None) for said in graph.output_names]
    main = tables.table({2: tables.vector(inputs), 3: tables.vector(outputs)})
    root = tables.table({0: tables.text(name), 3: tables.vector([main]), 7: tables.text(_MIN_PARSER)})
    return tables.finish(root)


def _is_picture(value: Value, normalisation: Normalisation) -> bool:
    channels = value.shape[-1] if value.rank == 4 else 0
    fits = {len(normalisation.mean), len(normalisation.std)} <= {1, channels}
    return value.dtype == "float32" and channels in _COLOURS and fits


class _Tables:
    """A flatbuffer in the making; offsets are of what has been written."""

    def __init__(self) -> None:
        self.builder = flatbuffers.Builder(512)

    def text(self, text: str) -> int:
        return self.builder.CreateString(text)

    def vector(self, offsets: Sequence[int]) -> int:
        self.builder.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
            self.builder.PrependUOffsetTRelative(offset)
        return self.builder.EndVector()

    def floats(self, numbers: Sequence[float]) -> int:
        self.builder.StartVector(4, len(numbers), 4)
        for number in reversed(numbers):
            self.builder.PrependFloat32(number)
        return self.builder.EndVector()

    def table(self, offsets: Mapping[int, int], numbers: Mapping[int, int] = _NONE) -> int:
        """A table with ``offsets`` in some slots and bytes (enumerations, kinds of unions) in others."""
        self.builder.StartObject(1 + max((*offsets, *numbers)))
        for slot, offset in offsets.items():
            self.builder.PrependUOffsetTRelativeSlot(slot, offset, 0)
        for slot, number in numbers.items():
            self.builder.PrependUint8Slot(slot, number, 0)
        return self.builder.EndObject()

    def tensor(self, name: str, shape: Sequence[int], normalisation: Normalisation | None) -> int:
        """TensorMetadata; of a picture with its colours and how it is normalised."""
        offsets = {0: self.text(name)}
        if normalisation is not None:
            image = self.table({}, {0: _COLOURS[shape[-1]]})
            offsets[3] = self.table({1: image}, {0: _IMAGE_PROPERTIES})
            how = self.table({0: self.floats(normalisation.mean), 1: self.floats(normalisation.std)})
            offsets[4] = self.vector([self.table({1: how}, {0: _NORMALIZATION})])
        return self.table(offsets)

    def finish(self, root: int) -> bytes:
        self.builder.Finish(root, _IDENTIFIER)
        made: Any = self.builder.Output()
        return bytes(made)
