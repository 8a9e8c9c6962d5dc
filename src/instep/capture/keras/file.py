"""Opens what Keras saves: a ``.keras`` archive, a ``.h5`` file, or a live model by way of an archive of it."""

from __future__ import annotations

import json
import os
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from instep.capture.base import CaptureError
from instep.capture.keras.hdf5 import ArchiveWeights, LegacyWeights, Weights, config_of, open_hdf5, text_attribute

__all__ = [
    "SUFFIXES",
    "Saved",
    "is_keras_source",
    "is_model",
    "label_of",
    "open_model",
    "open_saved",
    "open_weights",
    "save_model",
]

SUFFIXES = (".keras", ".h5", ".hdf5")
_CONFIG, _WEIGHTS, _FACTS = "config.json", "model.weights.h5", "metadata.json"
#: Larger than any config; an archive's weights are stored, not compressed, by Keras itself.
_MAX_CONFIG, _MAX_WEIGHTS, _GROWTH = 1 << 26, 1 << 33, 64


@dataclass
class Saved:
    """A model as data: its serialised config, its weights, and the version of Keras that wrote it."""

    label: str
    config: dict[str, Any]
    weights: Weights
    major: int


def is_keras_source(source: Any) -> bool:
    """Whether ``source`` is Keras': a .keras or .h5 file, a SavedModel, a live layer or model. Imports nothing."""
    if isinstance(source, str | os.PathLike):
        return os.fspath(source).endswith(SUFFIXES) or _saved_model(Path(source)) is not None
    bases = [c.__module__.split(".")[0] for c in type(source).__mro__ if c.__name__ == "Layer"]
    return any(home in ("keras", "tf_keras") for home in bases)


def _saved_model(path: Path) -> Path | None:
    """The folder of the SavedModel that ``path`` names."""
    if path.name == "saved_model.pb":
        return path.parent
    return path if (path / "saved_model.pb").is_file() else None


def open_saved(path: str | os.PathLike[str]) -> Saved:
    """What the file ``path`` holds. Raises CaptureError."""
    file = Path(path)
    folder = _saved_model(file)
    if folder is not None:
        raise CaptureError(
            f"{folder} is a SavedModel: a graph of TensorFlow, which Instep does not read. Save the model as .keras, "
            f"convert it to .tflite with TensorFlow, or give its variables to a text: --weights {folder}"
        )
    if not file.is_file():
        raise CaptureError(f"there is no file {file}")
    if zipfile.is_zipfile(file):
        return _archive(file, file.name)
    _check_hdf5(file)
    return _legacy(file)


def _check_hdf5(file: Path) -> None:
    """HDF5 begins with its signature, or has it behind a block of the user's own at 512, 1024, 2048 … bytes."""
    with file.open("rb") as content:
        place, size = 0, file.stat().st_size
        while place < size:
            content.seek(place)
            if content.read(8) == b"\x89HDF\r\n\x1a\n":
                return
            place = max(2 * place, 512)
    raise CaptureError(
        f"{file.name} is neither a zip archive (.keras) nor HDF5 (.h5): it is damaged or no file of Keras; save the "
        "model again with model.save()"
    )


def label_of(model: Any) -> str:
    """What a live model is called."""
    return str(getattr(model, "name", "") or type(model).__name__)


def is_model(thing: Any) -> bool:
    """Whether a live layer of Keras is a model."""
    return "Model" in [c.__name__ for c in type(thing).__mro__]


def open_model(model: Any) -> Saved:
    """A live model, saved to an archive and read from it: one way in. Raises CaptureError."""
    if not is_model(model):
        raise CaptureError(
            f"a {type(model).__name__} is a layer of Keras; put it into a keras.Sequential with an Input"
        )
    with tempfile.TemporaryDirectory(prefix="instep-") as folder:
        return _archive(save_model(model, Path(folder)), label_of(model))


def save_model(model: Any, folder: Path) -> Path:
    """The live ``model`` as an archive in ``folder``. Raises CaptureError."""
    path = folder / "model.keras"
    try:
        model.save(path)
    except Exception as error:  # whatever the user's own layers raise
        text = (str(error).splitlines() or [""])[0][:200]
        name = getattr(model, "name", type(model).__name__)
        raise CaptureError(f"{name} cannot be saved as .keras: {type(error).__name__}: {text}") from error
    return path


