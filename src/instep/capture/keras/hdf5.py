"""Weights as HDF5 files keep them, read with bounds; nothing outside of the file is followed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from instep.capture.base import CaptureError

__all__ = [
    "ArchiveWeights",
    "LegacyWeights",
    "Weights",
    "closing",
    "config_of",
    "open_hdf5",
    "read_named",
    "text_attribute",
]

#: What a dataset may hold beyond what is stored of it (compression, and parts that were never written).
_SMALL, _GROWTH = 1 << 24, 256
_MAX_ENTRIES, _MAX_DEPTH = 1 << 17, 32


#: Files to be closed at the end of ``closing``.
_opened: ContextVar[list[Any] | None] = ContextVar("opened", default=None)


@contextmanager
def closing() -> Iterator[None]:
    """Closes the files that are opened inside, when all has been read: HDF5 does not survive the end of the
    interpreter with files open."""
    files: list[Any] = []
    token = _opened.set(files)
    try:
        yield
    finally:
        _opened.reset(token)
        for file in files:
            file.close()


def open_hdf5(content: str | Path | bytes, where: str) -> Any:
    """An h5py.File, read-only. Raises CaptureError for what is none, and where h5py is missing."""
    try:
        import h5py
    except ImportError:
        raise CaptureError(
            f"{where}: reading Keras' weights needs the package h5py; install it: pip install 'instep[keras]'"
        ) from None
    try:
        file = h5py.File(h5py.h5f.open_file_image(content) if isinstance(content, bytes) else content, "r")
    except (OSError, ValueError, RuntimeError) as error:
        raise CaptureError(f"{where} is not a readable HDF5 file: {str(error)[:200]}") from None
    if (files := _opened.get()) is not None:
        files.append(file)
    return file


def text_attribute(group: Any, name: str) -> str | None:
    """A text that is stored as an attribute."""
    value = group.attrs.get(name)
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value if isinstance(value, str) else None


def _names(group: Any, name: str) -> list[str]:
    """A list of names that is stored as an attribute, in parts (``name0``, ``name1`` …) where it is long."""
    found: list[Any] = []
    if name in group.attrs:
        found = list(group.attrs[name])
    else:
        part = 0
        while f"{name}{part}" in group.attrs and part < _MAX_ENTRIES:
            found += list(group.attrs[f"{name}{part}"])
            part += 1
    return [n.decode("utf-8", "replace") if isinstance(n, bytes) else str(n) for n in found]


def _read(dataset: Any, shape: tuple[int, ...], where: str) -> np.ndarray:
    """The array of a dataset of ``shape``; what is kept elsewhere, or is far larger than its storage, is refused."""
    if tuple(dataset.shape or ()) != shape:
        raise CaptureError(f"{where} has the shape {list(dataset.shape or ())[:8]}, the layer needs {list(shape)}")
    if dataset.is_virtual or dataset.external:
        raise CaptureError(f"{where} points to other files, which Instep does not follow")
    if dataset.dtype.kind not in "fiub":
        raise CaptureError(f"{where} holds {dataset.dtype}, no numbers")
    if dataset.nbytes > max(_SMALL, _GROWTH * dataset.id.get_storage_size()):
        raise CaptureError(f"{where} claims {dataset.nbytes} bytes, {dataset.id.get_storage_size()} are stored of them")
    return np.asarray(dataset[()])


def _datasets(group: Any, where: str) -> Iterator[tuple[str, Any]]:
    """Path and dataset of all that lies below ``group`` in this very file; links are not followed."""
    import h5py

    stack: list[tuple[str, Any, int]] = [("", group, 0)]
    count = 0
    while stack:
        path, place, depth = stack.pop()
        for name in place:
            count += 1
            if count > _MAX_ENTRIES or depth > _MAX_DEPTH:
                raise CaptureError(f"{where} has more than {_MAX_ENTRIES} entries or groups {_MAX_DEPTH} deep")
            if not isinstance(place.get(name, getlink=True), h5py.HardLink):
                raise CaptureError(f"{where}: '{path}/{name}' is a link, which Instep does not follow")
            inner = place[name]
            full = f"{path}/{name}" if path else name
            if isinstance(inner, h5py.Group):
                stack.append((full, inner, depth + 1))
            elif isinstance(inner, h5py.Dataset):
                yield full, inner


class Weights(Protocol):
    """The weights of one layer, handed out in the order in which Keras made them."""

    def take(self, role: str, shape: tuple[int, ...]) -> np.ndarray:
        """The next array, which has this shape; ``role`` is Keras' name of it ("kernel")."""
        ...

    def inside(self, attribute: str) -> Weights:
        """The weights of a layer within the layer, by the name of the attribute that holds it."""
        ...

    def layer(self, key: str, name: str) -> Weights:
        """The weights of a layer of this model: its key in an archive, its own name."""
        ...

    @property
    def base(self) -> str:
        """Where they lie: the same place is the same weights; "" where a place says nothing."""
        ...

    @property
    def empty(self) -> bool:
        """Whether there are none, though a layer may share those of another place."""
        ...


