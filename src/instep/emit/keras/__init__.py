"""Networks as Keras 3 code, for TensorFlow and JAX alike, and as live models of that code."""

from instep.emit.keras.export import build, save, source, state

__all__ = ["build", "save", "source", "state"]
