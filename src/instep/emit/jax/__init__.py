"""Writes a graph with channels last as JAX code: a Flax NNX module, or a pure function of a parameter dictionary."""
