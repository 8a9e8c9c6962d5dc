"""Loads --weights into a module: .safetensors, or a .pth of plain tensors with its usual wrappings."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import torch

from instep.capture.base import CaptureError

__all__ = ["fitting", "load_weights", "read_tensors", "unwrap"]

#: Keys that checkpoints wrap a state_dict in, the preferred ones first.
WRAPPERS = ("params_ema", "model_ema", "state_dict_ema", "ema_state_dict", "params", "state_dict", "model_state_dict",
            "model", "net", "network", "generator", "module", "net_g", "weights")  # fmt: skip
#: Prefixes that training wrappers put before every name.
PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "netG.", "generator.", "network.", "backbone.")


def load_weights(module: torch.nn.Module, path: str) -> list[str]:
    """Load ``path`` into ``module``; returns notes. Raises CaptureError listing keys that do not fit."""
    notes: list[str] = []
    state = unwrap(read_tensors(path), path, notes)
    own = module.state_dict()
    state = fitting(state, own, notes)
    missing = [k for k in own if k not in state and not k.endswith("num_batches_tracked")]
    unexpected = [
        k for k in state if k not in own and not k.endswith(("num_batches_tracked", "total_ops", "total_params"))
    ]
    shaped = [
        f"{k} (file {list(state[k].shape)}, network {list(own[k].shape)})"
        for k in own
        if k in state and state[k].shape != own[k].shape
    ]
    missing = _without_tied(module, missing, state)
    if missing or unexpected or shaped:
        parts = [
            f"{len(keys)} {what}: {_few(keys)}"
            for what, keys in (("missing", missing), ("unexpected", unexpected), ("mis-shaped", shaped))
            if keys
        ]
        raise CaptureError(
            f"{path} does not fit {type(module).__name__}: {'; '.join(parts)}. "
            "Build the network with the arguments the file was trained with (--arg key=value)"
        )
    module.load_state_dict({k: v for k, v in state.items() if k in own}, strict=False)
    return [f"weights from {os.path.basename(path)}", *notes]


def _few(keys: list[str], n: int = 8) -> str:
    return ", ".join(keys[:n]) + (f", … ({len(keys) - n} more)" if len(keys) > n else "")


def _without_tied(module: torch.nn.Module, missing: list[str], state: Mapping[str, torch.Tensor]) -> list[str]:
    """A tied parameter may be stored under one of its names only."""
    if not missing:
        return missing
    by_memory: dict[int, list[str]] = {}
    for name, tensor in module.state_dict(keep_vars=True).items():
        by_memory.setdefault(id(tensor), []).append(name)
    twins = {n: names for names in by_memory.values() for n in names}
    return [k for k in missing if not any(t in state for t in twins.get(k, ()))]


def read_tensors(path: str) -> Any:
    """The content of a weights file; never unpickles code. Raises CaptureError."""
    if not os.path.isfile(path):
        raise CaptureError(f"there is no weights file {path}")
    if path.endswith(".safetensors"):
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except Exception as error:
            raise CaptureError(f"{path} is not a readable safetensors file: {error}") from None
    if not path.endswith((".pth", ".pt", ".bin", ".ckpt", ".tar")):
        raise CaptureError(f"{path}: weights come from a .safetensors file or a .pth file of plain tensors")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        text = str(error)
        if "Unsupported global" in text or "weights_only" in text or "WeightsUnpickler" in text:
            raise CaptureError(
                f"{path} holds Python objects, not only tensors, and reading them would run code; Instep never does. "
                "Save its state_dict alone, best as .safetensors"
            ) from None
        first = next((line for line in text.splitlines() if line.strip()), type(error).__name__)
        raise CaptureError(f"{path} is not a readable PyTorch file: {first}") from None


def unwrap(content: Any, path: str, notes: list[str]) -> dict[str, torch.Tensor]:
    """The flat state_dict inside a checkpoint's wrappings; what was chosen goes into ``notes``."""
    for _ in range(4):
        if not isinstance(content, Mapping):
            break
        inner = [k for k in WRAPPERS if isinstance(content.get(k), Mapping) and content[k]]
        if not inner:
            break
        others = f" (the file also has {', '.join(inner[1:])})" if len(inner) > 1 else ""
        notes.append(f"used '{inner[0]}' of the weights file{others}")
        content = content[inner[0]]
    if not isinstance(content, Mapping):
        raise CaptureError(f"{path} holds a {type(content).__name__}, not a table of tensors")
    tensors = {str(k): v for k, v in content.items() if isinstance(v, torch.Tensor)}
    if not tensors:
        raise CaptureError(f"{path} holds no tensors; its keys are {_few([str(k) for k in content])}")
    return tensors


def fitting(state: dict[str, torch.Tensor], own: Mapping[str, Any], notes: list[str]) -> dict[str, torch.Tensor]:
    """Drop a prefix that every name has and the network does not know; or add one that it wants."""
    changed = True
    while changed and not any(k in own for k in state):
        changed = False
        for prefix in PREFIXES:
            if all(k.startswith(prefix) for k in state):
                state = {k.removeprefix(prefix): v for k, v in state.items()}
                notes.append(f"dropped the prefix '{prefix}' of the weights' names")
                changed = True
                break
    return state
