"""Networks as Keras 3 code, for TensorFlow and JAX alike."""
