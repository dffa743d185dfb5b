"""Base class of models that are fitted in closed form by passes over the rows: one piece in memory at a time."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar, Protocol

import torch

from distill_at_scale.data.dataset import Dataset
from distill_at_scale.data.interactions import Interactions
from distill_at_scale.models.base import Recommender
from distill_at_scale.models.device import resolve_device
from distill_at_scale.models.selection import Progress
from distill_at_scale.models.training.communicator import Communicator
from distill_at_scale.models.training.sources import MemorySource, Source, model_source, most_rows


class Resumable(Protocol):
    """Storage of what a fit has reached, by name; see :class:`NotResumable`."""

    def read(self, name: str) -> tuple[int, torch.Tensor] | None:
        """Returns the number of passes and the state after them; None: nothing is stored."""

    def write(self, name: str, passes: int, state: torch.Tensor) -> None:
        """Stores the state after some passes, replacing an earlier one."""


class NotResumable:
    """Stores nothing, for fits in one process."""

    def read(self, name: str) -> tuple[int, torch.Tensor] | None:
        return None

    def write(self, name: str, passes: int, state: torch.Tensor) -> None:
        pass


class StreamedRecommender(Recommender):
    """A recommender that is fitted by passes over the rows, on one worker or several, each with its own shards.

    Subclasses define ``fit_source``; here it runs on one process, in `pipelines` on many.
    """

    by_passes: ClassVar[bool] = True
    config: Any

    @abstractmethod
    def fit_source(
        self,
        source: Source,
        communicator: Communicator,
        device: torch.device,
        progress: Progress | None = None,
        resumable: Resumable | None = None,
    ) -> None:
        """Fits this worker's share of the rows together with the other workers, the same model on each.

        Raises:
            DasError: There are no validation rows for a setting that is to be selected.
        """

    @classmethod
    def rows_held(cls, dataset: Dataset, workers: int = 1, config: Any = None) -> int:
        return most_rows(dataset, workers)

    def adopt(self, source: Source, item_space: str | None) -> None:
        """Records what the model was fitted on, as :meth:`fit` would."""
        self.n_items, self.item_space = source.n_items, item_space

    def _fit(self, train: Interactions, validation: Interactions | None, progress: Progress | None) -> None:
        device = resolve_device(self.config.device)
        self.fit_source(MemorySource(train, validation), Communicator(), device, progress)

    def _fit_dataset(self, dataset: Dataset, progress: Progress | None) -> None:
        # Shard by shard, as a worker of `fit` reads it.
        source = model_source(self, dataset)
        self.selection = None
        self.fit_source(source, Communicator(), resolve_device(self.config.device), progress)
        self.adopt(source, dataset.manifest.item_space)
        self.item_ids = dataset.item_ids()
        if progress:
            progress(1.0, "fitted")
