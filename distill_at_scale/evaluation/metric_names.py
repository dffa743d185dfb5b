"""Names of metrics as settings take them, checked against the table of metrics: ``ndcg@10``, ``auc``, ``mse``.

Help texts and completion read this, without numpy; what a metric is, is in `metrics`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from typing import Annotated

from pydantic import AfterValidator

from distill_at_scale.errors import SettingError
from distill_at_scale.registry import METRICS, is_spec
from distill_at_scale.validation import did_you_mean

AUC, MSE = "auc", "mse"
"""Metrics over rows, which have no cut-off."""


def at_cutoffs(ks: Sequence[int]) -> list[str]:
    """All ranking metrics at some cut-offs, and auc."""
    return [*(f"{name}@{k}" for k in ks for name in METRICS), AUC]


def needed(metric: str) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """What an evaluator measures for the sake of one metric: its cut-off, and its name where no table has it."""
    name, at, cutoff = metric.rpartition("@")
    return (int(cutoff),) if at else (10,), (name,) if is_spec(name) else ()


def check(given: str, weighted: bool, beside: tuple[str, ...]) -> str:
    """Validates a metric's name and returns it.

    Args:
        weighted: whether metrics that weigh items are allowed.
        beside: metrics without a cut-off that are allowed.

    Raises:
        ValueError: The metric is unknown, or not allowed here.
    """
    if given in beside:
        return given
    name, at, cutoff = given.rpartition("@")
    if at and re.fullmatch("[1-9][0-9]*", cutoff) and (name in METRICS or is_spec(name)):
        try:
            metric = METRICS.find(name)
        except SettingError as error:
            raise ValueError(str(error)) from error
        if weighted or not metric.weighted:
            return given
        raise ValueError(f"'{given}' weighs items, and cannot be chosen by here")
    known = [*(f"{one}@K" for one in METRICS), *beside]
    near = did_you_mean(name or given, [*METRICS, *beside]) if name not in METRICS else ""
    raise ValueError(f"'{given}' is not a metric to choose by; take one of {', '.join(known)}.{near}")


RankingMetric = Annotated[str, AfterValidator(partial(check, weighted=False, beside=()))]
"""Metrics of rankings without weights of items."""
TrainingMetric = Annotated[str, AfterValidator(partial(check, weighted=False, beside=(MSE,)))]
"""Metrics for models trained by gradients, some of which predict ratings."""
SelectionMetric = Annotated[str, AfterValidator(partial(check, weighted=True, beside=(AUC,)))]
"""Metrics for models in closed form."""
