"""How the workers of a group reach each other: a rank, their number, and a sum over all of them."""

from __future__ import annotations

import torch


class Communicator:
    """The workers that train together, here only one; others give their rank, their number and a way to add up."""

    rank = 0
    world_size = 1

    def all_reduce(self, tensor: torch.Tensor) -> None:
        """Replaces ``tensor`` by its sum over all workers, on each of them."""
