"""Choosing one hyper-parameter on validation, and the record of how it was chosen."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict

from distill_at_scale.data.interactions import Interactions
from distill_at_scale.errors import DasError
from distill_at_scale.evaluation import evaluate
from distill_at_scale.evaluation.auc import N_NEGATIVES

Progress = Callable[[float, str], None]
"""Called with the share done (0 to 1) and what is being done."""

METRIC_PATTERN = r"^((hr|recall|precision|ndcg|mrr|psp)@[1-9][0-9]*|auc)$"

# A best value at the edge of the grid sends the search on beyond it, this many times at most.
_MAX_EXTENSIONS = 6

Fitted = TypeVar("Fitted")


class GridPoint(BaseModel):
    """One value that was tried."""

    value: float
    metric: float
    seconds: float


class Selection(BaseModel):
    """How a hyper-parameter was chosen."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    parameter: str
    """Name of the hyper-parameter."""
    metric: str
    """Name of the validation metric, averaged over the users with validation rows; larger is better, but for mse."""
    points: list[GridPoint]
    """Everything tried, in ascending order of the value."""
    chosen: float
    """The best value."""
    n_extensions: int
    """How many of the points lie beyond the given grid, because the best value was at its edge."""
    at_edge: bool
    """Whether the best value is the smallest or largest tried and the search was stopped all the same."""
    seconds: float
    """Wall time of the whole search."""


def validation_metric(
    score: Callable[[Interactions], np.ndarray],
    train: Interactions,
    validation: Interactions,
    metric: str,
    name: str,
    batch_users: int | None = None,
) -> float:
    """``metric`` of ``score`` on the validation rows, from the train rows as histories."""
    ks = (int(metric.split("@")[1]),) if "@" in metric else (10,)
    result = evaluate(
        score,
        train,
        validation,
        train.item_counts(),
        train.n_rows,
        ks,
        batch_users=batch_users,
        n_negatives=N_NEGATIVES if metric == "auc" else 0,
        name=name,
    )
    return result.metrics[metric]


def select(
    parameter: str,
    metric: str,
    grid: Sequence[float],
    try_value: Callable[[float], tuple[float, Fitted]],
    *,
    bounds: tuple[float, float] = (0.0, math.inf),
    integer: bool = False,
    progress: Progress | None = None,
) -> tuple[Selection, Fitted]:
    """Tries every value of ``grid`` and, as long as the best lies at an edge, geometrically further ones.

    Args:
        parameter, metric: for the record.
        grid: positive values.
        try_value: from a value to its validation metric and what was fitted; only the best fit is kept alive.
        bounds: open lower and closed upper bound of what may be tried.
        integer: round extensions to whole numbers.
        progress: told about every value.

    Returns:
        the record and the best fit. Equal metrics go to the value tried first.

    Raises:
        DasError: when no value of the grid lies within the bounds, or a metric is NaN.
    """
    started = time.perf_counter()
    low, high = bounds
    queue = sorted({min(value, high) for value in grid if value > low})
    if not queue:
        raise DasError(f"{parameter}: no value of the grid {list(grid)} is larger than {low:g}; give others.")
    n_given = len(queue)
    points: dict[float, GridPoint] = {}
    best: tuple[float, float, Fitted] | None = None
    while queue:
        value = queue.pop(0)
        if progress:
            progress(min(len(points) / max(n_given, len(points) + 1), 0.99), f"{parameter}={value:g}")
        clock = time.perf_counter()
        found, fitted = try_value(value)
        if math.isnan(found):
            raise DasError(f"{parameter}={value:g} gives {metric} NaN; take this value out of the grid.")
        points[value] = GridPoint(value=value, metric=found, seconds=time.perf_counter() - clock)
        if best is None or found > best[1]:
            best = (value, found, fitted)
        del fitted
        if not queue and len(points) - n_given < _MAX_EXTENSIONS:
            beyond = _beyond(sorted(points), best[0], integer)
            if beyond is not None and low < min(beyond, high) and min(beyond, high) not in points:
                queue.append(min(beyond, high))
    assert best is not None
    ascending = sorted(points)
    at_edge = len(points) > 1 and best[0] in (ascending[0], ascending[-1]) and best[0] != high
    record = Selection(
        parameter=parameter,
        metric=metric,
        points=[points[value] for value in ascending],
        chosen=best[0],
        n_extensions=len(points) - n_given,
        at_edge=at_edge,
        seconds=time.perf_counter() - started,
    )
    return record, best[2]


def _beyond(tried: list[float], best: float, integer: bool) -> float | None:
    """The next value outwards when ``best`` is at an edge of ``tried`` (ascending), one more equal step."""
    if len(tried) == 1 or best not in (tried[0], tried[-1]):
        return None
    value = best * best / (tried[1] if best == tried[0] else tried[-2])
    return float(round(value)) if integer else value
