"""A small log in memory, cut into any number of shards as prepare does, and selection over such shards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from distill_at_scale.data import hashing
from distill_at_scale.samplers import thresholds
from distill_at_scale.samplers.map_reduce import Arrays, MapReduce, merge
from distill_at_scale.samplers.scores import Scores, Threshold
from distill_at_scale.samplers.thresholds import Span
from distill_at_scale.samplers.train_rows import TrainRows

Row = tuple[int, int]
"""(user id, position of the row among the user's)"""


@dataclass(frozen=True)
class Log:
    """For every user id its rows, oldest first: items and times."""

    rows: dict[int, list[tuple[int, int]]]
    n_items: int

    @property
    def n_rows(self) -> int:
        return sum(len(rows) for rows in self.rows.values())

    def names(self) -> list[Row]:
        return [(user, k) for user, rows in self.rows.items() for k in range(len(rows))]


def make_log(seed: int, n_users: int = 60, n_items: int = 40, mean: float = 8.0, ties: bool = True) -> Log:
    """Users of unlike activity (one of them has none); with ``ties``, many rows share their time."""
    rng = np.random.default_rng(seed)
    ids = rng.choice(10**12, n_users, replace=False)
    log: dict[int, list[tuple[int, int]]] = {}
    for k, user in enumerate(ids):
        n = 0 if k == 0 else min(n_items, 1 + int(rng.exponential(mean)))
        times = np.sort(rng.integers(0, 5 if ties else 10**6, n))
        chances = 1 / (np.arange(n_items) + 3)
        items = rng.choice(n_items, n, replace=False, p=chances / chances.sum())
        log[int(user)] = sorted(zip(items.tolist(), times.tolist()), key=lambda r: (r[1], r[0]))
    return Log(log, n_items)


def user_hash(user: int) -> int:
    return int(hashing.hash_ids(pl.Series([user], dtype=pl.Int64))[0])


def draw_of(name: str, seed: int, *what: int) -> int:
    """What the random stream of that name draws, for a user's hash, an item or both."""
    return int(hashing.combine(hashing.stream(name, seed), *what)[0])


def cut(log: Log, n_shards: int) -> tuple[list[TrainRows], list[list[int]]]:
    """The shards of a log, and the ids of each one's users."""
    ids = [[u for u in sorted(log.rows) if (user_hash(u) >> 32) * n_shards >> 32 == k] for k in range(n_shards)]
    return [_shard(log, users) for users in ids], ids


def _shard(log: Log, users: Sequence[int]) -> TrainRows:
    rows = [row for user in users for row in log.rows[user]]
    return TrainRows(
        offsets=np.concatenate(([0], np.cumsum([len(log.rows[u]) for u in users]))).astype(np.int64),
        items=np.array([item for item, _ in rows], dtype=np.int32),
        user_hash=hashing.hash_ids(pl.Series(users, dtype=pl.Int64)),
        n_items=log.n_items,
        timestamps=np.array([time for _, time in rows], dtype=np.int64),
    )


def find(scores: Sequence[Scores], target: int) -> Threshold | None:
    """The threshold of ``target`` rows over some shards, as a run finds it."""
    span = Span()
    while not span.is_narrow:
        span = thresholds.narrow_span(span, [thresholds.histogram(s, span) for s in scores], target)
    return thresholds.settle(span, [thresholds.candidates(s, span) for s in scores], target)


def kept(scores: Sequence[Scores], shards: Sequence[TrainRows], ids: list[list[int]], target: int) -> set[Row]:
    """The rows that a budget of ``target`` rows keeps."""
    threshold = find(scores, target)
    assert threshold is not None
    found = set()
    for score, rows, users in zip(scores, shards, ids):
        for k in np.flatnonzero(score.keeps(threshold)):
            found.add((users[int(rows.owner[k])], int(rows.position[k])))
    assert len(found) == threshold.rows
    return found


def run_map_reduce(algorithm: MapReduce, shards: Sequence[TrainRows]) -> tuple[list[Arrays], Arrays]:
    """What every shard and all together learn in passes, as a run has them learn."""
    owns: list[Arrays] = [{} for _ in shards]
    shared, done = algorithm.begin(), 0.0
    while done < 1:
        visits = [algorithm.map(rows, own, shared) for rows, own in zip(shards, owns)]
        owns = [own for own, _ in visits]
        shared, done = algorithm.reduce(shared, merge((brought for _, brought in visits), algorithm.listed))
    return owns, shared
