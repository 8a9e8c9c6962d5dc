"""Rewrites that give an operator's work to the operator before it."""
