"""Starts a distillation from an earlier result: its rows or sequences over the items of a newer dataset.

Items are matched by their own ids. Items that the earlier result does not know start where the closed-form sketch
would put them (rows), or at the mean of their neighbours in the log (sequences). Items that are gone are left out.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import scipy.sparse as sp
import torch

from distill_at_scale.data import storage
from distill_at_scale.data.dataset import Dataset
from distill_at_scale.data.interactions import Interactions
from distill_at_scale.distillation.farzi.latent import LatentSequences
from distill_at_scale.distillation.synthetic import SyntheticDataset
from distill_at_scale.distillation.users import RealUsers
from distill_at_scale.errors import DasError

# Ridge of the regression of new items on the rows, as a share of their mean square.
_RIDGE = 1e-2


def earlier_items(earlier: SyntheticDataset, dataset: Dataset) -> np.ndarray:
    """int64 [n_items of ``dataset``], the number of each item in the earlier result, −1 for new items.

    Raises:
        DasError: They have no item in common.
    """
    old, ids = earlier.item_ids(), dataset.item_ids()
    shared = old.dtype == ids.dtype
    found = np.full(len(ids), -1, dtype=np.int64)
    if shared:
        numbers = pl.DataFrame({"id": old, "number": np.arange(len(old), dtype=np.int64)})
        joined = pl.DataFrame({"id": ids}).join(numbers, on="id", how="left", maintain_order="left")
        found = joined["number"].fill_null(-1).to_numpy()
    if not (found >= 0).any():
        raise DasError(
            f"{storage.redact(earlier.uri)} has no item in common with {storage.redact(dataset.uri)}, so a "
            "distillation cannot start from it; leave --from out."
        )
    return found


def check_split(earlier: SyntheticDataset, dataset: Dataset) -> None:
    """Refuses an earlier result of another split of the log, as far as its dataset still tells.

    Its rows have learned from rows that are held out now, so that they would win on validation for that alone.

    Raises:
        DasError: The dataset of the earlier result was split by another rule.
    """
    parent = earlier.manifest.parent
    try:
        before = Dataset.open(parent.uri).manifest
    except DasError:
        return
    rules = [(of.split_rule.get("name"), of.split_rule.get("seed")) for of in (before, dataset.manifest)]
    if parent.fingerprint in ("", before.fingerprint) and rules[0] != rules[1]:
        raise DasError(
            f"{storage.redact(earlier.uri)} was distilled from another split ({rules[0][0]}) than that of "
            f"{storage.redact(dataset.uri)} ({rules[1][0]}), so it knows rows that are held out here; leave --from out."
        )


def continued_rows(earlier: SyntheticDataset, dataset: Dataset, users: RealUsers) -> torch.Tensor:
    """Returns the earlier rows over the items of ``dataset``, float32 [μ, n_items], the same on every worker.

    The sketch's rows S satisfy SᵀS ≈ XᵀX μ/N. A new item's column s is the solution of S_oldᵀ s ≈ X_oldᵀ x μ/N by ridge
    regression, scaled as the same regression is to the columns of the old items.
    """
    of_item = earlier_items(earlier, dataset)
    known = of_item >= 0
    rows = np.zeros((earlier.n_users, dataset.n_items), dtype=np.float32)
    rows[:, known] = earlier.learned_rows()[:, of_item[known]]
    start = torch.from_numpy(rows).to(users.device)
    if known.all():
        return start
    s = rows.astype(np.float64)
    matrix = sp.csr_array(users.matrix)
    products = torch.from_numpy(((matrix.T @ (matrix @ s.T)).T * (len(s) / users.n_filled)).copy()).to(users.device)
    users.communicator.all_reduce(products)
    gram = s @ s.T
    gram[np.diag_indices(len(s))] += _RIDGE * np.trace(gram) / len(s) + 1e-12
    fitted = np.linalg.solve(gram, products.cpu().numpy())
    squares = np.square(fitted[:, known]).sum()
    scale = (s[:, known] * fitted[:, known]).sum() / squares if squares else 0.0
    start[:, torch.from_numpy(~known)] = torch.from_numpy(scale * fitted[:, ~known]).to(start)
    return start


def continued_sequences(
    earlier: SyntheticDataset, dataset: Dataset, rows: Interactions, device: torch.device
) -> LatentSequences:
    """Returns the earlier sequences over the items of ``dataset``.

    An input that is an item which is gone becomes the likeliest item of the target before it.

    Args:
        earlier: Earlier result, with sequences.
        dataset: Dataset to distill.
        rows: Its train rows.
        device: Device of the result.
    """
    of_item = earlier_items(earlier, dataset)
    latent, known = earlier.sequences(), of_item >= 0
    if latent.books is not None:
        raise DasError(
            f"{storage.redact(earlier.uri)} has items=codes, and new items have no codes, so a distillation cannot "
            "start from it; leave --from out."
        )
    decoder = np.zeros((latent.decoder.shape[0], dataset.n_items), dtype=np.float32)
    decoder[:, known] = latent.decoder.cpu().numpy()[:, of_item[known]]
    items, owner = rows.items.astype(np.int64), np.repeat(np.arange(len(rows)), rows.counts)
    together = np.flatnonzero(owner[1:] == owner[:-1])
    first, second = items[together], items[together + 1]
    pairs = sp.coo_array((np.ones(len(first), np.float32), (first, second)), (dataset.n_items,) * 2).tocsr()
    around = (pairs + pairs.T)[~known] * known
    counts = np.maximum(np.asarray(around.sum(axis=1)).ravel(), 1.0)
    decoder[:, ~known] = (sp.csr_array(around) @ decoder.T).T / counts
    moved = replace(latent, decoder=torch.from_numpy(decoder), log_rates=None)
    if latent.items is not None and latent.targets is not None:
        number = np.full(earlier.n_items, -1, dtype=np.int64)
        number[of_item[known]] = np.flatnonzero(known)
        inputs = torch.from_numpy(number)[latent.items]
        gone, places = torch.nonzero(inputs < 0, as_tuple=True)
        before = latent.targets[gone, (places - 1).clamp(min=0)]
        inputs[gone, places] = (before @ moved.decoder).argmax(dim=1)
        moved = replace(moved, inputs=inputs)
    return moved.with_tensors([tensor.to(device) for tensor in moved.tensors])
