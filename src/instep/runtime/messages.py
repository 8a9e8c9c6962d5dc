"""Reads what an engine wrote on stderr: which operators it refused and why, without the noise."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

__all__ = ["Refusal", "meaningful", "placement", "refusals", "without_driver", "without_operator"]


@dataclass(frozen=True)
class Refusal:
    """``operator`` is the TFLite name ("GATHER_ND"; "" when the engine names none), ``message`` the engine's own
    words, ``tensor`` the tensor that they speak of, where they do."""

    operator: str
    message: str
    tensor: str = ""

    def __str__(self) -> str:
        where = f" (tensor '{self.tensor}')" if self.tensor else ""
        return f"{self.operator}: {self.message}{where}" if self.operator else f"{self.message}{where}"


_BEGIN = re.compile(r"Following operations are not supported by (?:the )?\w+ delegate")
_END = re.compile(
    r"(?P<on>No|\d+) operations? will run on the \w+, and (?:all|the remaining) (?P<off>\d+) operations? will run on"
)
_ENTRY = re.compile(r"(?P<operator>[A-Z][A-Z0-9_]*(?: \([^)]*\))?|[\w:.]+): (?P<message>.*)")
#: What the runtime says of itself at every start, good or bad.
_NOISE = re.compile(
    r"(INFO|VERBOSE|WARNING|DEBUG)\b[: ]|[IW]\d{4} |Warning: |=== Source Location Trace|Could not load shared library|"
    r"[\w./]+\.(cc|h|cpp):\d+$|at operator\(\) |WARNING: Logging before InitGoogle"
)
_PREFIX = re.compile(r"^(?:└ )?(?:(?:ERROR|[EF]\d{4})\b:? ?(?:[\d:. ]+\s+\d+ )?(?:\[?[\w./]+:\d+\])?\s*)")
_WITHOUT_OPERATOR = ("Didn't find op for builtin opcode", "Encountered unresolved custom op")
_WITHOUT_DRIVER = ("No adapters found", "Failed to initialize WebGPU environment", "Couldn't load Vulkan")


def meaningful(log: str) -> list[str]:
    """The lines that say something, without the runtime's prefixes, each once."""
    lines = []
    for raw in log.splitlines():
        line = raw.strip().removeprefix("└ ").strip()
        if not line or _NOISE.match(line):
            continue
        lines.append(_PREFIX.sub("", line).strip())
    return [line for line in dict.fromkeys(lines) if line]


def refusals(log: str, tensors: Collection[str] = ()) -> list[Refusal]:
    """The operators that a delegate lists as not supported, in its order; ``tensors`` are the file's tensor names."""
    found: list[Refusal] = []
    within = False
    for line in map(str.strip, log.splitlines()):
        if _BEGIN.search(line):
            within = True
        elif within and (_END.search(line) or not line):
            within = False
        elif within and (entry := _ENTRY.match(line)):
            found.append(Refusal(entry["operator"], *_tensor_apart(entry["message"].strip(), tensors)))
    return list(dict.fromkeys(found))


def _tensor_apart(message: str, tensors: Collection[str]) -> tuple[str, str]:
    """("Tensor dimensions must be less than 5. a") → ("Tensor dimensions must be less than 5.", "a")."""
    for at in (i for i, letter in enumerate(message) if letter == " "):
        if message[at + 1 :] in tensors:
            return message[:at].strip(), message[at + 1 :]
    return message, ""


def placement(log: str) -> tuple[int, int] | None:
    """(operators on the delegate, operators left to the CPU) where the log tells."""
    found = _END.search(log)
    if found is None:
        return None
    on = 0 if found["on"] == "No" else int(found["on"])
    return on, int(found["off"])


def without_driver(log: str) -> bool:
    """Whether the engine found no Vulkan device: nothing that the file could help."""
    return any(words in log for words in _WITHOUT_DRIVER)


def without_operator(log: str) -> bool:
    """Whether the runtime has an operator of the file not at all, or not in its version."""
    return any(words in log for words in _WITHOUT_OPERATOR)
