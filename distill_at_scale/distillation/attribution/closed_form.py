"""Values of train rows in closed form: the derivative of the validation loss of EASE or ∞-AE by the rows' weights.

A row of weight w enters the fit as w instead of 1, both as input and as target. The loss is the mean over users with
validation rows of (1/n_in) Σ (P_i − target_i)² over the items outside their history, whose rows keep the weight 1 in
that history.
"""

from __future__ import annotations

import numpy as np
import scipy.linalg
import scipy.sparse as sp
import torch

from distill_at_scale.data.interactions import Interactions
from distill_at_scale.distillation.attribution.values import RowValues
from distill_at_scale.distillation.differentiable_krr import Histories, RidgePrediction
from distill_at_scale.distillation.losses import hidden_squares
from distill_at_scale.errors import DasError

_BLOCK_USERS = 1024


def row_values(model: str, train: Interactions, heldout: Interactions, lam: float) -> RowValues:
    """Returns the value of each train row.

    Args:
        model: ease or infinite_ae.
        train: Train rows of all users.
        heldout: Validation rows of the same users.
        lam: λ of the model.

    Raises:
        DasError: No user has train and validation rows.
    """
    # As in a fit, users without train rows are left out: they would be rows of ∞-AE's kernel, and all their scores are
    # equal.
    filled = np.flatnonzero(train.counts)
    train, heldout = train.take(filled, timestamps=False), heldout.take(filled, timestamps=False)
    x, targets = (sp.csr_array(rows.to_csr(dtype=np.float64)) for rows in (train, heldout))
    judged = np.flatnonzero(np.diff(targets.indptr))
    if not len(judged):
        raise DasError("no user has both train and validation rows.")
    find = _ease if model == "ease" else _infinite_ae
    loss, slopes = find(x, sp.csr_array(x[judged]), sp.csr_array(targets[judged]), lam)
    owners = np.repeat(np.arange(x.shape[0]), np.diff(x.indptr))
    return RowValues(train.users[owners], x.indices.astype(np.int64), -slopes / len(judged), loss / len(judged))


def memory_needed(model: str, n_users: int, n_judged: int, n_items: int) -> int:
    """Returns the peak bytes of :func:`row_values`."""
    if model == "ease":
        return 8 * (6 * n_items**2 + 4 * _BLOCK_USERS * n_items)
    return 8 * (3 * n_users * n_items + 6 * n_judged * (n_items + n_users) + 6 * n_users**2)


def work_needed(model: str, n_users: int, n_items: int) -> float:
    """Returns what the time of :func:`row_values` grows with, in a unit of the model's own."""
    if model == "ease":
        return float(n_items) ** 2 * (n_items + n_users)
    return float(n_users) ** 2 * (n_users + n_items)


def _ease(x: sp.csr_array, inputs: sp.csr_array, targets: sp.csr_array, lam: float) -> tuple[float, np.ndarray]:
    """The loss summed over users, and its derivative by each entry of x in the order of its data.

    With P = (XᵀX + λI)^-1 and B = I − P diag(P)^-1 (Steck, WWW 2019, equation 8), dP = −P d(XᵀX) P.
    """
    gram: np.ndarray = (x.T @ x).toarray()
    gram[np.diag_indices_from(gram)] += lam
    inverse = scipy.linalg.inv(gram, overwrite_a=True)
    diagonal = np.diagonal(inverse).copy()
    weights = inverse / -diagonal
    np.fill_diagonal(weights, 0.0)
    loss, d_weights = 0.0, np.zeros_like(weights)
    for start in range(0, inputs.shape[0], _BLOCK_USERS):
        some, wanted = inputs[start : start + _BLOCK_USERS], targets[start : start + _BLOCK_USERS]
        found, slope = hidden_squares(
            *(torch.from_numpy(m) for m in (some @ weights, some.toarray(), wanted.toarray()))
        )
        loss += float(found)
        d_weights += some.T @ slope.numpy()
    # The diagonal of B is 0 whatever the rows are.
    np.fill_diagonal(d_weights, 0.0)
    d_inverse = d_weights / -diagonal
    np.fill_diagonal(d_inverse, (d_weights * inverse).sum(axis=0) / np.square(diagonal))
    d_gram = -inverse @ d_inverse @ inverse
    d_gram += d_gram.T.copy()
    slopes = np.empty(x.nnz)
    for start in range(0, x.shape[0], _BLOCK_USERS):
        block = sp.csr_array(x[start : start + _BLOCK_USERS])
        owners = np.repeat(np.arange(block.shape[0]), np.diff(block.indptr))
        first = int(x.indptr[start])
        slopes[first : first + block.nnz] = (block @ d_gram)[owners, block.indices]
    return loss, slopes


def _infinite_ae(x: sp.csr_array, inputs: sp.csr_array, targets: sp.csr_array, lam: float) -> tuple[float, np.ndarray]:
    """As :func:`_ease`, by the derivative of ∞-AE's prediction that Distill-CF learns its rows by."""
    histories = Histories(inputs, torch.float64, torch.device("cpu"))
    predicted = RidgePrediction(histories, torch.from_numpy(x.toarray()), lam)
    loss, slope = hidden_squares(predicted.predictions, histories.dense, torch.from_numpy(targets.toarray()))
    d_rows, _ = predicted.backward(slope)
    owners = np.repeat(np.arange(x.shape[0]), np.diff(x.indptr))
    return float(loss), d_rows.numpy()[owners, x.indices]
