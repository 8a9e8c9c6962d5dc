"""The source ``timm:NAME``: a timm network with seeded random weights in which nothing is zero or trivial."""

from __future__ import annotations

import difflib
import math
from typing import Any

import torch

from instep.capture.base import CaptureError
from instep.capture.torch.source import Loaded
from instep.capture.vision import prepare_torchvision
from instep.process import importing

__all__ = ["load_timm", "prepare_torchvision", "randomise"]


def load_timm(name: str, *, args: dict[str, Any] | None = None, seed: int = 0, randomised: bool = True) -> Loaded:
    """Build a timm network. ``randomised`` makes its weights non-trivial (see ``randomise``); the notes say so."""
    prepare_torchvision()
    try:
        with importing():
            import timm
    except ImportError:
        raise CaptureError("timm is not installed; pip install timm") from None
    torch.manual_seed(seed)
    try:
        module = timm.create_model(name, pretrained=False, **(args or {})).eval()
    except Exception as error:
        near = difflib.get_close_matches(name.split(".")[0], timm.list_models(), 6)
        hint = f"; near names: {', '.join(near)}" if near else ""
        raise CaptureError(f"timm cannot build '{name}': {error}{hint}") from None
    cfg: Any = module.default_cfg if isinstance(getattr(module, "default_cfg", None), dict) else module.pretrained_cfg
    shape = (1, *cfg["input_size"])
    notes = []
    if randomised:
        randomise(module, seed, shape)
        notes.append(f"random weights (seed {seed}), not trained ones; give --weights for those")
    return Loaded(f"timm:{name}", module, [shape], notes, {"seed": seed})


def randomise(model: torch.nn.Module, seed: int = 0, shape: tuple[int, ...] | None = None) -> None:
    """Make every parameter matter: no zero head, no unit scale, no trivial running statistics. Seeded, in place.

    Constant parameters (all zeros, all ones, tiny layer scales) get random values. With ``shape``, one forward pass on
    random input sets each batch norm's running statistics near those of the values it sees, so that the network is
    well conditioned; without it they are drawn at random.
    """
    generator = torch.Generator().manual_seed(seed)

    def uniform(like: torch.Tensor, low: float, high: float) -> torch.Tensor:
        return torch.rand(like.shape, generator=generator) * (high - low) + low

    with torch.no_grad():
        for name, p in model.named_parameters():
            if not p.is_floating_point() or p.numel() < 1:
                continue
            low, high = p.min().item(), p.max().item()
            if low != high:
                continue
            if p.dim() >= 2 and name.endswith("weight") and low == 0:
                p.copy_(torch.randn(p.shape, generator=generator) / math.sqrt(max(p[0].numel(), 1)))
            elif low == 0:
                scale = 0.3 if p.dim() == 1 and name.endswith("weight") else 0.05
                p.copy_(torch.randn(p.shape, generator=generator) * scale)
            elif abs(low) < 1e-2:
                p.copy_(uniform(p, 0.05, 0.25))
            else:
                p.copy_(uniform(p, 0.8, 1.2) * low)
        norms = [m for m in model.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)]
        for norm in norms:
            if norm.running_mean is not None and norm.running_var is not None:
                norm.running_mean.copy_(torch.randn(norm.running_mean.shape, generator=generator) * 0.2)
                norm.running_var.copy_(uniform(norm.running_var, 0.5, 2.0))
        if shape is not None and norms:
            _settle_statistics(model, norms, shape, generator, uniform)


def _settle_statistics(
    model: torch.nn.Module, norms: list[Any], shape: tuple[int, ...], generator: torch.Generator, uniform: Any
) -> None:
    """Running variances near the power of what each norm sees on one random image, running means a fifth of that.

    One image says little of how a channel varies from image to image: norms that centre on its means, or divide by
    its smallest variances, make deep random networks explode on every other image. So means are drawn, and variances
    lean on the power of all channels.
    """

    def before(norm: Any, args: tuple[torch.Tensor, ...]) -> None:
        if norm.running_mean is None or norm.running_var is None or norm.running_mean.dim() != 1:
            return
        x = args[0].transpose(0, 1).reshape(args[0].shape[1], -1)
        own = x.square().mean(1)
        own = 0.3 * own + 0.7 * own.mean().clamp_min(1e-6)
        norm.running_mean.copy_(0.2 * own.sqrt() * torch.randn(own.shape, generator=generator))
        norm.running_var.copy_(own * uniform(own, 0.8, 1.25))

    hooks = [n.register_forward_pre_hook(before) for n in norms]
    try:
        model.eval()
        model(torch.randn(shape, generator=generator))
    finally:
        for hook in hooks:
            hook.remove()
