"""Advice from what small datasets keep: the smallest that keeps enough with a probability of 0.9.

One home for the rule, which `das recommend` and the page of a sweep share.
"""

from __future__ import annotations

import json

import polars as pl

from distill_at_scale.genie.model import MOST_KEPT, bounded
from distill_at_scale.genie.probability import NEW_SAMPLE, Candidate, Z, advise, probability
from distill_at_scale.genie.trials import FULL, SweepDescription
from distill_at_scale.pipelines.sweeps.small_datasets import unit

RANDOM_USERS = "random_users"


def measured(described: SweepDescription, trials: pl.DataFrame, table: pl.DataFrame) -> pl.DataFrame:
    """Returns what a sweep measured of each method at each budget, with models done on it and on all data.

    Columns: those of :func:`~distill_at_scale.genie.cells.cells`, with ``kept`` and its interval for a new sample
    after clipping each model's share; ``deviation``, the standard deviation of what a new small dataset keeps; and
    ``seeds``, ``fit_share``, ``bytes_share``, ``trained``, ``unit``, ``why``.

    Args:
        described, trials: The sweep.
        table: Cells of its trials.
    """
    whole = trials.filter(pl.col("method") == FULL, pl.col("bytes") > 0)
    # Clipping the models' shares shifts the mean, and the interval is shifted with it.
    found = bounded(table).with_columns(moved=table["kept"])
    why = [
        f"measured with {row['n_seeds']} seed{'s' * (row['n_seeds'] != 1)}: "
        + ", ".join(f"{model} keeps {100 * kept:.0f} %" for model, kept in json.loads(row["kept_by_model"]).items())
        for row in found.iter_rows(named=True)
    ]
    by = pl.col("kept") - pl.col("moved")
    low, high = pl.coalesce("new_low", "kept_low"), pl.coalesce("new_high", "kept_high")
    return found.with_columns(
        # Of the upper half as it was measured: the lower end is cut at 0, and the upper one is cut below.
        deviation=_deviation(high - pl.col("moved")),
        kept_low=(low + by).clip(0.0),
        kept_high=(high + by).clip(upper_bound=MOST_KEPT),
        seeds=pl.col("n_seeds"),
        fit_share=pl.col("fit_cpu_s") / pl.col("fit_full_cpu_s"),
        bytes_share=pl.col("bytes") / whole["bytes"].mean() if whole.height else pl.lit(None, dtype=pl.Float64),
        trained=pl.col("kept_by_model"),
        unit=pl.Series([unit(method, described.units) for method in found["method"]], dtype=pl.String),
        why=pl.Series(why, dtype=pl.String),
    )


def advised(found: pl.DataFrame, keep: float) -> list[Candidate]:
    """Returns the best budget of each method and all data (:data:`~distill_at_scale.genie.trials.FULL`), the
    recommendation first.

    Args:
        found: Table with the columns method, budget, kept, deviation, make_cpu_s and common.
        keep: Requested share of the quality.
    """
    known = found.filter(pl.col("kept").is_finite())
    candidates = [
        Candidate(
            row["method"],
            row["budget"],
            probability(row["kept"], row["deviation"], keep),
            row["kept"],
            row["make_cpu_s"],
            row["common"],
        )
        for row in known.iter_rows(named=True)
    ]
    return advise([*candidates, Candidate(FULL, 1.0, 1.0, 1.0)], RANDOM_USERS)


def _deviation(half: pl.Expr) -> pl.Expr:
    """Standard deviation of what a new small dataset keeps, from half the width of an interval for it."""
    known = half / Z
    one_seed = (known**2 + NEW_SAMPLE**2).sqrt()
    return pl.when(pl.col("n_seeds") == 1).then(one_seed).otherwise(known).fill_null(NEW_SAMPLE)
