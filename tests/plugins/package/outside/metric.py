"""A metric of one's own: half of the hits count."""

from __future__ import annotations

from distill_at_scale.evaluation.metrics import RankingMetric

HALF = RankingMetric(lambda ranked: 0.5 * ranked.n_hits / ranked.reachable)
