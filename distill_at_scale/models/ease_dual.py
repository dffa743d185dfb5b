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

MOST_USERS = 0.5
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
        if rows.cross is None:
            self.scores: np.ndarray = np.asarray(rows.dense - (lam / left) * solution.T, dtype=np.float32)
        else:
            # Histories have no weights: X B = X − (X − X X̃ᵀ A) / (λ diag(P)), where A and P are of the weighted rows X̃.
            plain, cross = rows.cross
            self.scores = np.asarray(plain - (plain - cross @ solution.T) / left, dtype=np.float32)

    def weights(self) -> np.ndarray:
        """Returns B of the live items, float32 [I, I]."""
        weights: np.ndarray = np.asarray((self._solution @ self._rows.matrix).T, dtype=np.float32)
        weights /= self._left.astype(np.float32)[None, :]
        np.fill_diagonal(weights, 0.0)
        return weights


def design_matrix(train: Interactions) -> sp.csr_array:
    """Returns X, float32 [users, n_items]: 1 for each pair, or, if the rows have weights w, √w of X̃.

    X̃ᵀX̃ is Σ_u w_u x_u x_uᵀ if the rows of a user have one weight, as in samples of users: an unbiased estimate, up to
    scale, of XᵀX of the users sampled from. Where a user's rows differ, as in samples of rows, the diagonal is
    unbiased, and a pair of items counts by the geometric mean of its two weights. (Their product would be unbiased for
    rows drawn independently, but it is as noisy as 1/p², and with an unbiased diagonal the matrix may be indefinite.)
    Weights are divided by their mean, so that λ has the same meaning as without.
    """
    if train.weights is None:
        return train.to_csr()
    matrix = train.to_csr("weight", dtype=np.float64)
    matrix.data = np.sqrt(matrix.data / matrix.data.mean()).astype(np.float32)
    return matrix


class TrainRows:
    """The rows of the users who have any, of the items that have any.

    Attributes:
        matrix: float32 [U, I], sparse: X.
        dense: The same.
        kernel: float32 [U, U]: X Xᵀ.
        cross: float32 [U, I] and [U, U], if the rows have weights, so that X is X̃: the unweighted rows, and their
            product with X̃ᵀ; else None.
    """

    def __init__(self, train: Interactions, live: np.ndarray) -> None:
        """``live``, int64 [I], are the items with train rows, ascending."""
        filled = np.flatnonzero(train.counts > 0)
        self.matrix: sp.csr_array = design_matrix(train)[filled][:, live]
        self.dense = self.matrix.toarray()
        self.kernel = (self.matrix @ self.matrix.T).toarray()
        self.cross: tuple[np.ndarray, np.ndarray] | None = None
        if train.weights is not None:
            plain = train.to_csr()[filled][:, live]
            self.cross = plain.toarray(), (plain @ self.matrix.T).toarray()
        self._numbers, self._live, self._n_items = train.users[filled], live, train.n_items

    @staticmethod
    def suit(train: Interactions, live: np.ndarray) -> bool:
        """Returns whether there are few enough users."""
        return int((train.counts > 0).sum()) <= MOST_USERS * len(live)

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
