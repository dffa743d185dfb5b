"""Sensitivity: users or rows far from their cluster's centre, or in small clusters, are more likely to be kept.

Source: Axiotis et al., "Data-efficient learning via clustering-based sensitivity sampling" (ICML 2024); Bachem, Lucic,
Krause, "Practical coreset constructions for machine learning" (2017). k-means on the embeddings; a point's probability
is proportional to d² / Σ d² + 1 / (k n_c), with d its distance to its centre and n_c the size of its cluster.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import ClassVar

import numpy as np
import scipy.sparse as sp

from distill_at_scale.data import hashing
from distill_at_scale.samplers import inclusion
from distill_at_scale.samplers.embedding.vectors import EmbeddingPasses, item_embeddings, user_embeddings
from distill_at_scale.samplers.map_reduce import Arrays
from distill_at_scale.samplers.sampler import Sampler
from distill_at_scale.samplers.scores import Scores, weighted_keys
from distill_at_scale.samplers.train_rows import TrainRows

CLUSTERS = 32
_MOST_PASSES = 12
_GAIN = 0.002
"""Relative reduction of the cost below which no further pass is run."""
_CHUNK = 1 << 17


class _KMeans(EmbeddingPasses):
    """Lloyd's algorithm in integers, from random points; a point is one vector or two concatenated ones."""

    listed: ClassVar[frozenset[str]] = frozenset({"draw", "first"})

    def map_embedded(self, rows: TrainRows, shared: Arrays) -> Arrays:
        halves = self.halves(rows, shared)
        if "centres" not in shared:
            draws, positions = self.draws(rows)
            first = np.argsort(draws)[:CLUSTERS]
            points = np.concatenate([half[position[first]] for half, position in zip(halves, positions)], axis=1)
            return {"draw": draws[first], "first": points}
        sums = np.zeros(shared["centres"].shape, dtype=np.int64)
        counts, cost = np.zeros(len(sums), dtype=np.int64), 0
        tables = squared_distances(halves, shared["centres"])
        for positions in self.chunks(rows):
            cluster, squares = nearest(tables, positions)
            counts += np.bincount(cluster, minlength=len(sums))
            cost += int(squares.sum())
            sums += np.concatenate([_sum(cluster, h, p, len(sums)) for h, p in zip(halves, positions)], axis=1)
        return {"sums": sums, "counts": counts, "cost": np.array([cost], dtype=np.int64)}

    def reduce_embedded(self, shared: Arrays, outputs: Arrays) -> tuple[Arrays, float]:
        if "centres" not in shared:
            first = np.argsort(outputs["draw"])[:CLUSTERS]
            centres = np.unique(outputs["first"][first], axis=0)
            return {**shared, "centres": centres, "cost": np.array([-1]), "clusterings": np.zeros(1, np.int64)}, 0.5
        cost, before = int(outputs["cost"][0]), int(shared["cost"][0])
        shared = {**shared, "cost": outputs["cost"], "counts": outputs["counts"]}
        done = before >= 0 and before - cost <= _GAIN * before
        if done or shared["clusterings"][0] >= _MOST_PASSES:
            return shared, 1.0
        counts = outputs["counts"][:, None]
        moved = np.rint(outputs["sums"] / np.maximum(counts, 1))
        centres = np.where(counts > 0, moved, shared["centres"])
        clusterings = shared["clusterings"] + 1
        share = 0.5 + 0.5 * clusterings[0] / (_MOST_PASSES + 1)
        return {**shared, "centres": centres, "clusterings": clusterings}, share

    @abstractmethod
    def halves(self, rows: TrainRows, shared: Arrays) -> list[np.ndarray]:
        """Returns the tables of vectors that points are concatenated from."""

    @abstractmethod
    def draws(self, rows: TrainRows) -> tuple[np.ndarray, list[np.ndarray]]:
        """Returns a draw for each point of the shard, and the positions of its vectors in their tables."""

    def chunks(self, rows: TrainRows) -> Iterator[list[np.ndarray]]:
        """Yields the positions of the points' vectors, in chunks."""
        _, positions = self.draws(rows)
        for start in range(0, len(positions[0]), _CHUNK):
            yield [position[start : start + _CHUNK] for position in positions]


class UserClusters(_KMeans):
    """Clusters the embeddings of the users with rows."""

    def halves(self, rows: TrainRows, shared: Arrays) -> list[np.ndarray]:
        return [user_embeddings(rows, shared)]

    def draws(self, rows: TrainRows) -> tuple[np.ndarray, list[np.ndarray]]:
        active = np.flatnonzero(rows.counts > 0)
        begin = hashing.stream("sensitivity_users/first centres", self.task.seed)
        return hashing.combine(begin, rows.user_hash[active]), [active]


