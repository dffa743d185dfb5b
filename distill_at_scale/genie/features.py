"""Features of a dataset for Data-Genie, computed in one pass over its train rows, shard by shard.

Sizes, degree distributions of users and items, their concentration, and rating statistics are exact at any scale:
shards are merged by adding a histogram of degrees and a few sums. Features that need the graph or all rows of a user
(components, clustering, hop plot, spectrum, drift) are measured on :data:`SAMPLED_USERS` users, drawn by a hash of
their ids (all users if there are fewer), which fit on one machine. No feature depends on the division into shards.
Shares measured on ``n`` users have a standard error of at most 0.5 / √n: 0.008 for the full sample. Components and
reach are those of the sampled users' graph, which is sparser than the whole graph.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import scipy.sparse as sp

from distill_at_scale.data import hashing
from distill_at_scale.data.dataset import Dataset
from distill_at_scale.data.interactions import Interactions
from distill_at_scale.data.ordering import order_by
from distill_at_scale.errors import DasError
from distill_at_scale.genie import graph

FEATURE_VERSION = 1
"""Increased whenever the meaning of a feature changes; a trained Data-Genie accepts only its own version."""

SAMPLED_USERS = 4000
_CLUSTERING_USERS = 2000
_HOP_SOURCES, _HOPS = 32, 4
_EIGENVALUES = 10
_ORDER = np.linspace(0, 1, 10)
"""The 10 quantiles of the degree distributions that become features, minimum and maximum included."""
_HEADS = (0.01, 0.1)


@dataclass
class ShardFeatures:
    """Mergeable statistics of some users' train rows; sketches of disjoint users can be merged.

    Attributes:
        degrees: Number of rows of a user -> number of such users (excluding those without rows).
        ratings: Number of ratings, their sum, and the sum of their squares.
        hashes: Hashes of the sampled users, one uint64 [s] for each merged sketch.
        samples: Rows of the sampled users, aligned with ``hashes``.
    """

    degrees: dict[int, int] = field(default_factory=dict)
    ratings: tuple[int, float, float] = (0, 0.0, 0.0)
    hashes: list[np.ndarray] = field(default_factory=list)
    samples: list[Interactions] = field(default_factory=list)

    @classmethod
    def of(cls, rows: Interactions, user_hash: np.ndarray, n_users: int) -> ShardFeatures:
        """Computes the sketch of one shard.

        Args:
            rows: Train rows of b users.
            user_hash: uint64 [b], hashes of the users' ids.
            n_users: Number of users of the whole dataset, which determines how many are sampled.
        """
        counts = rows.counts
        values, users = np.unique(counts[counts > 0], return_counts=True)
        drawn = hashing.combine(hashing.stream("genie/sampled users"), user_hash)
        limit = np.uint64(min(1.0, SAMPLED_USERS / max(n_users, 1)) * 2.0**53)
        chosen = np.flatnonzero((counts > 0) & (drawn >> np.uint64(11) < limit))
        stars = np.zeros(0) if rows.ratings is None else rows.ratings.astype(np.float64)
        return cls(
            degrees=dict(zip(values.tolist(), users.tolist())),
            ratings=(len(stars), float(stars.sum()), float((stars**2).sum())),
            hashes=[drawn[chosen]],
            samples=[rows.take(chosen)],
        )

    def merge(self, other: ShardFeatures) -> ShardFeatures:
        """Returns the sketch of both sets of users."""
        degrees = dict(self.degrees)
        for degree, users in other.degrees.items():
            degrees[degree] = degrees.get(degree, 0) + users
        n, total, squares = (a + b for a, b in zip(self.ratings, other.ratings))
        return ShardFeatures(
            degrees, (int(n), total, squares), self.hashes + other.hashes, self.samples + other.samples
        )

    def result(self, item_counts: np.ndarray) -> dict[str, float]:
        """Returns the features by name.

        Args:
            item_counts: int64 [n_items], train rows of each item.

        Raises:
            DasError: The dataset has no train rows.
        """
        if not self.degrees:
            raise DasError("a dataset without train rows has no features; prepare it with another --split.")
        degrees = np.array(sorted(self.degrees))
        users = np.array([self.degrees[int(degree)] for degree in degrees])
        popularity, items = np.unique(item_counts[item_counts > 0], return_counts=True)
        n_users, n_items, n_rows = int(users.sum()), int(items.sum()), int(degrees @ users)
        found = {
            "log_users": np.log(n_users),
            "log_items": np.log(n_items),
            "log_rows": np.log(n_rows),
            "log_density": np.log(n_rows) - np.log(n_users) - np.log(n_items),
            "log_user_mean": np.log(n_rows / n_users),
            "log_item_mean": np.log(n_rows / n_items),
            **_distribution("user", degrees, users),
            **_distribution("item", popularity, items),
            **_ratings(*self.ratings),
            **self._of_sample(),
        }
        return {name: float(value) for name, value in found.items()}

    def _of_sample(self) -> dict[str, float]:
        """Returns the features of the sampled users, sorted by hash, so that the order of merging has no effect."""
        rows = Interactions.concatenate(self.samples, self.samples[0].n_items)
        order = np.argsort(np.concatenate(self.hashes), kind="stable")
        rows = rows.take(order)
        matrix = _compact(rows)
        return {**_graph_features(matrix), **_drift(rows)}


def dataset_features(dataset: Dataset, shards: Sequence[int]) -> ShardFeatures:
    """Computes the sketch of some shards of a dataset, one after another."""
    total = ShardFeatures()
    for shard in shards:
        rows = dataset.interactions("train", shards=[shard])
        user_hash = hashing.hash_ids(dataset.users(shard)["user_id"])
        total = total.merge(ShardFeatures.of(rows, user_hash, dataset.n_users))
    return total


def _distribution(name: str, degrees: np.ndarray, counts: np.ndarray) -> dict[str, float]:
    """Returns scale-free features of a degree distribution: quantiles as multiples of the mean, and concentration.

    Args:
        name: Kind of nodes, the prefix of the features' names.
        degrees: int64 [d], ascending.
        counts: int64 [d], number of nodes of each degree.
    """
    n, last = int(counts.sum()), np.cumsum(counts)
    total = int(degrees @ counts)
    at = np.round(_ORDER * (n - 1)).astype(np.int64)
    order = degrees[np.searchsorted(last, at, side="right")]
    found = {f"{name}_order_{k}": np.log(order[k] * n / total) for k in range(len(at))}
    # Gini coefficient from ranks: nodes of equal degree get the mean of their ranks.
    ranks = last - (counts - 1) / 2
    found[f"{name}_gini"] = 2 * (degrees * counts * ranks).sum() / (n * total) - (n + 1) / n
    for head in _HEADS:
        left = max(1, round(head * n))
        of_head = np.clip(left - (n - last), 0, counts)
        found[f"{name}_head_{head:g}"] = (degrees * of_head).sum() / total
    return found


def _ratings(n: int, total: float, squares: float) -> dict[str, float]:
    """Returns the coefficient of variation of the ratings; 0 for a log without ratings."""
    mean = total / n if n else 0.0
    spread = max(squares / n - mean**2, 0.0) ** 0.5 / abs(mean) if n and mean else 0.0
    return {"has_ratings": float(n > 0), "rating_spread": spread}


def _graph_features(matrix: sp.csr_array) -> dict[str, float]:
    sizes = graph.component_sizes(matrix)
    few = _without_empty(matrix[:_CLUSTERING_USERS])
    found = {
        "log_components": np.log(len(sizes)),
        "largest_component": sizes[0] / sizes.sum(),
        "clustering": graph.clustering(few),
    }
    hops = graph.reach(matrix, np.arange(min(_HOP_SOURCES, matrix.shape[0])), _HOPS)
    found |= {f"reach_{hop + 1}": hops[hop] for hop in range(_HOPS)}
    tiny = 1e-6
    values = graph.singular_values(matrix, _EIGENVALUES) ** 2 / matrix.nnz
    found |= {f"log_eigenvalue_{k + 1}": np.log(values[k] + tiny) for k in range(_EIGENVALUES)}
    # The largest is 1 by construction.
    values = graph.singular_values(graph.normalised(matrix), _EIGENVALUES, most=1.0)
    found |= {f"spectrum_{k + 1}": values[k] for k in range(1, _EIGENVALUES)}
    return found


def _drift(rows: Interactions) -> dict[str, float]:
    """Measures drift: the overlap of the item distributions of the earlier and the later half of the rows.

    The overlap is Σ min(p, q) over items. Two small halves never overlap completely, so it is divided by the overlap of
    two random halves.
    """
    names = ("has_times", "drift", "time_median", "users_in_both_halves")
    times = rows.timestamps
    if times is None or len(times) < 2 or times.min() == times.max():
        return dict.fromkeys(names, 0.0)
    owner = np.repeat(np.arange(len(rows)), rows.counts)
    # Equal times are ordered at random; otherwise a log with few distinct times would be halved by id.
    begin = hashing.stream("genie/equal times")
    draw = hashing.combine(begin, owner.astype(np.uint64), rows.items.astype(np.uint64))
    late = np.zeros(len(times), dtype=bool)
    late[order_by(times, draw)[len(times) // 2 :]] = True
    by_chance = np.zeros(len(times), dtype=bool)
    by_chance[np.argsort(draw, kind="stable")[len(times) // 2 :]] = True
    both = np.bincount(owner[late], minlength=len(rows)).astype(bool) & np.bincount(
        owner[~late], minlength=len(rows)
    ).astype(bool)
    span = float(times.max() - times.min())
    values = (
        1.0,
        1 - _overlap(rows.items, late) / max(_overlap(rows.items, by_chance), 1e-9),
        (float(np.median(times)) - float(times.min())) / span,
        float(both.mean()),
    )
    return dict(zip(names, values))


def _overlap(items: np.ndarray, half: np.ndarray) -> float:
    n = int(items.max()) + 1
    first, second = np.bincount(items[half], minlength=n), np.bincount(items[~half], minlength=n)
    return float(np.minimum(first / max(first.sum(), 1), second / max(second.sum(), 1)).sum())


def _compact(rows: Interactions) -> sp.csr_array:
    """Returns the rows as a matrix [users, items that occur]."""
    return _without_empty(rows.to_csr(dtype=np.float64))


def _without_empty(matrix: sp.csr_array) -> sp.csr_array:
    matrix = sp.csr_array(matrix)
    present, indices = np.unique(matrix.indices, return_inverse=True)
    return sp.csr_array((matrix.data, indices, matrix.indptr), shape=(matrix.shape[0], len(present)))


def feature_vector(features: Mapping[str, float], names: Sequence[str]) -> np.ndarray:
    """Returns the features in the order of ``names``, float64 [names].

    Raises:
        DasError: A feature is missing because the features are of another version.
    """
    missing = [name for name in names if name not in features]
    if missing:
        raise DasError(f"feature '{missing[0]}' is missing; these features are of another version than Data-Genie's.")
    return np.array([features[name] for name in names])
