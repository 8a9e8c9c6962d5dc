"""Reads what TensorFlow saves, without TensorFlow: the variables of checkpoints and SavedModels."""
