"""Binary labelling of least cost by minimum cut (Dinic's algorithm on sparse integer capacities)."""

from __future__ import annotations

from collections import deque

__all__ = ["Labelling"]

INFINITE = 1 << 60


class Labelling:
    """Minimise Σ unary(x_i) + Σ pairwise(x_i, x_j) over x ∈ {0, 1}ⁿ, pairwise terms submodular.

    Kolmogorov & Zabih, "What energy functions can be minimized via graph cuts?", PAMI 26 (2004).
    """

    def __init__(self) -> None:
        # node 0 is the source (label 0 side), node 1 the sink (label 1 side)
        self._heads: list[list[int]] = [[], []]
        self._to: list[int] = []
        self._capacity: list[int] = []

    def variable(self) -> int:
        """A new binary variable."""
        self._heads.append([])
        return len(self._heads) - 1

    def _edge(self, a: int, b: int, capacity: int) -> None:
        if capacity <= 0:
            return
        self._heads[a].append(len(self._to))
        self._to.append(b)
        self._capacity.append(capacity)
        self._heads[b].append(len(self._to))
        self._to.append(a)
        self._capacity.append(0)

    def unary(self, x: int, zero: int, one: int) -> None:
        """Cost ``zero`` when x = 0 and ``one`` when x = 1."""
        self._edge(0, x, max(one - zero, 0))  # cut when x is on the sink side (x = 1)
        self._edge(x, 1, max(zero - one, 0))

    def force(self, x: int, label: int) -> None:
        self.unary(x, INFINITE if label else 0, 0 if label else INFINITE)

    def implies(self, a: int, b: int, cost: int) -> None:
        """``cost`` when a = 1 and b = 0."""
        self._edge(b, a, cost)

    def pairwise(self, a: int, b: int, table: tuple[tuple[int, int], tuple[int, int]]) -> None:
        """``table[x_a][x_b]``. A term that is not submodular is raised to the nearest one that is."""
        (c00, c01), (c10, c11) = table
        c01 = max(c01, c00 + c11 - c10)
        self.unary(a, c00, c10)
        self.unary(b, 0, c11 - c10)
        self.implies(b, a, c01 + c10 - c00 - c11)

    def solve(self) -> list[int]:
        """Labels by variable index (entries 0 and 1 are the terminals)."""
        while self._levels():
            pointer = [0] * len(self._heads)
            while self._augment(pointer):
                pass
        reached = self._reach()
        return [0 if r else 1 for r in reached]

    def _reach(self) -> list[bool]:
        seen = [False] * len(self._heads)
        seen[0] = True
        queue = deque([0])
        while queue:
            a = queue.popleft()
            for e in self._heads[a]:
                b = self._to[e]
                if self._capacity[e] > 0 and not seen[b]:
                    seen[b] = True
                    queue.append(b)
        return seen

    def _levels(self) -> bool:
        self._level = [-1] * len(self._heads)
        self._level[0] = 0
        queue = deque([0])
        while queue:
            a = queue.popleft()
            for e in self._heads[a]:
                b = self._to[e]
                if self._capacity[e] > 0 and self._level[b] < 0:
                    self._level[b] = self._level[a] + 1
                    queue.append(b)
        return self._level[1] >= 0

    def _augment(self, pointer: list[int]) -> bool:
        """Push flow along one path of the level graph."""
        path: list[int] = []
        node = 0
        while node != 1:
            edges = self._heads[node]
            while pointer[node] < len(edges):
                e = edges[pointer[node]]
                if self._capacity[e] > 0 and self._level[self._to[e]] == self._level[node] + 1:
                    break
                pointer[node] += 1
            if pointer[node] == len(edges):
                if not path:
                    return False
                self._level[node] = -1
                node = self._to[path.pop() ^ 1]
                pointer[node] += 1
                continue
            path.append(e)
            node = self._to[e]
        flow = min(self._capacity[e] for e in path)
        for e in path:
            self._capacity[e] -= flow
            self._capacity[e ^ 1] += flow
        return True
