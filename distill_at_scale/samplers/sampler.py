"""What a sampler is, and which there are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from distill_at_scale.data import storage
from distill_at_scale.data.dataset import Dataset
from distill_at_scale.errors import DasError
from distill_at_scale.samplers import row_wise, user_wise
from distill_at_scale.samplers.embedding.density import DensitySketch, density
from distill_at_scale.samplers.embedding.sensitivity import (
    RowClusters,
    UserClusters,
    sensitivity_rows,
    sensitivity_users,
)
from distill_at_scale.samplers.graph.centrality import PageRank, centrality
from distill_at_scale.samplers.graph.forest_fire import ForestFire
from distill_at_scale.samplers.graph.random_walk import RandomWalk
from distill_at_scale.samplers.graph.spreading import by_time
from distill_at_scale.samplers.rounds import MakeRounds
from distill_at_scale.samplers.scores import Scores
from distill_at_scale.samplers.svp import variants as svp
from distill_at_scale.samplers.svp.row_scores import Proxy


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
    rounds: MakeRounds | None = None
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


def _svp(proxy: Proxy) -> tuple[Sampler, ...]:
    """The four variants of SVP-CF with one proxy: they read the same row scores."""
    return (
        Sampler(f"svp_{proxy}", svp.interactions, proxy=proxy),
        Sampler(f"svp_{proxy}_prop", svp.interactions, proxy=proxy, prop=True),
        Sampler(f"svp_{proxy}_users", svp.users, proxy=proxy),
        Sampler(f"svp_{proxy}_users_prop", svp.users, proxy=proxy, prop=True),
    )


SAMPLERS = {
    sampler.name: sampler
    for sampler in (
        Sampler("random", row_wise.random),
        Sampler("stratified", row_wise.stratified, one_a_user=True),
        Sampler("temporal", row_wise.temporal, timestamps=True, one_a_user=True),
        Sampler("random_users", user_wise.random_users),
        Sampler("head_users", user_wise.head_users),
        Sampler("centrality", centrality, rounds=PageRank),
        Sampler("random_walk", by_time, rounds=RandomWalk),
        Sampler("forest_fire", by_time, rounds=ForestFire),
        *_svp("bias"),
        *_svp("mf"),
        Sampler("density", density, rounds=DensitySketch),
        Sampler("sensitivity", sensitivity_rows, rounds=RowClusters),
        Sampler("sensitivity_users", sensitivity_users, rounds=UserClusters),
    )
}


def find_sampler(name: str) -> Sampler:
    """The sampler of that name.

    Raises:
        DasError: listing the known ones.
    """
    if name not in SAMPLERS:
        raise DasError(f"unknown sampler '{name}'; the samplers are {', '.join(SAMPLERS)}.")
    return SAMPLERS[name]
