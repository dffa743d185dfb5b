"""EASE on fewer users than items: the same solution from a users × users matrix.

With A = (X Xᵀ + λ I)^-1 X, the inverse of XᵀX + λ I is P = (I − Xᵀ A) / λ (Woodbury), and the scores of the train users
are X B = X − A / diag(P). So values of λ are compared without any items × items matrix: 2 U² I flops for each instead
of I³, and the weights are made once, for the best.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from distill_at_scale.data.interactions import Interactions
from distill_at_scale.models.linalg import cholesky_in_place, solve_in_place

_MOST_USERS = 0.5
"""Users as a share of the items, up to which this form is used; the other has fewer flops from about there on."""


class DualEase:
    """The solution for one λ.

    Attributes:
        scores: float32 [U, live items], X B: scores of the train users.
    """

    def __init__(self, rows: TrainRows, lam: float, wide: bool, name: str) -> None:
        """Solves for A.

        Raises:
            DasError: The matrix is not positive definite.
        """
        dtype: type = np.float64 if wide else np.float32
        kernel: np.ndarray = rows.kernel.astype(dtype)
        kernel.reshape(-1)[:: len(kernel) + 1] += lam
        solution: np.ndarray = np.ascontiguousarray(rows.dense.T, dtype=dtype)  # Aᵀ, a row for each item
        solve_in_place(cholesky_in_place(kernel, name), solution)
        # λ diag(P) = 1 − diag(Xᵀ A)
        left: np.ndarray = 1.0 - (rows.dense * solution.T).sum(0)
        self._rows, self._solution, self._left = rows, solution, left
        self.scores: np.ndarray = np.asarray(rows.dense - (lam / left) * solution.T, dtype=np.float32)

    def weights(self) -> np.ndarray:
        """Returns B of the live items, float32 [I, I]."""
        weights: np.ndarray = np.asarray((self._solution @ self._rows.matrix).T, dtype=np.float32)
        weights /= self._left.astype(np.float32)[None, :]
        np.fill_diagonal(weights, 0.0)
        return weights


class TrainRows:
    """The rows of the users who have any, of the items that have any.

    Attributes:
        matrix: float32 [U, I], sparse: X.
        dense: The same.
        kernel: float32 [U, U]: X Xᵀ.
    """

    def __init__(self, train: Interactions, live: np.ndarray) -> None:
        """``live``, int64 [I], are the items with train rows, ascending."""
        filled = np.flatnonzero(train.counts > 0)
        self.matrix: sp.csr_array = train.to_csr()[filled][:, live]
        self.dense = self.matrix.toarray()
        self.kernel = (self.matrix @ self.matrix.T).toarray()
        self._numbers, self._live, self._n_items = train.users[filled], live, train.n_items

    @staticmethod
    def suit(train: Interactions, live: np.ndarray) -> bool:
        """Returns whether there are few enough users."""
        return int((train.counts > 0).sum()) <= _MOST_USERS * len(live)

    def of_users(self, scores: np.ndarray, histories: Interactions) -> np.ndarray:
        """Returns the scores of some users for all items, float32 [b, n_items], 0 where train rows are missing.

        Args:
            scores: float32 [U, I].
            histories: The users; only their numbers are used.
        """
        found = np.zeros((len(histories), self._n_items), dtype=np.float32)
        positions = np.searchsorted(self._numbers, histories.users)
        known = np.flatnonzero(np.isin(histories.users, self._numbers))
        found[np.ix_(known, self._live)] = scores[positions[known]]
        return found
