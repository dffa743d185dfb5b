"""Attacks on membership: who of many users was distilled. The measurements of privacy share them."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from distill_at_scale.data.interactions import Interactions
from distill_at_scale.models.base import Recommender


def renumbered(rows: Interactions) -> Interactions:
    """The same users with numbers from 0 on."""
    return Interactions(np.arange(len(rows), dtype=np.int64), rows.offsets, rows.items, rows.n_items)


def prediction_error(model: Recommender, rows: Interactions) -> np.ndarray:
    """[b]: mean over a user's items of (1 − score)², what a model that has seen the user makes small."""
    errors = []
    for start in range(0, len(rows), 512):
        some = rows.take(np.arange(start, min(start + 512, len(rows))))
        x = some.to_csr()
        scores = np.square(1.0 - model.score(some))
        errors.append(np.asarray(x.multiply(scores).sum(axis=1)).ravel() / np.maximum(np.diff(x.indptr), 1))
    return np.concatenate(errors)


def largest_cosine(rows: Interactions, released: np.ndarray) -> np.ndarray:
    """[b]: the cosine of each user's row with the nearest released row."""
    norms = np.linalg.norm(released, axis=1)
    units = (released / np.maximum(norms, 1e-9)[:, None]).astype(np.float32)
    x = rows.to_csr()
    length = np.sqrt(np.maximum(np.diff(x.indptr), 1))
    parts = [(x[a : a + 512] @ units.T).max(axis=1) for a in range(0, x.shape[0], 512)]
    found: np.ndarray = np.concatenate(parts) / length
    return found


def advantage(members: np.ndarray, strangers: np.ndarray) -> float:
    """max over thresholds of |true positive rate − false positive rate|, the statistic of Kolmogorov and Smirnov."""
    every = np.concatenate((members, strangers))
    rates = [
        np.searchsorted(np.sort(scores), np.sort(every), side="right") / len(scores) for scores in (members, strangers)
    ]
    return float(np.abs(rates[0] - rates[1]).max())
