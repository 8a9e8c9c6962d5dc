"""Writes a graph with channels last as JAX code: a Flax NNX module, or a pure function of a parameter dictionary."""

from instep.emit.jax.export import build, function, penalty, save, source, state

__all__ = ["build", "function", "penalty", "save", "source", "state"]
