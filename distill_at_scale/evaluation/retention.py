"""Retention: how well a small dataset preserves the models' ranking and their quality."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from pydantic import BaseModel

Scores = Mapping[str, Mapping[str, float]]
"""model -> metric -> value."""

PRIMARY = "ndcg@10"
"""Metric whose kept share is reported, and by which every model and distiller selects its settings on validation rows.
With one metric for both, "kept" compares models at their best."""

DEFAULT_METRICS = (PRIMARY, "hr@10", "psp@10", "ndcg@100", "hr@100", "psp@100", "auc")


class Retention(BaseModel):
    """Comparison of a small dataset with the full one.

    Source: Ψ of Sachdeva, Wu, McAuley, "On Sampling Collaborative Filtering Datasets" (WSDM 2022), section 3.3:
    Kendall's τ between the models' scores, averaged over the metrics.
    """

    tau: float | None
    """Kendall's τ-b between the two rankings of the models, averaged over the metrics; 1: the same ranking, -1: the
    reverse; None if every metric is equal for all models."""
    tau_by_metric: dict[str, float | None]
    kept: dict[str, dict[str, float]]
    """model -> metric -> value on the small dataset as a share of that on the full one."""

    def mean_kept(self, metric: str) -> float:
        """Share of a metric that is kept, averaged over the models."""
        shares = [metrics[metric] for metrics in self.kept.values()]
        return sum(shares) / len(shares)


def retention(full: Scores, small: Scores, metrics: Sequence[str] = DEFAULT_METRICS) -> Retention:
    """Compares models fitted on a small dataset with the same models fitted on the full one.

    Args:
        full, small: Test metrics of the same models.
        metrics: Metrics to compare; larger must be better.
    """
    models = list(full)
    taus: dict[str, float | None] = {}
    for metric in metrics:
        tau = kendall_tau([full[m][metric] for m in models], [small[m][metric] for m in models])
        taus[metric] = tau
    known = [tau for tau in taus.values() if tau is not None]
    kept = {m: {k: small[m][k] / full[m][k] if full[m][k] else math.nan for k in metrics} for m in models}
    return Retention(tau=sum(known) / len(known) if known else None, tau_by_metric=taus, kept=kept)


def kendall_tau(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Kendall's τ-b of two lists of scores (ties count as neither agreement nor disagreement); None if one of them is
    constant."""
    if len(first) < 2:
        return None
    import scipy.stats  # slow to import, and the command line's help imports this module

    tau = float(scipy.stats.kendalltau(first, second, variant="b").statistic)
    return None if math.isnan(tau) else tau
