"""The variables of a TensorFlow checkpoint (``PREFIX.index`` and ``PREFIX.data-00000-of-00001``) as arrays.

Also those of a SavedModel, whose folder ``variables/`` is one. TensorFlow is not needed and nothing is executed.
"""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np

from instep.capture.base import CaptureError
from instep.capture.tf.table import entries
from instep.capture.tf.wire import fields, signed, text, varint

__all__ = ["is_checkpoint", "read_checkpoint"]

#: An index names some hundreds of variables in a few kilobytes; more than this is none.
_MAX_INDEX, _MAX_RANK, _MAX_SHARDS = 1 << 26, 16, 1 << 10
_VARIABLE = "/.ATTRIBUTES/VARIABLE_VALUE"
_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"
#: What trainers keep beside the network.
_TRAINING = ("optimizer/", "save_counter", "global_step", "keras_api/metrics/", "_optimizer/")
#: tensorflow/core/framework/types.proto
_DTYPES = {
    1: "float32", 2: "float64", 3: "int32", 4: "uint8", 5: "int16", 6: "int8", 9: "int64", 10: "bool",
    14: "bfloat16", 17: "uint16", 19: "float16", 22: "uint32", 23: "uint64",
}  # fmt: skip
_STRING = 7


def is_checkpoint(path: str | os.PathLike[str]) -> bool:
    """Whether ``path`` is what ``read_checkpoint`` takes: PREFIX.index, its data, or a SavedModel's folder."""
    file = Path(path)
    if file.is_dir():
        return (file / "variables" / "variables.index").is_file() or (file / "checkpoint").is_file()
    return file.suffix == ".index" or ".data-0" in file.name or file.name == "saved_model.pb"


def read_checkpoint(prefix: str | os.PathLike[str], *, training: bool = False) -> dict[str, np.ndarray]:
    """Every variable of a checkpoint by its name, in the file's order; arrays as TensorFlow keeps them (HWIO kernels).

    ``prefix``: the path without ``.index``, the ``.index`` file itself, a SavedModel's folder or ``saved_model.pb``, or
    a folder with a ``checkpoint`` file and one checkpoint in it.

    A name is the path through the saved objects, ``"model/conv_first/kernel"``: that is the checkpoint's key without
    ``/.ATTRIBUTES/VARIABLE_VALUE``. A checkpoint of TensorFlow 1 and a SavedModel of Keras keep the variables' own
    names where they have them: ``"conv1/kernel"``; ``:0`` is not part of a name. ``training=True`` adds what an
    optimiser keeps (moments, counters). bfloat16 becomes float32.

    >>> read_checkpoint("swrn/ckpt-98.index")["model/conv_last/kernel"].shape
    (3, 3, 16, 48)

    Raises CaptureError for what is no checkpoint, incomplete or damaged.
    """
    stem = _prefix(prefix)
    index = Path(f"{stem}.index")
    try:
        return _Bundle(stem, _load(index)).read(training)
    except ValueError as error:
        raise CaptureError(f"{index} cannot be read as a TensorFlow checkpoint: {error}") from None
    except OSError as error:
        raise CaptureError(f"{error.filename or index}: {error.strerror or error}") from None


def _prefix(given: str | os.PathLike[str]) -> Path:
    path = Path(given)
    if path.name == "saved_model.pb":
        path = path.parent
    if path.is_dir():
        inner = path / "variables" / "variables"
        if Path(f"{inner}.index").is_file():
            return inner
        found = sorted(path.glob("*.index"))
        if len(found) != 1:
            raise CaptureError(f"{path} holds {len(found)} checkpoints; name the .index file of one")
        return found[0].with_suffix("")
    if path.suffix == ".index":
        path = path.with_suffix("")
    elif ".data-0" in path.name:
        path = path.with_name(path.name.partition(".data-0")[0])
    if not Path(f"{path}.index").is_file():
        raise CaptureError(f"there is no checkpoint {path}.index; give the path of its .index file")
    return path


def _load(index: Path) -> bytes:
    size = index.stat().st_size
    if size > _MAX_INDEX:
        raise ValueError(f"{size} bytes; an index has at most {_MAX_INDEX}")
    return index.read_bytes()


class _Entry:
    """Where one tensor lies (tensorflow/core/protobuf/tensor_bundle.proto, BundleEntryProto)."""

    def __init__(self, message: bytes) -> None:
        self.dtype = self.shard = self.offset = self.size = 0
        self.shape: tuple[int, ...] = ()
        self.sliced = False
        for number, value in fields(message):
            if number == 2:
                self.shape = _shape(value)
            elif number == 7:
                self.sliced = True
            elif number in (1, 3, 4, 5):
                setattr(self, ("dtype", "", "shard", "offset", "size")[number - 1], signed(value))


