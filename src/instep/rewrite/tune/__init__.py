"""Rewrites that pay on one kind of processor only, and run only when asked for."""