def open_weights(path: str) -> Weights:
    """The weights of a ``.weights.h5``, ``.h5`` or ``.keras`` file. Raises CaptureError."""
    file = Path(path)
    if not file.is_file():
        raise CaptureError(f"there is no weights file {path}")
    if zipfile.is_zipfile(file):
        return _archive(file, file.name).weights
    _check_hdf5(file)
    opened = open_hdf5(file, file.name)
    made = LegacyWeights if "model_weights" in opened or "layer_names" in opened.attrs else ArchiveWeights
    return _bounded(lambda: made.of(opened, file.name), file.name)


# -- archives ----------------------------------------------------------------------------------------------------------
def _archive(file: Path, label: str) -> Saved:
    try:
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
            if _CONFIG not in names:
                raise CaptureError(f"{label} is a zip file without {_CONFIG}: no .keras file of a model")
            config = _json(_member(archive, _CONFIG, _MAX_CONFIG, label), f"{label}: {_CONFIG}")
            facts = _json(_member(archive, _FACTS, _MAX_CONFIG, label), label) if _FACTS in names else {}
            if _WEIGHTS not in names:
                sharded = any(n.endswith(".weights.json") for n in names)
                raise CaptureError(
                    f"{label} has its weights in several parts, which Instep does not read; save it whole"
                    if sharded
                    else f"{label} has no {_WEIGHTS}; save it with model.save(), weights included"
                )
            content = _member(archive, _WEIGHTS, _MAX_WEIGHTS, label)
    except (zipfile.BadZipFile, OSError, EOFError, ValueError, NotImplementedError, RuntimeError) as error:
        if isinstance(error, CaptureError):
            raise
        raise CaptureError(f"{label} is not a readable .keras archive: {str(error)[:200]}") from None
    except Exception as error:  # zlib.error and struct.error of damaged archives
        raise CaptureError(f"{label} is a damaged .keras archive: {type(error).__name__}: {str(error)[:200]}") from None
    where = f"{label}: {_WEIGHTS}"
    weights = _bounded(lambda: ArchiveWeights.of(open_hdf5(content, where), where), where)
    version = facts.get("keras_version") if isinstance(facts, dict) else None
    return Saved(label, _model(config, label), weights, _major(version, 3))


def _member(archive: zipfile.ZipFile, name: str, limit: int, label: str) -> bytes:
    """One file of an archive, no larger than it says and than is sensible."""
    info = archive.getinfo(name)
    if info.file_size > limit or info.file_size > max(1 << 24, _GROWTH * info.compress_size):
        raise CaptureError(
            f"{label}: {name} claims {info.file_size} bytes in {info.compress_size}; that is no network but a zip bomb"
        )
    with archive.open(info) as member:
        content = member.read(info.file_size + 1)
    if len(content) > info.file_size:
        raise CaptureError(f"{label}: {name} is larger than the archive says")
    return content


def _json(text: bytes | str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CaptureError(f"{where} is no JSON: {str(error)[:120]}") from None


# -- .h5 ---------------------------------------------------------------------------------------------------------------
def _legacy(file: Path) -> Saved:
    label = file.name
    opened = open_hdf5(file, label)

    def read() -> Saved:
        config = config_of(opened, label)
        if config is None:
            raise CaptureError(
                f"{label} holds weights, not a network: give the .keras or .h5 file that model.save() writes, and this "
                "one as --weights"
            )
        version = text_attribute(opened, "keras_version")
        return Saved(label, _model(config, label), LegacyWeights.of(opened, label), _major(version, 2))

    return _bounded(read, label)


def _bounded(read: Any, where: str) -> Any:
    """What ``read`` gives; whatever a damaged file makes h5py raise is a CaptureError."""
    try:
        return read()
    except CaptureError:
        raise
    except Exception as error:
        raise CaptureError(f"{where} is damaged: {type(error).__name__}: {str(error)[:200]}") from None


def _model(config: Any, label: str) -> dict[str, Any]:
    if not isinstance(config, dict) or not isinstance(config.get("class_name"), str):
        raise CaptureError(f"{label}: its config is not that of a model")
    return config


def _major(version: Any, default: int) -> int:
    first = str(version or "").partition(".")[0]
    return int(first) if first.isdigit() and len(first) < 4 else default
