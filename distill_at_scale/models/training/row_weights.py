"""How the train rows of a sample count in a fit by passes over the rows: by their weights 1/p, relative to the mean."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
import torch

from distill_at_scale.data.interactions import Interactions
from distill_at_scale.models.training.communicator import Communicator
from distill_at_scale.models.training.sources import Source


@dataclass(frozen=True)
class RowWeights:
    """The weights of a source's rows, over all workers.

    Attributes:
        mean: Mean weight of the distinct pairs of user and item, by which weights are divided: settings then have the
            same meaning as without.
        of_users: Whether the rows of each user have one weight, as in samples of users.
    """

    mean: float
    of_users: bool

    @staticmethod
    def of(source: Source, communicator: Communicator, device: torch.device) -> RowWeights | None:
        """Returns the weights of a source; None if its rows have none."""
        totals = torch.zeros(3, dtype=torch.float64, device=device)
        for piece in range(source.n_pieces):
            rows = source.train(piece)
            if rows.weights is None:
                return None
            matrix = rows.to_csr("weight", dtype=np.float64)
            first = np.repeat(matrix.data[matrix.indptr[:-1][np.diff(matrix.indptr) > 0]], _filled(matrix))
            totals += totals.new_tensor([matrix.data.sum(), len(matrix.data), int((matrix.data != first).sum())])
        communicator.all_reduce(totals)
        total, pairs, unlike = totals.tolist()
        return RowWeights(total / pairs, of_users=not unlike)

    def roots(self, rows: Interactions) -> sp.csr_array:
        """Returns the root √w of each distinct pair's weight, float32 [users, n_items]."""
        matrix = rows.to_csr("weight", dtype=np.float64)
        matrix.data = np.sqrt(matrix.data / self.mean).astype(np.float32)
        return matrix

    def of_each_user(self, roots: sp.csr_array) -> np.ndarray:
        """Returns how often each user counts, float64 [users]; 0 for users without rows.

        Args:
            roots: As :meth:`roots` returns them.
        """
        found = (np.diff(roots.indptr) > 0).astype(np.float64)
        if self.of_users:
            found[found > 0] = np.square(roots.data[roots.indptr[:-1][found > 0]], dtype=np.float64)
        return found


def _filled(matrix: sp.csr_array) -> np.ndarray:
    """Returns the numbers of pairs of the users who have any."""
    counts: np.ndarray = np.diff(matrix.indptr)
    return counts[counts > 0]