def _shape(message: int | bytes) -> tuple[int, ...]:
    sizes = []
    for number, value in fields(message if isinstance(message, bytes) else b""):
        if number == 2 and isinstance(value, bytes):
            sizes.append(next((signed(v) for n, v in fields(value) if n == 1), 0))
    if len(sizes) > _MAX_RANK or any(n < 0 for n in sizes):
        raise ValueError(f"a tensor has the shape {sizes[:_MAX_RANK]}")
    return tuple(sizes)


class _Bundle:
    def __init__(self, stem: Path, index: bytes) -> None:
        self.stem = stem
        self.entries: dict[str, _Entry] = {}
        self.shards = 1
        for key, message in entries(index):
            if key:
                self.entries[key.decode("utf-8", "replace")] = _Entry(message)
            else:
                self.header(message)
        self.files: dict[int, np.ndarray] = {}

    def header(self, message: bytes) -> None:
        """BundleHeaderProto: num_shards, endianness."""
        found = dict(fields(message))
        self.shards = signed(found.get(1, 1))
        if found.get(2):
            raise ValueError("it was written on a big-endian machine")
        if not 1 <= self.shards <= _MAX_SHARDS:
            raise ValueError(f"it claims {self.shards} files of data")

    def read(self, training: bool) -> dict[str, np.ndarray]:
        own = self.own_names()
        result: dict[str, np.ndarray] = {}
        for key, entry in self.entries.items():
            if key == _GRAPH or entry.dtype == _STRING:
                continue
            name = own.get(key) or key.removesuffix(_VARIABLE)
            if not training and (".OPTIMIZER_SLOT" in key or key.startswith(_TRAINING)):
                continue
            if entry.sliced:
                raise ValueError(f"'{name}' is stored in slices (a partitioned variable), which Instep does not join")
            result[name if name not in result else key] = self.array(name, entry)
        return result

    # -- data ------------------------------------------------------------------------------------------------------
    def data(self, name: str, entry: _Entry) -> np.ndarray:
        """The bytes of one tensor."""
        if not 0 <= entry.shard < self.shards:
            raise ValueError(f"'{name}' lies in file {entry.shard} of {self.shards}")
        if entry.shard not in self.files:
            file = Path(f"{self.stem}.data-{entry.shard:05d}-of-{self.shards:05d}")
            if not file.is_file():
                raise ValueError(f"the file {file.name} that belongs to it is missing")
            empty = file.stat().st_size == 0
            self.files[entry.shard] = np.zeros(0, np.uint8) if empty else np.memmap(file, np.uint8, "r")
        whole = self.files[entry.shard]
        if not 0 <= entry.offset <= entry.offset + entry.size <= len(whole):
            raise ValueError(f"'{name}' lies at {entry.offset}, {entry.size} bytes long, in {len(whole)} bytes of data")
        return whole[entry.offset : entry.offset + entry.size]

    def array(self, name: str, entry: _Entry) -> np.ndarray:
        dtype = _DTYPES.get(entry.dtype)
        if dtype is None:
            raise ValueError(f"'{name}' is of TensorFlow's type number {entry.dtype}, which Instep does not read")
        stored = np.dtype("<u2" if dtype == "bfloat16" else dtype).newbyteorder("<")
        if math.prod(entry.shape) * stored.itemsize != entry.size:
            raise ValueError(f"'{name}' {dtype}{list(entry.shape)} has {entry.size} bytes")
        array = np.frombuffer(self.data(name, entry).tobytes(), stored).reshape(entry.shape)
        if dtype == "bfloat16":
            return (array.astype(np.uint32) << 16).view(np.float32)
        return array.astype(stored.newbyteorder("="), copy=False)

    # -- names -----------------------------------------------------------------------------------------------------
    def own_names(self) -> dict[str, str]:
        """Key → the variable's own name, where keys are places in a list (``variables/12``) and say nothing."""
        entry = self.entries.get(_GRAPH)
        keys = [k for k in self.entries if k.endswith(_VARIABLE)]
        if entry is None or not any(k.startswith("variables/") for k in keys):
            return {}
        found = {k: n.removesuffix(":0") for k, n in _full_names(_first_string(self.data(_GRAPH, entry).tobytes()))}
        return {k: n for k, n in found.items() if n and k.startswith("variables/")}


def _first_string(data: bytes) -> bytes:
    """The one element of a tensor of strings: its length, four bytes of checksum, its bytes."""
    size, at = varint(data, 0)
    if at + 4 + size > len(data):
        raise ValueError("its table of objects is cut off")
    return data[at + 4 : at + 4 + size]


def _full_names(message: bytes) -> list[tuple[str, str]]:
    """(key, full name) of every variable (TrackableObjectGraph.nodes.attributes)."""
    found = []
    for number, node in fields(message):
        for part, attribute in fields(node if number == 1 and isinstance(node, bytes) else b""):
            if part != 2 or not isinstance(attribute, bytes):
                continue
            own = {n: v for n, v in fields(attribute) if n in (2, 3)}
            if 2 in own and 3 in own:
                found.append((text(own[3]), text(own[2])))
    return found
