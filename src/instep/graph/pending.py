"""Weights that are drawn when they are first read: a network of 140 million parameters is there before its numbers."""

from __future__ import annotations

import threading
from collections.abc import Callable, ItemsView, Iterable, Iterator, Mapping, ValuesView
from typing import Any

import numpy as np

from instep.graph.core import Value

__all__ = ["Pending", "drawn"]

Draw = Callable[[], np.ndarray]


class Pending(dict[Value, np.ndarray]):
    """A dict of arrays, some of which are functions yet that make them; whoever reads sees arrays alone.

    ``__iter__`` is its own because CPython copies a dict whose iterator is dict's without asking for its items.
    """

    def __init__(self, known: Mapping[Value, np.ndarray] | Iterable[Any] = ()) -> None:
        super().__init__(known)
        self._draws: dict[Value, Draw] = {}
        self._lock = threading.RLock()

    def later(self, value: Value, draw: Draw) -> None:
        """``draw()`` makes the array of ``value``, of its shape and dtype, when that is first read."""
        super().__setitem__(value, None)  # type: ignore[assignment]
        self._draws[value] = draw

    def settled(self) -> Iterator[tuple[Value, np.ndarray]]:
        """The arrays that exist by now."""
        return ((v, a) for v, a in super().items() if v not in self._draws)

    def _settle(self) -> None:
        for value in list(self._draws):
            self[value]

    def __getitem__(self, value: Value) -> np.ndarray:
        if value in self._draws:
            with self._lock:  # another thread may be at it
                draw = self._draws.get(value)
                if draw is not None:
                    super().__setitem__(value, draw())
                    del self._draws[value]
        return super().__getitem__(value)

    def __iter__(self) -> Iterator[Value]:
        return super().__iter__()

    def get(self, value: Value, default: Any = None) -> Any:
        return self[value] if value in self else default  # noqa: SIM401 (dict's get knows nothing of draws)

    def values(self) -> ValuesView[np.ndarray]:  # type: ignore[override]
        self._settle()
        return super().values()

    def items(self) -> ItemsView[Value, np.ndarray]:  # type: ignore[override]
        self._settle()
        return super().items()

    def __setitem__(self, value: Value, array: np.ndarray) -> None:
        self._draws.pop(value, None)
        super().__setitem__(value, array)

    def __delitem__(self, value: Value) -> None:
        self._draws.pop(value, None)
        super().__delitem__(value)

    def update(self, other: Mapping[Value, np.ndarray]) -> None:  # type: ignore[override]
        for value, array in other.items():
            self[value] = array

    def pop(self, value: Value, *default: Any) -> Any:
        if value in self:
            self[value]
        return super().pop(value, *default)

    def copy(self) -> dict[Value, np.ndarray]:
        return dict(self.items())

    def __or__(self, other: Any) -> Any:
        return self.copy() | other

    def __ror__(self, other: Any) -> Any:
        return other | self.copy()

    def __eq__(self, other: object) -> bool:
        return self is other

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, (self.copy(),)


def drawn(weights: Mapping[Value, np.ndarray]) -> Iterable[tuple[Value, np.ndarray]]:
    """The weights that exist as arrays: those that are drawn later will fit because their shape is what is drawn."""
    return weights.settled() if isinstance(weights, Pending) else weights.items()
