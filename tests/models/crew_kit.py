"""Several workers of a fit as threads of this process, who add up and share as those of a cluster do."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import torch
from contract import make_rows

from distill_at_scale.data.interactions import Interactions
from distill_at_scale.models.kernel.pcg import Sharing
from distill_at_scale.models.training.sources import MemorySource

Result = TypeVar("Result")


class _Member(Sharing):
    def __init__(
        self, rank: int, world_size: int, table: list[torch.Tensor | None], barrier: threading.Barrier
    ) -> None:
        self.rank, self.world_size, self._table, self._barrier = rank, world_size, table, barrier

    def all_reduce(self, tensor: torch.Tensor) -> None:
        self._table[self.rank] = tensor.clone()
        self._barrier.wait()
        parts = [part for part in self._table if part is not None]
        total = parts[0].clone()
        for part in parts[1:]:
            total += part
        self._barrier.wait()
        tensor.copy_(total)

    def share(self, tensor: torch.Tensor, owner: int) -> None:
        if self.rank == owner:
            self._table[0] = tensor.clone()
        self._barrier.wait()
        shared = self._table[0]
        assert shared is not None
        if self.rank != owner:
            tensor.copy_(shared)
        self._barrier.wait()


def crew(world_size: int, work: Callable[[Sharing], Result]) -> list[Result]:
    """What ``work`` gives to each of so many workers; one that fails takes all with it."""
    barrier, table = threading.Barrier(world_size), [None] * world_size

    def one(rank: int) -> Result:
        try:
            return work(_Member(rank, world_size, table, barrier))  # type: ignore[arg-type]
        except BaseException:
            barrier.abort()
            raise

    with ThreadPoolExecutor(world_size) as pool:
        futures = [pool.submit(one, rank) for rank in range(world_size)]
        failures = [error for error in (future.exception() for future in futures) if error is not None]
        real = [error for error in failures if not isinstance(error, threading.BrokenBarrierError)]
        for error in real or failures:
            raise error
        return [future.result() for future in futures]


def random_rows(n_users: int, n_items: int, seed: int, least: int = 1) -> Interactions:
    """Users with ``least`` rows or more of random items."""
    rng = np.random.default_rng(seed)
    picks = [
        sorted(rng.choice(n_items, rng.integers(least, n_items // 2), replace=False).tolist()) for _ in range(n_users)
    ]
    return make_rows(picks, n_items)


def share_of(rows: Interactions, communicator: Sharing) -> Interactions:
    """A worker's users, the last of whom may be fewer."""
    cut = -(-len(rows) // communicator.world_size)
    return rows.slice(communicator.rank * cut, (communicator.rank + 1) * cut)


def source_of(rows: Interactions, heldout: Interactions | None, communicator: Sharing) -> MemorySource:
    """A worker's share as a source."""
    return MemorySource(share_of(rows, communicator), None if heldout is None else share_of(heldout, communicator))
