"""Selection of one hyper-parameter on validation rows, and the record of it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict

from distill_at_scale.data import hashing
from distill_at_scale.data.interactions import Interactions
from distill_at_scale.errors import DasError
from distill_at_scale.evaluation import RankingEvaluator
from distill_at_scale.evaluation.auc import N_NEGATIVES
from distill_at_scale.evaluation.groups import UserGroups, difference_error
from distill_at_scale.evaluation.item_blocks import BlockScorer
from distill_at_scale.evaluation.metric_names import needed
from distill_at_scale.evaluation.metrics import inverse_propensities

Progress = Callable[[float, str], None]
"""Function called with the share done (0 to 1) and a description of the step."""

# Maximum number of values tried beyond the grid while the best value is at an edge.
_MAX_EXTENSIONS = 6

Fitted = TypeVar("Fitted")


class GridPoint(BaseModel):
    """One value that was tried."""

    value: float
    metric: float
    seconds: float


class Selection(BaseModel):
    """Record of the selection of a hyper-parameter."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    parameter: str
    """Name of the hyper-parameter."""
    metric: str
    """Name of the validation metric, averaged over the users with validation rows; larger is better, except for mse."""
    points: list[GridPoint]
    """All points tried, in ascending order of the value."""
    chosen: float
    """Best value."""
    n_extensions: int
    """Number of points beyond the given grid, tried because the best value was at its edge."""
    at_edge: bool
    """Whether the best value is the smallest or largest tried, and the search stopped nevertheless."""
    seconds: float
    """Wall time of the whole search in seconds."""
    n_users: int | None = None
    """Number of users with validation rows, on whom the value was selected; None if not counted."""
    doubt: float | None = None
    """Possible advantage of another value, as a share of the best metric; see :func:`doubt`."""
    lottery: bool = False
    """Whether the doubt is larger than :data:`LOTTERY`, so that chance decided as much as the data."""

    def around(self) -> list[float]:
        """Returns the chosen value and the values tried next to it, ascending: a grid for more rows of the same log."""
        values = [point.value for point in self.points]
        at = values.index(self.chosen)
        return values[max(at - 1, 0) : at + 2]

    def warning(self) -> str | None:
        """Returns a warning, as a sentence, if too few users made the selection reliable; else None."""
        if not self.lottery:
            return None
        users = f"{self.n_users:,} user{'s' * (self.n_users != 1)} with validation rows"
        said = f"{self.parameter} = {self.chosen:g} was chosen by {users}, which is a lottery: "
        if not any(point.metric for point in self.points):
            return f"{said}{self.metric} is 0 for every value. Set {self.parameter}, or validate on more users."
        return f"{said}another value may be {self._better()}. Set {self.parameter}, or validate on more users."

    def _better(self) -> str:
        """How much better another value may be, as the end of a clause; no more than leads to the metric's maximum."""
        best = max(point.metric for point in self.points)
        gain = math.inf if self.doubt is None else self.doubt
        if self.metric.partition("@")[0] in _UP_TO_ONE:
            gain = min(gain, max(1.0 - best, 0.0) / best)
        if gain < 0.005:
            return f"as good, since {self.metric} is {best:.2f} already"
        return f"better by {'more than 100' if gain > 1 else f'up to {100 * gain:.0f}'} % of {self.metric}"


_UP_TO_ONE = ("hr", "recall", "precision", "ndcg", "mrr", "psp", "auc")
"""Metrics that are at most 1."""
MOST_USERS = 10_000
"""Users on whom values are compared at most."""
_STREAM = hashing.stream("selection/validation users")
LOTTERY = 0.05
"""Doubt above which a selection is called a lottery. `das recommend` allows a small dataset to lose this share, so a
selection that may lose as much would itself decide whether a dataset keeps enough."""
_Z = 1.645  # one-sided 95 %
_MOST_DOUBT = 99.0


@dataclass(frozen=True)
class Validated:
    """A validation metric, with what is needed to compare it with that of another value.

    Attributes:
        metric: Average over users.
        counts: float64 [groups], number of users in each group of users.
        sums: float64 [groups], sums of the metric over them; None for auc, which is not an average over users.
    """

    metric: float
    counts: np.ndarray
    sums: np.ndarray | None = None

    @staticmethod
    def of(evaluator: RankingEvaluator, metric: str, value: float) -> Validated:
        """Collects the groups of an evaluator; ``value`` is its metric."""
        groups = evaluator.groups or UserGroups()
        return Validated(value, groups.counts, groups.sums.get(metric))

    @property
    def n_users(self) -> int:
        return round(float(self.counts.sum()))


def doubt(tried: Sequence[Validated]) -> float:
    """Returns the possible advantage of another value over the best one, as a share of the best metric.

    For a value whose metric is smaller by d, the upper end of a one-sided 95 % interval of its advantage is
    1.645 s − d, where s² = e² + 1/n². e is the standard error of d over the n users, who are the same for both values
    (:func:`~distill_at_scale.evaluation.groups.difference_error`). 1/n is the possible effect of one more user, so
    that a few users with equal metrics for all values do not look like certainty. The doubt is the largest such
    advantage. It falls with the number of users, and if the metric has a clear peak.

    Args:
        tried: Results of all values that were tried.
    """
    best = max(tried, key=lambda one: one.metric)
    if len(tried) < 2:
        return 0.0
    n = max(best.n_users, 1)
    if best.metric <= 0:
        return _MOST_DOUBT

    def advantage(other: Validated) -> float:
        error = 0.0
        if best.sums is not None and other.sums is not None:
            error = difference_error(best.sums, other.sums, best.counts)
        return _Z * math.hypot(error, 1.0 / n) - (best.metric - other.metric)

    most = max(advantage(other) for other in tried if other is not best)
    return min(max(most, 0.0) / best.metric, _MOST_DOUBT)


