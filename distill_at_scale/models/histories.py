"""Users' histories as the matrix that the matrix models work on."""

from __future__ import annotations

import scipy.sparse as sp

from distill_at_scale.data.interactions import Interactions


def binary_histories(rows: Interactions) -> sp.csr_array:
    """float32 CSR [b, n_items] of zeros and ones, indices sorted; an item that a user has twice counts once.

    Nothing in it is shared with ``rows``.
    """
    return rows.to_csr()
