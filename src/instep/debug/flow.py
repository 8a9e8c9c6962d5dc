"""How values flow through a TFLite file: which operator makes each tensor, who reads it, and what lies between two."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from instep.runtime import OpInfo, TFLiteInfo

__all__ = ["Flow", "Part"]


@dataclass(frozen=True)
class Part:
    """A sub-network: operator numbers in the file's order, the tensors it reads and those it gives."""

    ops: tuple[int, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


@dataclass
class Flow:
    """The main subgraph of a file as a graph of tensor numbers."""

    info: TFLiteInfo
    maker: dict[int, int] = field(default_factory=dict)
    readers: dict[int, list[int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for number, op in enumerate(self.info.ops):
            for index in op.outputs:
                if index >= 0:
                    self.maker[index] = number
            for index in op.inputs:
                if index >= 0:
                    self.readers.setdefault(index, []).append(number)

    @property
    def computed(self) -> list[int]:
        """The tensors that operators make, in the order of the data."""
        return [i for op in self.info.ops for i in op.outputs if i >= 0]

    def op(self, tensor: int) -> OpInfo:
        """The operator that makes ``tensor``."""
        return self.info.ops[self.maker[tensor]]

    def between(self, given: Collection[int], wanted: Iterable[int]) -> Part:
        """The operators that ``wanted`` take when ``given`` are there: backwards from the one to the other.

        The file's own inputs are reached where nothing given stands before them, and are inputs of the part then.
        """
        outputs = tuple(dict.fromkeys(wanted))
        needed: set[int] = set()
        read: set[int] = set()
        stack = [self.maker[i] for i in outputs if i in self.maker]
        while stack:
            number = stack.pop()
            if number in needed:
                continue
            needed.add(number)
            for index in self.info.ops[number].inputs:
                if index < 0:
                    continue
                if index in given or index not in self.maker:
                    read.add(index)
                else:
                    stack.append(self.maker[index])
        entries = set(self.info.inputs) | set(given)
        order = [*self.info.inputs, *self.computed]
        inputs = tuple(dict.fromkeys(i for i in order if i in read and i in entries))
        return Part(tuple(sorted(needed)), inputs, outputs)

    def inside(self, part: Part) -> set[int]:
        """The tensors that a part makes."""
        return {i for n in part.ops for i in self.info.ops[n].outputs if i >= 0}

    def resolve(self, name: str) -> int:
        """The computed tensor or graph input called ``name``: its full name, a beginning of it that no other has,
        ``#12`` for a number, or the signature's name of an input or output. ValueError lists near ones."""
        known = [*self.info.inputs, *self.computed]
        if name.startswith("#"):
            if name[1:].isdecimal() and int(name[1:]) in known:
                return int(name[1:])
            raise ValueError(f"{self.info.path} has no value {name}{self._near_number(name, known)}")
        names = {i: self.info.tensors[i].name for i in known}
        signature = [
            *zip(self.info.input_names, self.info.inputs, strict=True),
            *zip(self.info.output_names, self.info.outputs, strict=True),
        ]
        for exact in ([i for i, n in names.items() if n == name], [i for n, i in signature if n == name]):
            if len(exact) == 1:
                return exact[0]
            if exact:
                numbers = ", ".join(f"#{i}" for i in exact)
                raise ValueError(f"{self.info.path}: '{name}' is the name of several values; say which: {numbers}")
        begin = [i for i, n in names.items() if n.startswith(name)]
        if len(begin) == 1:
            return begin[0]
        if begin:
            shown = ", ".join(f"'{names[i]}' (#{i})" for i in begin[:6])
            more = f" and {len(begin) - 6} more" if len(begin) > 6 else ""
            raise ValueError(f"{self.info.path}: {len(begin)} values begin with '{name}': {shown}{more}")
        raise ValueError(f"{self.info.path} has no value '{name}'; {_near(name, list(names.values()))}")

    def _near_number(self, name: str, known: list[int]) -> str:
        """What has that number instead, and which values have numbers near it."""
        tensors = self.info.tensors
        number = int(name[1:]) if name[1:].isdecimal() else 0
        near = sorted(sorted(set(known), key=lambda i: (abs(i - number), i))[:4])
        constant = number < len(tensors) and tensors[number].constant_bytes and name[1:].isdecimal()
        said = f": that is the constant '{tensors[number].name}'" if constant else ""
        shown = ", ".join(f"#{i} '{tensors[i].name.partition(';')[0]}'" for i in near)
        return f"{said}; the nearest are {shown} (`instep show {self.info.path}` has the names of all)"


def _near(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, 5, 0.4) or [n for n in known if name.lower() in n.lower()][:5]
    if near:
        return "near ones: " + ", ".join(f"'{n}'" for n in near)
    return f"it has {len(known)}, such as " + ", ".join(f"'{n}'" for n in known[:3])
