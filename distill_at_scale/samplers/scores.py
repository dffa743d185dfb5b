"""Scores: the numbers that a sampler gives to the units of a shard, and how a threshold reads them.

A unit is a row or a user. It is kept when its (key, tie) does not come after the budget's threshold, so that
smaller keys are kept first and what a smaller budget keeps is part of what a larger one does. Units with the same
(key, tie), as all rows of a graph node, are kept or dropped together.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from distill_at_scale.data import hashing
from distill_at_scale.data.ordered_bits import ordered_bits
from distill_at_scale.data.preparation import restartable

LAST = (1 << 64) - 1
"""The largest key and the largest tie."""


@dataclass(frozen=True)
class Threshold:
    """Where a budget ends in the order of (key, tie), inclusive; ``rows`` is what it keeps."""

    key: int
    tie: int
    rows: int


@dataclass(frozen=True)
class Scores:
    """Numbers of the units of one shard.

    Attributes:
        keys: uint64 [units], smaller is kept first.
        ties: uint64 [units], the order among equal keys.
        rows: int64 [units], train rows of each user; None when the units are the train rows themselves.
    """

    keys: np.ndarray
    ties: np.ndarray
    rows: np.ndarray | None = None

    def __len__(self) -> int:
        """The number of units."""
        return len(self.keys)

    def keeps(self, threshold: Threshold) -> np.ndarray:
        """bool [train rows of the shard]: which a threshold keeps."""
        key, tie = np.uint64(threshold.key), np.uint64(threshold.tie)
        units = self.keys < key
        # Few have the very key, unless all that are left do: their ties are all that is looked at.
        tied = np.flatnonzero(self.keys == key)
        units[tied] = self.ties.take(tied) <= tie
        return units if self.rows is None else np.repeat(units, self.rows)

    def write(self, uri: str) -> None:
        """Writes one Arrow IPC file: key · tie [· rows], in the order of the shard's train rows or users."""
        columns = {"key": self.keys, "tie": self.ties}
        if self.rows is not None:
            columns["rows"] = self.rows
        restartable.write_arrow(uri, pa.table(columns))


def read_scores(uri: str) -> Scores:
    """What :meth:`Scores.write` wrote.

    Raises:
        DamagedFileError: missing or altered.
    """
    table = restartable.read_arrow(uri)
    rows = table["rows"].to_numpy() if "rows" in table.column_names else None
    return Scores(table["key"].to_numpy(), table["tie"].to_numpy(), rows)


def fraction_keys(values: np.ndarray) -> np.ndarray:
    """uint64 keys in the order of ``values`` (float64 in [0, 1)), spread evenly so that histograms resolve them."""
    return (values * 2.0**63).astype(np.uint64)


def ascending_keys(values: np.ndarray) -> np.ndarray:
    """uint64 keys in the order of ``values`` (float64, no NaN): the smallest is kept first."""
    return ordered_bits(values.astype(np.float64))


def descending_keys(values: np.ndarray) -> np.ndarray:
    """uint64 keys against the order of ``values`` (float64, no NaN): the largest is kept first."""
    return ~ascending_keys(values)


def weighted_keys(weights: np.ndarray, hashes: np.ndarray) -> np.ndarray:
    """uint64 keys whose smallest n are a sample without replacement in proportion to ``weights`` (positive).

    Each unit gets −ln(u) / w, u uniform: an exponential number of rate w. The order is that of drawing one after
    another with p ∝ w, and so every prefix is such a sample.

    Source: Efraimidis, Spirakis, "Weighted random sampling with a reservoir" (2006), algorithm A, whose u^(1/w)
    has the same order.
    """
    return ascending_keys(-np.log(hashing.uniform_open(hashes)) / weights)
