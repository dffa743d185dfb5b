"""Users' histories as the matrix that the matrix models work on."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from distill_at_scale.data.interactions import Interactions

_INT32_LIMIT = 2**31 - 1


def binary_histories(rows: Interactions) -> sp.csr_array:
    """float32 CSR [b, n_items] of zeros and ones, indices sorted; an item that a user has twice counts once.

    Nothing in it is shared with ``rows``.
    """
    matrix = rows.to_csr()
    # Half the memory traffic of 64-bit indices, wherever they suffice; a copy in any case.
    index = np.int32 if rows.n_rows <= _INT32_LIMIT else np.int64
    parts = (matrix.data, matrix.indices.astype(index), matrix.indptr.astype(index))
    matrix = sp.csr_array(parts, shape=matrix.shape)
    matrix.sum_duplicates()
    matrix.data[:] = 1.0
    return matrix