class ArchiveWeights:
    """``model.weights.h5`` of a ``.keras`` archive: arrays by number, in groups named by class and attribute."""

    def __init__(self, where: str, arrays: dict[str, Any], base: str = "") -> None:
        self.where, self.arrays, self.base = where, arrays, base
        self.count = 0

    @classmethod
    def of(cls, file: Any, where: str) -> ArchiveWeights:
        arrays = {}
        for path, dataset in _datasets(file, where):
            # the first archives of Keras 2 wrote the paths of Windows and another name of the layers
            arrays[path.replace("\\", "/").replace("_layer_checkpoint_dependencies", "layers")] = dataset
        return cls(where, arrays)

    def take(self, role: str, shape: tuple[int, ...]) -> np.ndarray:
        path = f"{self.base}/vars/{self.count}".lstrip("/")
        if path not in self.arrays:
            raise CaptureError(f"{self.where} has no '{path}', the {role} {list(shape)} of the layer")
        self.count += 1
        return _read(self.arrays[path], shape, f"{self.where}: '{path}' ({role})")

    @property
    def empty(self) -> bool:
        return not any(p.startswith(self.base + "/") for p in self.arrays)

    def inside(self, attribute: str) -> ArchiveWeights:
        for name in (attribute, f"_{attribute}"):
            base = f"{self.base}/{name}".lstrip("/")
            if any(p.startswith(base + "/") for p in self.arrays):
                return ArchiveWeights(self.where, self.arrays, base)
        return ArchiveWeights(self.where, self.arrays, f"{self.base}/{attribute}".lstrip("/"))

    def layer(self, key: str, name: str) -> ArchiveWeights:
        return self.inside(f"layers/{key}")


class LegacyWeights:
    """A ``.h5`` file: one group per layer of the model, with the names of its arrays in order."""

    def __init__(self, where: str, entries: list[tuple[str, Any]], groups: dict[str, Any] | None = None) -> None:
        self.where, self.entries, self.groups = where, entries, groups
        self.used: set[int] = set()

    @classmethod
    def of(cls, file: Any, where: str) -> LegacyWeights:
        root = file
        if "model_weights" in file:
            root = file["model_weights"]
        by_path = dict(_datasets(root, where))
        groups: dict[str, Any] = {}
        for name in _names(root, "layer_names"):
            if name not in root:
                raise CaptureError(f"{where} has no group of the layer '{name}' that it names")
            entries = []
            for weight in _names(root[name], "weight_names"):
                if f"{name}/{weight}" not in by_path:
                    raise CaptureError(f"{where} has no '{weight}' of the layer '{name}' that it names")
                entries.append((weight, by_path[f"{name}/{weight}"]))
            groups[name] = entries
        return cls(where, [], groups)

    def take(self, role: str, shape: tuple[int, ...]) -> np.ndarray:
        left = [i for i in range(len(self.entries)) if i not in self.used]
        named = [i for i in left if _role(self.entries[i][0]) == role]
        if not left:
            raise CaptureError(f"{self.where} has no {role} {list(shape)} of the layer")
        at = (named or left)[0]
        self.used.add(at)
        name, dataset = self.entries[at]
        return _read(dataset, shape, f"{self.where}: '{name}' ({role})")

    @property
    def base(self) -> str:
        return ""

    @property
    def empty(self) -> bool:
        return False

    def inside(self, attribute: str) -> LegacyWeights:
        return self

    def layer(self, key: str, name: str) -> LegacyWeights:
        if self.groups is not None:
            return LegacyWeights(self.where, self.groups.get(name, []))
        mine = [e for e in self.entries if name in e[0].split("/")[:-1]]
        # a layer that adapts to data names its arrays without itself
        return LegacyWeights(self.where, mine or [e for e in self.entries if "/" not in e[0]])


def read_named(path: str) -> dict[str, np.ndarray]:
    """Every array of a ``.h5`` file by its name ("conv2d/kernel"), in the file's order. Raises CaptureError.

    A ``.weights.h5`` of Keras 3 numbers its arrays: such names tell nothing and are refused.
    """
    file = Path(path)
    if not file.is_file():
        raise CaptureError(f"there is no weights file {path}")
    with closing():
        opened = open_hdf5(file, file.name)
        try:
            groups = LegacyWeights.of(opened, file.name).groups or {}
        except (OSError, RuntimeError, KeyError, ValueError) as error:
            if isinstance(error, CaptureError):
                raise
            raise CaptureError(f"{file.name} is damaged: {type(error).__name__}: {str(error)[:200]}") from None
        if not groups:
            raise CaptureError(f"{file.name} does not name its weights; save the whole model as .h5")
        return {
            name.partition(":")[0]: _read(dataset, tuple(dataset.shape or ()), f"{file.name}: '{name}'")
            for entries in groups.values()
            for name, dataset in entries
        }


def _role(name: str) -> str:
    last = name.rpartition("/")[2].partition(":")[0]
    stem, _, number = last.rpartition("_")
    return stem if number.isdigit() and stem else last


def config_of(file: Any, where: str) -> dict[str, Any] | None:
    """The model's config that a ``.h5`` file carries."""
    text = text_attribute(file, "model_config")
    if text is None:
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CaptureError(f"{where}: its model_config is no JSON: {str(error)[:120]}") from None
