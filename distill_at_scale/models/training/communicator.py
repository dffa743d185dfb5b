"""Communication within a group of workers: rank, world size, and all-reduce."""

from __future__ import annotations

import torch


class Communicator:
    """A group of workers that train together. This class is the single-worker case; subclasses override all members."""

    rank = 0
    world_size = 1

    def all_reduce(self, tensor: torch.Tensor) -> None:
        """Replaces ``tensor`` with its sum over all workers, on each of them."""

    def summed(self, tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
        """Returns the sum over all workers, on the CPU; tensors are exchanged on ``device``."""
        tensor = tensor.to(device)
        self.all_reduce(tensor)
        return tensor.cpu()

    def of_first(self, tensor: torch.Tensor) -> torch.Tensor:
        """Returns the first worker's tensor, on every worker; ``tensor`` is on the device of exchanges.

        Machines of different kinds differ in the last bits, and with them in the signs of singular vectors: what all
        workers compute from the same numbers need not be the same.
        """
        if self.world_size > 1:
            tensor = tensor.clone() if self.rank == 0 else torch.zeros_like(tensor)
            self.all_reduce(tensor)
        return tensor
