"""Instep: your network, in step everywhere. Importing it imports no framework."""

__version__ = "0.1.0"
