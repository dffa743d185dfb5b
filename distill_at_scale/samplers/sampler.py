"""Definition of a sampler; `registry` lists them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from distill_at_scale.data import storage
from distill_at_scale.errors import DasError

# The modules of samplers import this one.
if TYPE_CHECKING:
    from distill_at_scale.data.dataset import Dataset
    from distill_at_scale.samplers.inclusion import Inclusion
    from distill_at_scale.samplers.map_reduce import MakeMapReduce
    from distill_at_scale.samplers.scores import Scores
    from distill_at_scale.samplers.svp import Proxy


@dataclass(frozen=True)
class Sampler:
    """A method that selects train rows.

    Attributes:
        name: Name on the command line.
        score: Function that scores the units of a shard: ``score(rows, seed)``, ``score(rows, seed, own, shared)``
            with the result of map-reduce passes, or ``score(rows, seed, hard, weights)`` with a proxy's row scores.
        map_reduce: Map-reduce algorithm to run over all shards before scoring; None for most samplers.
        proxy: Model to train before scoring, which determines how hard each row is; None for most samplers.
        prop: Whether inverse propensities weight the proxy's scores.
        timestamps: Whether the sampler needs timestamps.
        column: Column of scores that the sampler goes by, which become the third argument of ``score``; None for all
            samplers but ``column=NAME``.
        inclusion: The probabilities with which units are kept, if they are known and differ: the sample's train rows
            then have their inverses as weights. None if all units are as likely (random, random_users) or none are
            drawn by known probabilities.
        one_a_user: Whether every user keeps a row, even beyond the budget.
    """

    name: str
    score: Callable[..., Scores]
    timestamps: bool = False
    one_a_user: bool = False
    map_reduce: MakeMapReduce | None = None
    proxy: Proxy | None = None
    prop: bool = False
    column: str | None = None
    inclusion: Inclusion | None = None

    def check(self, dataset: Dataset) -> None:
        """Rejects a dataset that lacks what this sampler needs.

        Raises:
            DasError: The dataset has no timestamps.
        """
        if self.timestamps and not dataset.manifest.has_timestamps:
            raise DasError(
                f"sampler {self.name} needs timestamps, but {storage.redact(dataset.uri)} has none; "
                "choose another --sampler."
            )
