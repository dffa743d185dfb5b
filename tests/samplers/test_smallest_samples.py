"""The smallest data there are, one item, one user, one row: every sampler has a finite number for each unit."""

from __future__ import annotations

import numpy as np
import pytest
from samplers_kit import Log, cut, run_map_reduce

from distill_at_scale.samplers import SAMPLERS
from distill_at_scale.samplers.map_reduce import Task

SMALLEST = {
    "one item": Log({10 + u: [(0, u)] for u in range(6)}, 1),
    "one user": Log({10: [(i, i) for i in range(5)]}, 5),
    "one row": Log({10: [(0, 1)]}, 1),
    "one user without rows": Log({10: [(0, 1)], 11: []}, 2),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", [name for name in SAMPLERS if not SAMPLERS[name].proxy])
@pytest.mark.parametrize("case", list(SMALLEST))
def test_every_sampler_scores_the_smallest_data(name: str, case: str) -> None:
    log, sampler = SMALLEST[case], SAMPLERS[name]
    shards, _ = cut(log, 1)
    if sampler.map_reduce is None:
        scores = [sampler.score(rows, 1) for rows in shards]
    else:
        owns, shared = run_map_reduce(sampler.map_reduce(Task(log.n_items, log.n_rows, log.n_rows, 1)), shards)
        scores = [sampler.score(rows, 1, own, shared) for rows, own in zip(shards, owns)]
    assert all(np.isfinite(one.keys.astype(np.float64)).all() for one in scores)
    assert sum(len(one.keys) for one in scores) > 0


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", [name for name in SAMPLERS if SAMPLERS[name].proxy])
@pytest.mark.parametrize("case", list(SMALLEST))
def test_every_proxy_sampler_scores_the_smallest_data(name: str, case: str) -> None:
    shards, _ = cut(SMALLEST[case], 1)
    for rows in shards:
        found = SAMPLERS[name].score(rows, 1, np.full(len(rows), 0.5), None)
        assert np.isfinite(found.keys.astype(np.float64)).all()
