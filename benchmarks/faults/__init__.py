"""Faults that are planted into conversions to see whether the proof finds, places and names them."""
