"""What a sampler is; which there are is in `registry`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from distill_at_scale.data import storage
from distill_at_scale.errors import DasError

# A sampler's module imports this one.
if TYPE_CHECKING:
    from distill_at_scale.data.dataset import Dataset
    from distill_at_scale.samplers.map_reduce import MakeMapReduce
    from distill_at_scale.samplers.scores import Scores
    from distill_at_scale.samplers.svp import Proxy


@dataclass(frozen=True)
class Sampler:
    """How train rows are chosen.

    Attributes:
        name: on the command line.
        score: gives the units of a shard their numbers: ``score(rows, seed)``, or
            ``score(rows, seed, own, shared)`` with what was learned, or ``score(rows, seed, hard, weights)`` with a
            proxy's row scores.
        rounds: what must be learned of all shards before; None for most.
        proxy: the model that must be trained before to say how hard each row is; None for most.
        prop: whether the proxy's scores are weighted by inverse propensities.
        timestamps: whether it goes by time.
        one_a_user: whether every user keeps a row, even beyond the budget.
    """

    name: str
    score: Callable[..., Scores]
    timestamps: bool = False
    one_a_user: bool = False
    rounds: MakeMapReduce | None = None
    proxy: Proxy | None = None
    prop: bool = False

    def check(self, dataset: Dataset) -> None:
        """Refuses a dataset that lacks what this sampler goes by.

        Raises:
            DasError: no times.
        """
        if self.timestamps and not dataset.manifest.has_timestamps:
            place = storage.redact(dataset.uri)
            raise DasError(
                f"sampler {self.name} goes by time, but {place} has no timestamps; choose another --sampler."
            )
