"""The text form of networks: a YAML (or JSON) file of structs and layers that people read and write."""

from instep.graph.text.dump import dump, save
from instep.graph.text.errors import TextError
from instep.graph.text.parse import is_text, parse

__all__ = ["TextError", "dump", "is_text", "parse", "save"]
