"""Weighted least squares for many users or items at once, as alternating least squares solves them.

Rows are grouped by their number and padded, so that each group is a few batched matrix products, on a CPU or a GPU.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from distill_at_scale.data import ragged

# Numbers of the gathered vectors and of the matrices of a group.
_GROUP_NUMBERS = 1 << 22
# An owner with more rows is split: its sums are added up.
_MOST_ROWS = 4096


def groups(counts: np.ndarray, numbers_each: int, dim: int) -> Iterator[tuple[np.ndarray, int]]:
    """Groups owners by their number of rows, so that little of a group is padding.

    Args:
        counts: int64 [n], rows of each owner; those without rows are in no group.
        numbers_each: Numbers held for each owner besides its gathered vectors.
        dim: Width of the vectors.

    Yields:
        Positions of owners, int64 [g], and the largest of their counts.
    """
    order = np.argsort(counts, kind="stable")
    start = int(np.searchsorted(counts[order], 1))
    while start < len(order):
        # Counts of a group differ by at most an eighth, or by 3.
        least = int(counts[order[start]])
        alike = int(np.searchsorted(counts[order], least + max(3, least // 8), side="right"))
        width = int(counts[order[alike - 1]])
        most = max(1, _GROUP_NUMBERS // (width * dim + numbers_each))
        stop = min(alike, start + most)
        yield order[start:stop], int(counts[order[stop - 1]])
        start = stop


def padded(offsets: np.ndarray, columns: np.ndarray, chosen: np.ndarray, width: int, padding: float) -> np.ndarray:
    """Returns the columns, or other values of the rows, of some owners, [g, width], padded with ``padding``; whole
    numbers as int64."""
    counts = np.diff(offsets)[chosen]
    table = np.full((len(chosen), width), padding, dtype=columns.dtype if columns.dtype.kind == "f" else np.int64)
    table[np.arange(width) < counts[:, None]] = columns[ragged.indices(offsets[chosen], counts)]
    return table


def solve_users(
    offsets: np.ndarray,
    columns: np.ndarray,
    items: torch.Tensor,
    squares: torch.Tensor,
    ridge: torch.Tensor,
    roots: np.ndarray | None = None,
) -> torch.Tensor:
    """Solves (diag(squares) + ridge_u I + Σ_i w q_i q_iᵀ) p_u = Σ_i w q_i for each user, with sums over own items.

    ``items`` must be in a basis in which the sum over all items is diagonal. Then a user with fewer items than
    dimensions costs a system of the items: (D + QᵀQ)^-1 Qᵀ 1 = D^-1 Qᵀ (I + Q D^-1 Qᵀ)^-1 1; with weights √w q_i for
    q_i, and √w for 1.

    Args:
        offsets, columns: Rows of the users: int64 [n + 1], and the item numbers.
        items: float32 [n_items + 1, d], q; the last row is 0, the padding's.
        squares: float32 [d], diagonal of the weighted sum over all items.
        ridge: float32 [n].
        roots: float32, √w of each row; None: w = 1.

    Returns:
        float32 [n, d]; 0 for users without rows.
    """
    dim, device = items.shape[1], items.device
    vectors = torch.zeros(len(offsets) - 1, dim, device=device)
    for chosen, width in groups(np.diff(offsets), min(dim, 64) ** 2, dim):
        at = torch.from_numpy(chosen).to(device)
        own = items[torch.from_numpy(padded(offsets, columns, chosen, width, len(items) - 1)).to(device)]
        target = _targets(offsets, roots, chosen, own)
        if roots is not None:
            own = own * target
        diagonal = squares + ridge[at, None]
        if width < dim:
            scaled = own / diagonal[:, None, :]
            system = torch.bmm(scaled, own.mT)
            system.diagonal(dim1=1, dim2=2).add_(1.0)
            weights = torch.cholesky_solve(target, torch.linalg.cholesky(system))
            vectors[at] = torch.bmm(scaled.mT, weights)[:, :, 0]
        else:
            system = torch.bmm(own.mT, own)
            system.diagonal(dim1=1, dim2=2).add_(diagonal)
            right = (own if roots is None else own * target).sum(dim=1)[:, :, None]
            vectors[at] = torch.cholesky_solve(right, torch.linalg.cholesky(system))[:, :, 0]
    return vectors


def add_item_sums(
    sums: torch.Tensor,
    offsets: np.ndarray,
    columns: np.ndarray,
    users: torch.Tensor,
    items: torch.Tensor,
    live: torch.Tensor,
    block: slice,
    roots: np.ndarray | None = None,
) -> None:
    """Adds what some users contribute to the normal equations of a block of the dimensions of some items.

    Args:
        sums: float32 [m, b (b + 1) / 2 + b], the upper triangle of Σ_u w p_uB p_uBᵀ and the vector
            Σ_u w (1 − p_u · q_i) p_uB, the sums over the users of item i.
        offsets, columns: Rows by item: int64 [m + 1], and the positions of the users.
        users: float32 [n + 1, d], p; the last row is 0, the padding's.
        items: float32 [≥ n_items, d], q.
        live: int64 [m], distinct numbers of the items.
        block: B, b dimensions.
        roots: float32, √w of each row; None: w = 1.
    """
    device, width_all = users.device, users.shape[1]
    size = block.stop - block.start
    upper = torch.triu_indices(size, size, device=device)
    packing = upper[0] * size + upper[1]
    owners, begins, counts = _split(offsets)
    bounds = np.append(begins, offsets[-1])
    for chosen, width in groups(counts, size * size, width_all):
        table = padded(bounds, columns, chosen, width, len(users) - 1)
        at = torch.from_numpy(owners[chosen]).to(device)
        own = users[torch.from_numpy(table).to(device)]
        target = _targets(bounds, roots, chosen, own)
        if roots is not None:
            own = own * target
        rest = target - torch.bmm(own, items[live[at]][:, :, None])
        part = own[:, :, block]
        square = torch.bmm(part.mT, part)
        vector = torch.bmm(part.mT, rest)[:, :, 0]
        sums.index_add_(0, at, torch.cat((square.flatten(1).index_select(1, packing), vector), dim=1))


def solve_items(
    sums: torch.Tensor, items: torch.Tensor, live: torch.Tensor, gram: torch.Tensor, ridge: torch.Tensor, block: slice
) -> None:
    """Replaces a block of the dimensions of some items by the solution of their normal equations.

    Args:
        sums: As :func:`add_item_sums` left them.
        items: float32 [≥ n_items, d], changed in place.
        live: int64 [m], distinct numbers of the items.
        gram: float32 [d, d], the weighted sum over all users, α Σ_u p_u p_uᵀ.
        ridge: float32 [m].
        block: B.
    """
    size = block.stop - block.start
    upper = torch.triu_indices(size, size, device=items.device)
    unpacking = torch.zeros(size, size, dtype=torch.int64, device=items.device)
    unpacking[upper[0], upper[1]] = torch.arange(upper.shape[1], device=items.device)
    unpacking = torch.maximum(unpacking, unpacking.T).flatten()
    most = max(1, _GROUP_NUMBERS // (size * size))
    for start in range(0, len(live), most):
        chosen, some = live[start : start + most], sums[start : start + most]
        own = items[chosen]
        ridges = ridge[start : start + most]
        system = some.index_select(1, unpacking).view(-1, size, size)
        system += gram[block, block]
        system.diagonal(dim1=1, dim2=2).add_(ridges[:, None])
        right = some[:, upper.shape[1] :] - own @ gram[:, block] - ridges[:, None] * own[:, block]
        own[:, block] += torch.cholesky_solve(right[:, :, None], torch.linalg.cholesky(system))[:, :, 0]
        items[chosen] = own


def _targets(offsets: np.ndarray, roots: np.ndarray | None, chosen: np.ndarray, own: torch.Tensor) -> torch.Tensor:
    """Returns √w of the rows of some owners, float32 [g, width, 1], of padding 0; all 1 without weights."""
    if roots is None:
        return own.new_ones(*own.shape[:2], 1)
    return torch.from_numpy(padded(offsets, roots, chosen, own.shape[1], 0.0)).to(own.device)[:, :, None]


def _split(offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cuts owners with many rows into pieces: owner, first row and number of rows of each piece."""
    counts = np.diff(offsets)
    pieces = -(-counts // _MOST_ROWS)
    owners = np.repeat(np.arange(len(counts)), pieces)
    position = ragged.positions(pieces)
    begins = offsets[owners] + position * _MOST_ROWS
    return owners, begins, np.minimum(counts[owners] - position * _MOST_ROWS, _MOST_ROWS)
