"""Item vectors from a truncated singular value decomposition of the rows, streamed over pieces and workers."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import scipy.sparse as sp
import torch

from distill_at_scale.models.training.communicator import Communicator

# Subspace iterations.
_PASSES = 3
# Vectors rotated at once.
_AT_ONCE = 1 << 14


def singular_item_vectors(
    rows: Callable[[int], tuple[sp.csr_array, sp.csr_array]],
    n_pieces: int,
    n_items: int,
    dim: int,
    rng: np.random.Generator,
    communicator: Communicator,
    device: torch.device,
) -> torch.Tensor:
    """Returns V Σ^½ of the truncated SVD X ≈ U Σ Vᵀ, by subspace iteration.

    Args:
        rows: Distinct pairs of a piece, by user and by item.
        n_pieces, n_items: Number of pieces of this worker, and of items.
        dim: Number of singular values.
        rng: Draws the initial basis, the same on every worker.
        communicator: Communicator of the workers.
        device: Device of the exchanged tensors.

    Returns:
        float32 [n_items + 1, dim]; the last row is 0, and so are items without rows and dimensions beyond the rank.
    """
    items = torch.zeros(n_items + 1, dim)
    rng.standard_normal(out=items[:-1].numpy(), dtype=np.float32)
    for _ in range(_PASSES):
        total = np.zeros((n_items, dim), dtype=np.float32)
        for piece in range(n_pieces):
            by_user, by_item = rows(piece)
            users = by_user @ items[:-1].numpy()
            for start in range(0, n_items, _AT_ONCE):
                total[start : start + _AT_ONCE] += by_item[start : start + _AT_ONCE] @ users
        items[:-1] = communicator.summed(torch.from_numpy(total), device)
        diagonalise(items, communicator, device, power=-1.0)
    gram = np.zeros((dim, dim))
    for piece in range(n_pieces):
        users = rows(piece)[0] @ items[:-1].numpy()
        gram += users.T @ users
    _rotate(items, communicator.summed(torch.from_numpy(gram), device), communicator, device, power=0.5)
    diagonalise(items, communicator, device)
    return items


def diagonalise(items: torch.Tensor, communicator: Communicator, device: torch.device, power: float = 0.0) -> None:
    """Rotates item vectors [n, d] in place, so that QᵀQ is diagonal; this changes no product of two vectors.

    Args:
        items: The same on every worker.
        communicator, device: As for :func:`singular_item_vectors`.
        power: -1: also scales each dimension to length 1, so that QᵀQ = I but for dimensions beyond the rank.
    """
    gram = torch.zeros(items.shape[1], items.shape[1], dtype=torch.float64, device=items.device)
    for some in _runs(items):
        gram += (some.T @ some).double()
    _rotate(items, gram, communicator, device, power)


def _rotate(
    items: torch.Tensor, gram: torch.Tensor, communicator: Communicator, device: torch.device, power: float
) -> None:
    """Multiplies item vectors [n, d] in place by E S^power, where gram = E S² Eᵀ with S descending; S below 1e-4 of
    the largest counts as 0, also to a negative power."""
    values, basis = torch.linalg.eigh(gram)
    values, basis = values.flip(0).clamp(min=0).sqrt(), basis.flip(1)
    if power:
        basis = basis * torch.where(values > 1e-4 * values[0], values**power, 0.0)
    basis = communicator.of_first(basis.to(device)).to(items)
    for some in _runs(items):
        some.copy_(some @ basis)


def _runs(items: torch.Tensor) -> Iterator[torch.Tensor]:
    """Yields views of successive rows."""
    yield from items.split(_AT_ONCE)