def evaluator_of(metric: str, item_weights: np.ndarray, name: str) -> RankingEvaluator:
    """Returns an evaluator of one validation metric, with its sums over groups of users.

    Args:
        metric: Name of the metric.
        item_weights: float64 [n_items], inverse propensities, used only by psp.
        name: Name of the model, for messages.
    """
    ks, more = needed(metric)
    negatives = N_NEGATIVES if metric == "auc" else 0
    return RankingEvaluator(item_weights, ks, n_negatives=negatives, name=name, groups=UserGroups(), more=more)


def validation_users(train: Interactions, validation: Interactions, most: int = MOST_USERS) -> np.ndarray:
    """Returns the positions of the users on whom values are compared, int64, ascending.

    These have validation rows and train rows: to a user without a history, as a sample of the log has many, a linear
    model gives the same scores for every value. Of more than ``most`` a hash draws about ``most``. If no user has both,
    all are returned.
    """
    both = int(with_both(train, validation).sum())
    return drawn_users(train, validation, most / both) if both else np.arange(len(train))


def with_both(train: Interactions, validation: Interactions) -> np.ndarray:
    """bool [n]: which users have train rows and validation rows."""
    both: np.ndarray = (train.counts > 0) & (validation.counts > 0)
    return both


def drawn_users(train: Interactions, validation: Interactions, share: float) -> np.ndarray:
    """Returns the positions of a share of the users with train and validation rows, drawn by a hash, ascending."""
    positions = np.flatnonzero(with_both(train, validation))
    return positions[hashing.drawn(_STREAM, train.users[positions], share)]


def validation_metric(
    score: BlockScorer | Callable[[Interactions], np.ndarray],
    train: Interactions,
    validation: Interactions,
    metric: str,
    name: str,
    batch_users: int | None = None,
) -> Validated:
    """Computes ``metric`` of ``score`` on the validation rows of :func:`validation_users`, with their train rows as
    histories.

    Args:
        score: Function from histories to scores, float32 [users, n_items], or by blocks of items.
        train, validation: Rows of the same users in the same order.
        metric: Name of the metric.
        name: Name of the model, for messages.
        batch_users: Number of users scored at once.
    """
    evaluator = evaluator_of(metric, inverse_propensities(train.item_counts(), train.n_rows), name)
    asked = validation_users(train, validation)
    if len(asked) < len(train):
        train, validation = train.take(asked, timestamps=False), validation.take(asked, timestamps=False)
    evaluator.add_all(score, train, validation, batch_users=batch_users)
    return Validated.of(evaluator, metric, evaluator.result().metrics[metric])


def select(
    parameter: str,
    metric: str,
    grid: Sequence[float],
    try_value: Callable[[float], tuple[Validated, Fitted]],
    *,
    bounds: tuple[float, float] = (0.0, math.inf),
    integer: bool = False,
    progress: Progress | None = None,
) -> tuple[Selection, Fitted]:
    """Tries every value of ``grid`` and, while the best is at an edge, geometrically further values.

    Args:
        parameter, metric: Names for the record.
        grid: Positive values.
        try_value: Function from a value to the validation result and the fit; only the best fit is kept.
        bounds: Open lower and closed upper bound of the values tried.
        integer: Whether to round further values to integers.
        progress: Function called for every value.

    Returns:
        The record and the best fit; of equal metrics, the value tried first.

    Raises:
        DasError: No value of the grid is within the bounds, or a metric is NaN.
    """
    started = time.perf_counter()
    low, high = bounds
    queue = sorted({min(value, high) for value in grid if value > low})
    if not queue:
        raise DasError(f"{parameter}: no value of the grid {list(grid)} is larger than {low:g}; give others.")
    n_given = len(queue)
    points: dict[float, GridPoint] = {}
    validated: list[Validated] = []
    best: tuple[float, float, Fitted] | None = None
    while queue:
        value = queue.pop(0)
        if progress:
            progress(min(len(points) / max(n_given, len(points) + 1), 0.99), f"{parameter}={value:g}")
        clock = time.perf_counter()
        one, fitted = try_value(value)
        score = one.metric
        if math.isnan(score):
            raise DasError(f"{parameter}={value:g} gives {metric} NaN; remove this value from the grid.")
        validated.append(one)
        points[value] = GridPoint(value=value, metric=score, seconds=time.perf_counter() - clock)
        if best is None or score > best[1]:
            best = (value, score, fitted)
        del fitted
        if not queue and len(points) - n_given < _MAX_EXTENSIONS:
            beyond = _beyond(sorted(points), best[0], integer)
            if beyond is not None and low < min(beyond, high) and min(beyond, high) not in points:
                queue.append(min(beyond, high))
    assert best is not None
    ascending = sorted(points)
    at_edge = len(points) > 1 and best[0] in (ascending[0], ascending[-1]) and best[0] != high
    doubted = doubt(validated)
    record = Selection(
        parameter=parameter,
        metric=metric,
        points=[points[value] for value in ascending],
        chosen=best[0],
        n_extensions=len(points) - n_given,
        at_edge=at_edge,
        seconds=time.perf_counter() - started,
        n_users=validated[0].n_users,
        doubt=doubted,
        lottery=doubted > LOTTERY,
    )
    return record, best[2]


def _beyond(tried: list[float], best: float, integer: bool) -> float | None:
    """Returns the next value outwards if ``best`` is at an edge of ``tried`` (ascending), by one more equal ratio."""
    if len(tried) == 1 or best not in (tried[0], tried[-1]):
        return None
    value = best * best / (tried[1] if best == tried[0] else tried[-2])
    return float(round(value)) if integer else value
