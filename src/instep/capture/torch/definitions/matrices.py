"""Linear algebra of matrices of up to three rows, by cofactors and by hand; norms of matrices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from instep.capture.torch.definitions.table import defines
from instep.capture.torch.registry import Unsupported

__all__: list[str] = []

#: The largest matrices whose entries are written out.
LARGEST = 3


def _size(matrix: torch.Tensor, what: str) -> int:
    n = matrix.shape[-1]
    if n > LARGEST:
        raise Unsupported(
            f"{what} of {n}x{n} matrices; up to {LARGEST}x{LARGEST} it is written out. Compute it outside the network, "
            "or from parameters alone"
        )
    return n


def _grid(rows: Sequence[Sequence[torch.Tensor]]) -> torch.Tensor:
    """[..., rows, columns] of its entries."""
    return torch.stack([torch.stack(list(row), -1) for row in rows], -2)


def _cofactors(m: torch.Tensor) -> list[list[torch.Tensor]]:
    """What the determinant grows by with each entry."""
    n = m.shape[-1]
    if n == 1:
        return [[torch.ones_like(m[..., 0, 0])]]
    if n == 2:
        return [[m[..., 1, 1], -m[..., 1, 0]], [-m[..., 0, 1], m[..., 0, 0]]]

    def minor(i: int, j: int) -> torch.Tensor:
        (a, b), (c, d) = ((i + 1) % 3, (i + 2) % 3), ((j + 1) % 3, (j + 2) % 3)  # in a circle, which has the sign
        return m[..., a, c] * m[..., b, d] - m[..., a, d] * m[..., b, c]

    return [[minor(i, j) for j in range(3)] for i in range(3)]


def _first_row(m: torch.Tensor, cofactors: list[list[torch.Tensor]]) -> torch.Tensor:
    """The determinant, developed by its first row."""
    total = m[..., 0, 0] * cofactors[0][0]
    for j in range(1, m.shape[-1]):
        total = total + m[..., 0, j] * cofactors[0][j]
    return total


@defines("aten.linalg_det.default", "aten.det.default")
def det(m: torch.Tensor) -> torch.Tensor:
    _size(m, "the determinant")
    return _first_row(m, _cofactors(m))


@defines("aten.linalg_slogdet.default", "aten.slogdet.default")
def slogdet(m: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    value = det(m)
    return value.sign(), value.abs().log()


@defines("aten.logdet.default")
def logdet(m: torch.Tensor) -> torch.Tensor:
    return det(m).log()


@defines("aten.linalg_inv.default", "aten.inverse.default")
def inv(m: torch.Tensor) -> torch.Tensor:
    _size(m, "the inverse")
    cofactors = _cofactors(m)
    turned = [list(column) for column in zip(*cofactors, strict=True)]
    return _grid(turned) / _first_row(m, cofactors)[..., None, None]


@defines("aten.linalg_inv_ex.default")
def inv_ex(m: torch.Tensor, *, check_errors: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    return inv(m), torch.zeros(m.shape[:-2], dtype=torch.int32)


@defines("aten.linalg_solve.default")
def solve(m: torch.Tensor, y: torch.Tensor, *, left: bool = True) -> torch.Tensor:
    _size(m, "the solution")
    inverse = inv(m)
    if y.dim() == 1 or (y.dim() == m.dim() - 1 and y.shape == m.shape[:-1]):
        return (inverse @ y[..., None])[..., 0]
    return inverse @ y if left else y @ inverse


@defines("aten.linalg_cholesky.default", "aten.cholesky.default")
def cholesky(m: torch.Tensor, upper: bool = False) -> torch.Tensor:
    """The lower triangle L with L Lᵀ = m, row by row; ``upper``: Lᵀ."""
    n = _size(m, "the Cholesky factor")
    zero = torch.zeros_like(m[..., 0, 0])
    rows: list[list[torch.Tensor]] = [[zero] * n for _ in range(n)]
    for i in range(n):
        for j in range(i + 1):
            rest = m[..., i, j]
            for k in range(j):
                rest = rest - rows[i][k] * rows[j][k]
            rows[i][j] = rest.sqrt() if i == j else rest / rows[j][j]
    factor = _grid(rows)
    return factor.mT if upper else factor


@defines("aten.linalg_solve_triangular.default")
def solve_triangular(
    m: torch.Tensor, y: torch.Tensor, *, upper: bool, left: bool = True, unitriangular: bool = False
) -> torch.Tensor:
    """Substitution, from the row that has one unknown."""
    n = _size(m, "the solution")
    if not left:
        m, y, upper = m.mT, y.mT, not upper
    found: dict[int, torch.Tensor] = {}
    for i in reversed(range(n)) if upper else range(n):
        rest = y[..., i, :]
        for j, known in found.items():
            rest = rest - m[..., i, j, None] * known
        found[i] = rest if unitriangular else rest / m[..., i, i, None]
    solution = torch.stack([found[i] for i in range(n)], -2)
    return solution if left else solution.mT


@defines("aten.linalg_norm.default", "aten.linalg_matrix_norm.default")
def matrix_norm(
    x: torch.Tensor, order: Any = None, dim: Sequence[int] | None = None, keepdim: bool = False, *, dtype: Any = None
) -> torch.Tensor:
    """The largest (or smallest) sum of sizes of a column (order ±1) or of a row (±∞)."""
    if order is None or abs(order) not in (1, float("inf")):
        raise Unsupported("a matrix norm that takes singular values")
    rows, columns = (d % x.dim() for d in (dim or (-2, -1)))
    summed, found = (rows, columns) if abs(order) == 1 else (columns, rows)
    sums = x.to(dtype or x.dtype).abs().sum(summed, keepdim=True)
    norm = sums.amax(found, keepdim=True) if order > 0 else sums.amin(found, keepdim=True)
    return norm if keepdim else norm.squeeze((rows, columns))
