"""Contenders: simpler rows of the same number, which distilled rows must beat on validation to be the result."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np

from distill_at_scale.distillation.distill_cf_config import DistillCFConfig
from distill_at_scale.distillation.factored_start import initial_factors
from distill_at_scale.distillation.select_lambda import Tuned, select_lambdas
from distill_at_scale.distillation.sketch import initial_rows
from distill_at_scale.distillation.users import RealUsers
from distill_at_scale.evaluation.groups import difference_error
from distill_at_scale.models.synthetic_rows import RowValues

DISTILLED, SKETCH, MOST_ACTIVE, ALL_USERS = "distilled", "sketch", "most active users", "all users"

# Standard errors by which distilled rows must lead.
_CLEAR = 2.0
# The full model is fitted beside a run if it takes at most this share of the run's arithmetic.
_FULL_SHARE = 0.25
# Fits of ∞-AE and EASE in a search of λ.
_FITS = 12


@dataclass(frozen=True)
class Contender:
    """Rows that can be the result.

    Attributes:
        name: Name, for readers.
        tuned: Rows with λ of each model.
    """

    name: str
    tuned: Tuned

    @property
    def metrics(self) -> dict[str, float]:
        """Validation metric by model."""
        return {model: validated.metric for model, validated in self.tuned.validated.items()}

    @property
    def mean(self) -> float:
        """Mean of the validation metric over the models."""
        return float(np.mean(list(self.metrics.values())))

    def error_of_lead(self, other: Contender) -> float:
        """Standard error of the difference between two means; 0 for metrics that are not averages over users."""
        pairs = [(one, other.tuned.validated[model]) for model, one in self.tuned.validated.items()]
        mine, theirs = np.zeros(len(pairs[0][0].counts)), np.zeros(len(pairs[0][0].counts))
        for one, another in pairs:
            if one.sums is None or another.sums is None:
                return 0.0
            mine += one.sums / len(pairs)
            theirs += another.sums / len(pairs)
        return difference_error(mine, theirs, pairs[0][0].counts)


def simple_contenders(
    config: DistillCFConfig,
    number: int,
    users: RealUsers,
    names: Collection[str] = (SKETCH, MOST_ACTIVE),
    made: RowValues | None = None,
) -> list[Contender]:
    """The sketch and the most active users, as many as are distilled, of the same kind of rows.

    Args:
        config: Settings of Distill-CF.
        number: Number of rows.
        users: The real users; with validation rows.
        names: Those that are asked for.
        made: The sketch, if it is already made.
    """
    if config.rank is not None:
        # The most active users' rows are not of this rank; without it, they are as large as rows of all items.
        factors = initial_factors("sketch", number, config.rank, users, config.seed) if made is None else made
        return [Contender(SKETCH, select_lambdas(factors, None, users, config.metric))]
    makers: dict[str, Callable[[], np.ndarray]] = {}
    if isinstance(made, np.ndarray):
        makers[SKETCH] = lambda: made
    elif config.rows != "binary":
        makers[SKETCH] = lambda: initial_rows("sketch", number, users, config.seed).cpu().numpy()
    makers[MOST_ACTIVE] = lambda: users.most_active(number).cpu().numpy()
    found = []
    for name in [name for name in makers if name in names]:
        values = makers[name]()
        if config.rows != "free":
            values = values.clip(0.0, 1.0)
        if values.any():
            found.append(Contender(name, select_lambdas(values, None, users, config.metric)))
    return found


def best(distilled: Contender, simple: Sequence[Contender]) -> Contender:
    """The best on validation, by the mean of both models' metrics.

    Distilled rows must lead by more than two standard errors. They are the best of many steps, which alone lifts their
    validation metric, and simpler rows cost less. On ml-1m 500 rows lead by five; on amazon-ratings with one to five
    rows a user 100 rows led by less than two, and were worse on test.
    """
    if not simple:
        return distilled
    first = max(simple, key=lambda one: one.mean)
    return distilled if distilled.mean - first.mean > _CLEAR * distilled.error_of_lead(first) else first


def full_is_affordable(config: DistillCFConfig, number: int, steps: int, users: RealUsers) -> bool:
    """Whether models of all users' rows cost little beside the run."""
    n, items = users.n_filled, users.n_items
    full = _FITS * (n**3 / 3 + 4 * n * n * items)
    return full <= _FULL_SHARE * 8 * steps * config.batch_size * number * (config.rank or items)


def all_users(users: RealUsers, metric: str) -> Contender:
    """The full model: ∞-AE and EASE of all users' rows. For comparison only; it is not a small dataset."""
    return Contender(ALL_USERS, select_lambdas(users.drawn(users.n_filled).cpu().numpy(), None, users, metric))
