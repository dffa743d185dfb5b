"""Communication within a group of workers: rank, world size, and all-reduce."""

from __future__ import annotations

import torch


class Communicator:
    """A group of workers that train together. This class is the single-worker case; subclasses override all members."""

    rank = 0
    world_size = 1

    def all_reduce(self, tensor: torch.Tensor) -> None:
        """Replaces ``tensor`` with its sum over all workers, on each of them."""
