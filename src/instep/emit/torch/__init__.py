"""Networks as PyTorch code, and as live modules of that code."""

from instep.emit.torch.module import build, penalty, save, source, state

__all__ = ["build", "penalty", "save", "source", "state"]
