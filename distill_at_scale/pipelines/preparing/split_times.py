"""Where a split by time falls: two exact quantiles of the surviving rows' times, found in passes over the buckets."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from distill_at_scale.data.preparation import kcore, quantiles, shards
from distill_at_scale.pipelines.preparing.job import PrepareJob
from distill_at_scale.pipelines.preparing.survivors import Survivors
from distill_at_scale.pipelines.runtime.tasks import run_stage


def choose_split(job: PrepareJob, n_shards: int, survivors: Survivors) -> shards.SplitChoice:
    """The split rule with its parameters."""
    config = job.config
    if not job.rule.at_times:
        return shards.SplitChoice(config.split, config.seed)
    work = job.work
    ranges = [(0, (1 << 63) - 1)] * 2
    ranks: list[int] | None = None
    while any(low < high for low, high in ranges):
        wanted = ranges

        def count(
            group: list[int], numbering: shards.Numbering, wanted: list[tuple[int, int]] = wanted
        ) -> list[np.ndarray]:
            return shards.times_histogram(work, list(group), numbering, config.min_user, wanted)

        found = run_stage(job.record, "find split times", count, kcore.bucket_groups(n_shards), [survivors.numbering])
        counts = [np.sum(of_groups, axis=0) for of_groups in zip(*found)]
        if ranks is None:
            n = int(counts[0].sum())
            # Fractions of what was written: 1 - .3 - .4 in binary falls short of .3, and so would a row.
            test, validation = Fraction(str(config.test_share)), Fraction(str(config.validation_share))
            ranks = [int(n * (1 - test - validation)), int(n * (1 - test))]
        narrowed = [quantiles.narrow(c, *r, k) for c, r, k in zip(counts, ranges, ranks)]
        ranges, ranks = [(low, high) for low, high, _ in narrowed], [rank for *_, rank in narrowed]
    return shards.SplitChoice(config.split, config.seed, ranges[0][0], ranges[1][0])
