"""Rewrites that see one operator in several: activations, normalisations, pixel shuffles."""
