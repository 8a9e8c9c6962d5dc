"""Finds the network that a source names: a module, a factory, a timm name, a .pt2 file."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import sys
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from instep.capture.base import CaptureError
from instep.process import importing

__all__ = ["Loaded", "load"]


@dataclass
class Loaded:
    """A network and what is known of it: ``example`` inputs (shapes or tensors), notes, metadata."""

    name: str
    module: torch.nn.Module
    example: Any = None
    notes: list[str] = field(default_factory=list)
    meta: dict[str, Any] = field(default_factory=dict)
    exported: Any = None


def load(source: Any, *, args: dict[str, Any] | None = None, seed: int = 0, weights: str | None = None) -> Loaded:
    """Resolve ``source`` (see ``instep.capture.capture``). Raises CaptureError."""
    if isinstance(source, torch.nn.Module):
        return Loaded(type(source).__name__, source, _example(source))
    if not isinstance(source, (str, os.PathLike)):
        raise CaptureError(f"a source is a torch.nn.Module or a string, got {type(source).__name__}")
    text = os.fspath(source)
    if text.startswith("timm:"):
        from instep.capture.torch.timm_zoo import load_timm

        return load_timm(text.removeprefix("timm:"), args=args, seed=seed, randomised=weights is None)
    if text.endswith(".pt2"):
        return _load_pt2(text, weights)
    if text.endswith((".pth", ".pt", ".bin", ".ckpt", ".safetensors")):
        raise CaptureError(
            f"{text} holds weights, not a network; name the factory that builds the network and give --weights {text}"
        )
    if ":" not in text:
        raise CaptureError(
            f"'{text}' is no source; use package.module:factory, file.py:factory, timm:NAME or a .pt2 file"
        )
    return _load_factory(text, args or {}, seed, weights)


def _example(module: torch.nn.Module, space: ModuleType | None = None) -> Any:
    """What the module (``example_inputs``, ``example_input_array``) or its file (``EXAMPLE_INPUT``) says."""
    for name in ("example_inputs", "EXAMPLE_INPUT", "example_input_array"):
        found = getattr(module, name, None)
        if found is not None:
            return found() if callable(found) and not isinstance(found, torch.Tensor) else found
    for name in ("EXAMPLE_INPUT", "EXAMPLE_INPUTS", "example_inputs"):
        found = getattr(space, name, None)
        if found is not None:
            return found() if callable(found) and not isinstance(found, torch.Tensor) else found
    return None


def _load_factory(text: str, args: dict[str, Any], seed: int, weights: str | None) -> Loaded:
    where, _, name = text.rpartition(":")
    space = _import_file(where) if where.endswith(".py") else _import_module(where)
    factory: Any = space
    for part in name.split("."):
        factory = getattr(factory, part, None)
        if factory is None:
            known = [
                n for n, v in vars(space).items() if callable(v) and getattr(v, "__module__", "") == space.__name__
            ]
            raise CaptureError(f"{where} has no factory '{name}'; it defines: {', '.join(sorted(known)) or 'none'}")
    torch.manual_seed(seed)
    module = factory if isinstance(factory, torch.nn.Module) else _call(factory, text, args)
    if not isinstance(module, torch.nn.Module):
        raise CaptureError(f"{text} gave a {type(module).__name__}, not a torch.nn.Module")
    example = _example(module, space)
    notes = []
    if example is None:
        cfg = getattr(module, "default_cfg", None) or getattr(module, "pretrained_cfg", None)
        size = cfg.get("input_size") if isinstance(cfg, dict) else getattr(cfg, "input_size", None)
        example = None if size is None else [(1, *size)]
    if weights is None:
        notes.append(f"weights are as the factory made them (torch seed {seed})")
    return Loaded(text, module, example, notes, {"seed": seed})


def _call(factory: Any, text: str, args: dict[str, Any]) -> Any:
    try:
        signature = inspect.signature(factory)
        signature.bind(**args)
    except TypeError as error:
        raise CaptureError(f"{text}{signature}: {error}; give arguments with --arg key=value") from None
    except ValueError:
        pass
    try:
        return factory(**args)
    except Exception as error:
        raise CaptureError(f"{text} failed: {type(error).__name__}: {error}") from error


def _import_file(path: str) -> ModuleType:
    file = Path(path).resolve()
    if not file.is_file():
        raise CaptureError(f"there is no file {path}")
    package, root = _package_of(file)
    name = f"{package}.{file.stem}" if package else f"_instep_source_{file.stem}_{abs(hash(str(file))):x}"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise CaptureError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    # the file's neighbours are importable, as when Python runs it; in a package, so that ``from .block import …`` works
    sys.path.insert(0, str(root))
    try:
        try:
            with importing():
                spec.loader.exec_module(module)
        except RuntimeError as error:
            if "torchvision::" not in str(error):
                raise
            _forget("torchvision", "timm")
            _torchvision()
            spec.loader.exec_module(module)
    except Exception as error:
        sys.modules.pop(name, None)
        raise CaptureError(f"{path} cannot be imported: {type(error).__name__}: {error}") from error
    finally:
        sys.path.remove(str(root))
    return module


def _package_of(file: Path) -> tuple[str, Path]:
    """The dotted name of the package that ``file`` lies in ("" outside any), and the folder that holds the package."""
    parts: list[str] = []
    root = file.parent
    while (root / "__init__.py").is_file():
        parts.insert(0, root.name)
        root = root.parent
    return ".".join(parts), root


def _import_module(name: str) -> ModuleType:
    if os.getcwd() not in sys.path and "" not in sys.path:
        sys.path.insert(0, os.getcwd())
    if name.split(".")[0] in ("timm", "torchvision"):
        _torchvision()
    try:
        with importing():
            return importlib.import_module(name)
    except ImportError as error:
        raise CaptureError(f"the module {name} cannot be imported: {error}") from error


def _torchvision() -> None:
    from instep.capture.torch.timm_zoo import prepare_torchvision

    prepare_torchvision()


def _forget(*packages: str) -> None:
    """Drop half-imported packages, so that they can be imported again."""
    for name in [m for m in sys.modules if m.split(".")[0] in packages]:
        del sys.modules[name]


# -- .pt2 --------------------------------------------------------------------------------------------------------
def _load_pt2(path: str, weights: str | None) -> Loaded:
    if weights is not None:
        raise CaptureError("a .pt2 file brings its own weights; leave --weights out")
    if not os.path.isfile(path):
        raise CaptureError(f"there is no file {path}")
    if not zipfile.is_zipfile(path):
        raise CaptureError(f"{path} is not a .pt2 archive; write it with torch.export.save")
    from instep.capture.torch.pt2 import load_pt2

    exported = load_pt2(path)
    return Loaded(os.path.basename(path), torch.nn.Module(), exported=exported)
