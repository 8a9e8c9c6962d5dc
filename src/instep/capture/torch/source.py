"""Makes a network of PyTorch and what is known of it out of a source: a module, code, a timm name, a .pt2 file."""

from __future__ import annotations

import os
import zipfile
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import torch

from instep.capture.base import CaptureError, Found

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
    if isinstance(source, Found):
        return _code(source, seed)
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
    if text.endswith((".jit", ".ptl", ".torchscript")):
        raise CaptureError(
            f"{text} is a TorchScript file, which PyTorch does not trace; name the factory of the network that it was "
            "scripted from (file.py:factory) and give its weights with --weights"
        )
    raise CaptureError(
        f"'{text}' is no source; use package.module:factory, file.py:factory, timm:NAME, zoo:NAME, code that Instep "
        "exported (.py), or a .pt2, .keras, .h5, .tflite or .yaml file"
    )


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


def _code(found: Found, seed: int) -> Loaded:
    """What Python code gave."""
    module, shapes = found.network, found.shapes
    example = _example(module, found.space) if shapes is None else shapes
    if example is None:
        cfg = getattr(module, "default_cfg", None) or getattr(module, "pretrained_cfg", None)
        size = cfg.get("input_size") if isinstance(cfg, dict) else getattr(cfg, "input_size", None)
        example = None if size is None else [(1, *size)]
    return Loaded(found.text, module, example, list(found.notes), {"seed": seed})


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
