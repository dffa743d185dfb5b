"""What some samplers must learn of all shards before they can score: by passes over them, between which only sums
and short lists move.

A pass visits every shard with what is shared; what the visits bring back is merged and makes what the next pass
shares. Nothing may depend on how the rows are cut into shards or on the order of the visits: sums are of whole
numbers, which have no rounding, and lists are put in order by their content.
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
    """What is to be sampled.

    Attributes:
        n_items: size of the item space.
        n_rows: train rows of the dataset.
        target: train rows that the largest budget keeps.
        seed: of everything that is drawn.
    """

    n_items: int
    n_rows: int
    target: int
    seed: int


class MapReduce(Protocol):
    """An algorithm in passes."""

    listed: ClassVar[frozenset[str]]
    """names of what visits bring back as lists, to be joined; all else is summed"""

    def begin(self) -> Arrays:
        """What the first pass shares."""

    def map(self, rows: TrainRows, own: Arrays, shared: Arrays) -> tuple[Arrays, Arrays]:
        """What a shard keeps for its next visit (``own`` is empty at the first), and what it brings back."""

    def reduce(self, shared: Arrays, brought: Arrays) -> tuple[Arrays, float]:
        """What the next pass shares, given what all visits brought, and the share of the work that is done, about:
        no other pass is needed from 1 on."""


MakeMapReduce = Callable[[Task], MapReduce]


def merge(brought: Iterable[Arrays], listed: frozenset[str]) -> Arrays:
    """What several visits brought back, as one."""
    parts = list(brought)
    return {
        name: np.concatenate([p[name] for p in parts]) if name in listed else sum(p[name] for p in parts)  # type: ignore[misc]
        for name in parts[0]
    }
