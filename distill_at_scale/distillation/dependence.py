"""How much of distilled rows or sequences some users explain, from the log and the result alone.

A distilled row s (for a sequence: the sum of its soft tokens) is represented by the real users' rows X, by ridge
regression: s ≈ Xᵀ a with a = X y, (XᵀX + λI) y = s, λ the mean number of rows a user. A user's part of it is
a_u ⟨x_u, s⟩, and the parts of all users add up to ⟨Xᵀa, s⟩. The share of some users is the sum of the absolute values
of theirs in that of all users.

It describes the result and proves nothing: a row that was learned depends on all users, also on those with a share
of 0.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import scipy.sparse as sp

from distill_at_scale.distillation.synthetic import SyntheticDataset

_ITERATIONS, _TOLERANCE, _LEAST = 200, 1e-4, 1e-300
_AT_ONCE = 64


def shares_of(made: SyntheticDataset, train: sp.csr_array, gone: np.ndarray) -> np.ndarray:
    """Returns the share of some users in each distilled row or sequence, float64 [n].

    Args:
        made: Distilled rows or sequences.
        train: Train rows of all users, binary [n_users, n_items].
        gone: bool [n_users], the users asked about.
    """
    x = sp.csr_array(train, dtype=np.float64)
    own, lam = x[np.flatnonzero(gone)], x.nnz / max(x.shape[0], 1)
    found = []
    for rows in _blocks(made):
        weights = _solved(x, lam, rows)
        everyone, theirs = (np.abs((part @ weights) * (part @ rows)).sum(axis=0) for part in (x, own))
        found.append(np.divide(theirs, everyone, out=np.zeros_like(theirs), where=everyone > 0))
    return np.concatenate(found)


def memory_needed(n_rows: int, n_users: int, n_items: int, number: int) -> int:
    """Returns the peak bytes of :func:`shares_of` for a log of this size and a number of distilled rows."""
    return 40 * n_rows + 8 * _AT_ONCE * (8 * n_items + 2 * n_users) + 4 * number * n_items


def _solved(x: sp.csr_array, lam: float, right: np.ndarray) -> np.ndarray:
    """Solves (XᵀX + λI) Y = right, [n_items, b], by conjugate gradients in all columns at once."""
    y, residual = np.zeros_like(right), right.copy()
    direction, square = residual.copy(), np.square(residual).sum(axis=0)
    enough = _TOLERANCE**2 * square
    for _ in range(_ITERATIONS):
        if (square <= enough).all():
            break
        image = x.T @ (x @ direction) + lam * direction
        step = square / np.maximum((direction * image).sum(axis=0), _LEAST)
        y += step * direction
        residual -= step * image
        square, last = np.square(residual).sum(axis=0), square
        direction = residual + direction * (square / np.maximum(last, _LEAST))
    return y


def _blocks(made: SyntheticDataset) -> Iterator[np.ndarray]:
    """Yields some rows at a time, float64 [n_items, b]; a sequence is the sum of its tokens."""
    if made.manifest.kind == "rows":
        rows = made.rows()
        for start in range(0, len(rows), _AT_ONCE):
            yield rows[start : start + _AT_ONCE].T.astype(np.float64)
        return
    latent = made.sequences()
    for start in range(0, len(latent), _AT_ONCE):
        some = range(start, min(start + _AT_ONCE, len(latent)))
        yield np.stack([latent.distributions(row).sum(dim=0).double().numpy() for row in some], axis=1)
