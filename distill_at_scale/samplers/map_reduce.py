"""Algorithms that samplers run over all shards before they score, in map-reduce passes.

A pass maps every shard with the shared arrays; the merged outputs are reduced to the shared arrays of the next pass.
Only sums and short lists are communicated. Results must not depend on the division of rows into shards or on the order
of visits: sums are over integers, which do not round, and lists are sorted by content.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np

from distill_at_scale.samplers.train_rows import TrainRows

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Task:
    """Properties of a sampling task.

    Attributes:
        n_items: Number of items.
        n_rows: Number of train rows of the dataset.
        target: Number of train rows that the largest budget keeps.
        seed: Random seed.
    """

    n_items: int
    n_rows: int
    target: int
    seed: int


class MapReduce(Protocol):
    """An algorithm in map-reduce passes."""

    listed: ClassVar[frozenset[str]]
    """Names of outputs that are lists, to be concatenated; all others are summed."""
    joins: ClassVar[bool]
    """Whether shards have no state of their own, so that several may be visited as one."""

    def begin(self) -> Arrays:
        """Returns the shared arrays of the first pass."""

    def map(self, rows: TrainRows, own: Arrays, shared: Arrays) -> tuple[Arrays, Arrays]:
        """Returns a shard's state for its next visit (``own`` is empty at the first), and its outputs."""

    def reduce(self, shared: Arrays, outputs: Arrays) -> tuple[Arrays, float]:
        """Returns the shared arrays of the next pass, given the merged outputs, and the approximate share of the work
        that is done; from 1 on no further pass is needed."""


MakeMapReduce = Callable[[Task], MapReduce]


def merge(outputs: Iterable[Arrays], listed: frozenset[str]) -> Arrays:
    """Merges the outputs of several shards."""
    parts = list(outputs)
    return {
        name: np.concatenate([p[name] for p in parts]) if name in listed else sum(p[name] for p in parts)  # type: ignore[misc]
        for name in parts[0]
    }
