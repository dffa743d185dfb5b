"""Features of train rows that a rater scores them by: of the item, the user, the row's place, and similarities.

All come from the rows of the row's own user and from a few numbers of each item (:class:`ItemFacts`), so a shard's rows
are described without any other shard.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from scipy.sparse.linalg import svds

from distill_at_scale.data import hashing, ragged
from distill_at_scale.data.interactions import Interactions

_MS = 1000.0


@dataclass(frozen=True)
class ItemFacts:
    """What the features need of each item, from the whole log or from a sample of its users.

    Attributes:
        train, validation: int64 [n_items], number of rows of each split.
        vectors: float32 [n_items, k], of unit length, or 0 for an item without rows.
        first, last: Earliest and latest time of a train row; equal if the log has no times.
    """

    train: np.ndarray
    validation: np.ndarray
    vectors: np.ndarray
    first: int = 0
    last: int = 0

    @classmethod
    def of(
        cls,
        train: Interactions,
        heldout: Interactions,
        counts: tuple[np.ndarray, np.ndarray] | None = None,
        dim: int = 16,
    ) -> ItemFacts:
        """Returns the facts of some users' rows.

        Args:
            train, heldout: Train and validation rows of the same users.
            counts: ``train`` and ``validation`` of all users; by default of these.
            dim: Largest number of entries of an item's vector.
        """
        times = train.timestamps if train.timestamps is not None and train.n_rows else np.zeros(1, np.int64)
        counts = counts or (train.item_counts(), heldout.item_counts())
        return cls(*counts, item_vectors(train, dim), int(times.min()), int(times.max()))


def item_vectors(train: Interactions, dim: int) -> np.ndarray:
    """Returns the right singular vectors of the rows, scaled by their values and then to unit length, [n_items, ≤ dim].

    An entry of the matrix is 1/√(rows of its user · rows of its item), so that neither dominates the similarities.
    """
    matrix = sp.csr_array(train.to_csr(dtype=np.float64))
    k = min(dim, min(matrix.shape) - 1)
    if k < 1 or not matrix.nnz:
        return np.zeros((train.n_items, 1), dtype=np.float32)
    of_users, of_items = (1 / np.sqrt(np.maximum(matrix.sum(axis=axis), 1)) for axis in (1, 0))
    matrix = sp.csr_array(matrix.multiply(of_users[:, None]).multiply(of_items[None]))
    draws = hashing.combine(hashing.stream("attribute/vectors"), np.arange(min(matrix.shape), dtype=np.uint64))
    _, values, right = svds(matrix, k=k, v0=hashing.uniform(draws) - 0.5)
    vectors = right.T * values
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(norms > 1e-12, norms, np.inf), dtype=np.float32)


def row_features(train: Interactions, heldout: Interactions, facts: ItemFacts) -> dict[str, np.ndarray]:
    """Returns the features of each train row by name, float64 [n_rows] each, all finite.

    Args:
        train, heldout: All train and validation rows of the same users, by user.
        facts: Of the items.
    """
    counts, items = train.counts, train.items
    n = np.repeat(counts, counts)
    place = ragged.positions(counts)
    after = n - 1 - place
    popularity = np.log1p(facts.train)[items]
    ratio = max(int(facts.validation.sum()), 1) / max(int(facts.train.sum()), 1)
    found = {
        "item_rows": popularity,
        "item_trend": np.log((facts.validation + 1) / (facts.train * ratio + 1))[items],
        "user_rows": np.log1p(n),
        "place": place / np.maximum(n - 1, 1),
        "rows_after": np.log1p(after),
        "validation_rows": np.log1p(np.repeat(heldout.counts, counts)),
    }
    mean_popularity = _user_means(popularity, counts)
    found["user_popularity"] = mean_popularity
    found["popularity_before"] = _neighbour(popularity, place > 0, -1, mean_popularity)
    found["popularity_after"] = _neighbour(popularity, after > 0, 1, mean_popularity)
    found |= _similarities(train, heldout, facts.vectors, place, after)
    if train.ratings is not None:
        ratings = train.ratings.astype(np.float64)
        found["user_rating"] = _user_means(ratings, counts)
        found["rating"] = ratings - found["user_rating"]
    if train.timestamps is not None:
        times = train.timestamps / _MS
        gaps = np.diff(times, prepend=times[:1])
        found["time_before"] = np.log1p(np.where(place > 0, gaps, 0.0).clip(min=0))
        found["time_after"] = np.log1p(np.where(after > 0, np.append(gaps[1:], 0.0), 0.0).clip(min=0))
        ends = np.repeat(times[np.maximum(train.offsets[1:] - 1, 0)], counts) if len(times) else times
        found["age"] = np.log1p((ends - times).clip(min=0))
        found["time"] = (times - facts.first / _MS) / max((facts.last - facts.first) / _MS, 1.0)
    return found


def _similarities(
    train: Interactions, heldout: Interactions, vectors: np.ndarray, place: np.ndarray, after: np.ndarray
) -> dict[str, np.ndarray]:
    """Cosines of a row's item with the user's other rows, with those before and after it, and with validation rows."""
    own = vectors[train.items].astype(np.float64)
    profile = _user_sums(own, train.offsets)
    wanted = _user_sums(vectors[heldout.items].astype(np.float64), heldout.offsets)
    others = np.repeat(profile, train.counts, axis=0) - own
    return {
        "like_others": _cosines(own, others),
        "like_validation": _cosines(own, np.repeat(wanted, train.counts, axis=0)),
        "like_before": _neighbour_cosines(own, place > 0, -1),
        "like_after": _neighbour_cosines(own, after > 0, 1),
    }


def _cosines(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    norms = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    return (left * right).sum(axis=1) / np.where(norms > 1e-12, norms, np.inf)


def _neighbour_cosines(own: np.ndarray, there: np.ndarray, shift: int) -> np.ndarray:
    return np.where(there, _cosines(own, np.roll(own, -shift, axis=0)), 0.0)


def _neighbour(values: np.ndarray, there: np.ndarray, shift: int, otherwise: np.ndarray) -> np.ndarray:
    """The value of the row ``shift`` places further on, where it is the same user's."""
    return np.where(there, np.roll(values, -shift), otherwise)


def _user_sums(values: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """The sum of each user's rows, [users, …]; 0 for users without rows."""
    sums = np.zeros((len(values) + 1, *values.shape[1:]))
    np.cumsum(values, axis=0, out=sums[1:])
    return sums[offsets[1:]] - sums[offsets[:-1]]


def _user_means(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The mean of a user's rows, at each of them."""
    means = _user_sums(values, ragged.offsets(counts)) / np.maximum(counts, 1)
    return np.repeat(means, counts)
