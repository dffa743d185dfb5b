"""Scores: the numbers that a sampler assigns to the units of a shard, and thresholds on them.

A unit is a row or a user. It is kept if its (key, tie) is not after the budget's threshold, so smaller keys are kept
first, and samples at smaller budgets are subsets of those at larger ones. Units with equal (key, tie), such as all rows
of a graph node, are kept or dropped together.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from distill_at_scale.data import hashing
from distill_at_scale.data.ordered_bits import ordered_bits
from distill_at_scale.data.preparation import restartable

LAST = (1 << 64) - 1
"""Largest key and largest tie."""


@dataclass(frozen=True)
class Threshold:
    """The last (key, tie) that a budget keeps; ``rows`` is the number of rows kept."""

    key: int
    tie: int
    rows: int


@dataclass(frozen=True)
class Scores:
    """Scores of the units of one shard.

    Attributes:
        keys: uint64 [units], smaller keys are kept first.
        ties: uint64 [units], order among equal keys.
        rows: int64 [units], train rows of each user; None if the units are the train rows themselves.
        parameters: float32 [units], from which :attr:`.Sampler.inclusion` computes the units' probabilities; None if
            these are equal or unknown.
    """

    keys: np.ndarray
    ties: np.ndarray
    rows: np.ndarray | None = None
    parameters: np.ndarray | None = None

    def __len__(self) -> int:
        """Number of units."""
        return len(self.keys)

    def keeps(self, threshold: Threshold) -> np.ndarray:
        """Returns which rows a threshold keeps, bool [train rows of the shard]."""
        units = self.units(threshold)
        return units if self.rows is None else np.repeat(units, self.rows)

    def units(self, threshold: Threshold) -> np.ndarray:
        """Returns which units a threshold keeps, bool [units]."""
        key, tie = np.uint64(threshold.key), np.uint64(threshold.tie)
        units = self.keys < key
        # Usually few units have exactly this key, so ties are compared only for them.
        tied = np.flatnonzero(self.keys == key)
        units[tied] = self.ties.take(tied) <= tie
        return units

    def write(self, uri: str) -> None:
        """Writes one Arrow IPC file: key · tie [· rows] [· parameter], in the order of the shard's train rows or
        users."""
        columns = {"key": self.keys, "tie": self.ties}
        if self.rows is not None:
            columns["rows"] = self.rows
        if self.parameters is not None:
            columns["parameter"] = self.parameters
        restartable.write_arrow(uri, pa.table(columns))


def read_scores(uri: str) -> Scores:
    """Reads scores written by :meth:`Scores.write`.

    Raises:
        DamagedFileError: The file is missing or altered.
    """
    table = restartable.read_arrow(uri)
    columns = {name: table[name].to_numpy() for name in table.column_names}
    return Scores(columns["key"], columns["tie"], columns.get("rows"), columns.get("parameter"))


def fraction_keys(values: np.ndarray) -> np.ndarray:
    """Returns uint64 keys in the order of ``values`` (float64 in [0, 1)), spread evenly for the histograms."""
    return (values * 2.0**63).astype(np.uint64)


def ascending_keys(values: np.ndarray) -> np.ndarray:
    """Returns uint64 keys in ascending order of ``values`` (float64, no NaN): the smallest is kept first."""
    return ordered_bits(values.astype(np.float64))


def descending_keys(values: np.ndarray) -> np.ndarray:
    """Returns uint64 keys in descending order of ``values`` (float64, no NaN): the largest is kept first."""
    return ~ascending_keys(values)


def weighted_keys(weights: np.ndarray, hashes: np.ndarray) -> np.ndarray:
    """Returns uint64 keys whose smallest n are a sample without replacement, proportional to positive ``weights``.

    Each unit gets −ln(u) / w with u uniform, an exponential variable with rate w. The order is that of drawing one unit
    after another with p ∝ w, so every prefix is such a sample.

    Source: Efraimidis, Spirakis, "Weighted random sampling with a reservoir" (2006), algorithm A, whose u^(1/w)
    has the same order.
    """
    return ascending_keys(-np.log(hashing.uniform_open(hashes)) / weights)