class RowClusters(_KMeans):
    """Clusters the concatenated embeddings of each row's user and item."""

    def halves(self, rows: TrainRows, shared: Arrays) -> list[np.ndarray]:
        return _row_halves(rows, shared)

    def draws(self, rows: TrainRows) -> tuple[np.ndarray, list[np.ndarray]]:
        draws = rows.draw(hashing.stream("sensitivity/first centres", self.task.seed))
        return draws, [rows.owner, _items_here(rows)[1]]


def _items_here(rows: TrainRows) -> tuple[np.ndarray, np.ndarray]:
    """Returns the items of the shard, and the position of each row's item among them."""
    present = np.zeros(rows.n_items, dtype=bool)
    present[rows.items] = True
    return np.flatnonzero(present), (np.cumsum(present) - 1)[rows.items]


def _row_halves(rows: TrainRows, shared: Arrays) -> list[np.ndarray]:
    return [user_embeddings(rows, shared), item_embeddings(shared, _items_here(rows)[0])]


def squared_distances(halves: list[np.ndarray], centres: np.ndarray) -> list[np.ndarray]:
    """Returns, for each table, float64 [n, k] squared distances to its part of every centre: integers below 2^53."""
    tables, start = [], 0
    for half in halves:
        part = centres[:, start : start + half.shape[1]]
        start += half.shape[1]
        tables.append((half**2).sum(axis=1)[:, None] - 2 * (half @ part.T) + (part**2).sum(axis=1))
    return tables


def nearest(tables: list[np.ndarray], positions: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Returns the cluster of each point (the first of equally near ones) and its squared distance, at most 2^31."""
    total = tables[0][positions[0]]
    for table, position in zip(tables[1:], positions[1:]):
        total = total + table[position]
    cluster = total.argmin(axis=1)
    # The last bits are dropped, so that the squares of two billion points sum to at most 63 bits.
    return cluster, total[np.arange(len(cluster)), cluster].astype(np.int64) >> 12


def _sum(cluster: np.ndarray, half: np.ndarray, position: np.ndarray, k: int) -> np.ndarray:
    """Sums a table's vectors over the points of each cluster, int64 [k, width]."""
    ones = np.ones(len(cluster), dtype=np.int64)
    members = sp.coo_array((ones, (cluster, position)), shape=(k, len(half))).tocsr()
    return members @ half.astype(np.int64)


def _weights(tables: list[np.ndarray], positions: list[np.ndarray], shared: Arrays) -> np.ndarray:
    """Returns d² / Σ d² + 1 / (k n_c), float64 [points]."""
    cluster, squares = nearest(tables, positions)
    total = max(int(shared["cost"][0]), 1)
    used = int((shared["counts"] > 0).sum())
    return squares / total + 1 / (used * shared["counts"][cluster])


def sensitivity_users(rows: TrainRows, seed: int, own: Arrays, shared: Arrays) -> Scores:
    """Keeps whole users, drawn without replacement by their sensitivity."""
    active = np.flatnonzero(rows.counts > 0)
    weights = np.ones(rows.n_users)
    weights[active] = _weights(squared_distances([user_embeddings(rows, shared)], shared["centres"]), [active], shared)
    draws = hashing.combine(hashing.stream("sensitivity_users/keys", seed), rows.user_hash)
    return Scores(weighted_keys(weights, draws), rows.user_hash, rows.counts, weights.astype(np.float32))


def sensitivity_rows(rows: TrainRows, seed: int, own: Arrays, shared: Arrays) -> Scores:
    """Keeps rows, drawn without replacement by their sensitivity."""
    tables = squared_distances(_row_halves(rows, shared), shared["centres"])
    items = _items_here(rows)[1]
    weights = np.empty(len(rows))
    for start in range(0, len(rows), _CHUNK):
        chunk = slice(start, start + _CHUNK)
        weights[chunk] = _weights(tables, [rows.owner[chunk], items[chunk]], shared)
    draws = rows.draw(hashing.stream("sensitivity/keys", seed))
    return Scores(weighted_keys(weights, draws), rows.position.view(np.uint64), parameters=weights.astype(np.float32))


SENSITIVITY = Sampler("sensitivity", sensitivity_rows, map_reduce=RowClusters, inclusion=inclusion.of_weighted_keys)
SENSITIVITY_USERS = Sampler(
    "sensitivity_users", sensitivity_users, map_reduce=UserClusters, inclusion=inclusion.of_weighted_keys
)
