"""Cross-validation of Data-Genie: every dataset is evaluated with a Data-Genie that was not trained on it.

Whole families of datasets (all subsets of one log) are held out, one part of the families at a time. The kind of model
and the widths of the intervals are selected by inner folds of the other families; the held-out families are used once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from pydantic import BaseModel

from distill_at_scale.genie.conformal import widths
from distill_at_scale.genie.regressors import folds, make_regressor, regrets, select_regressor
from distill_at_scale.genie.table import Table

_TIE = 1e-9
PARTS = 6
"""Number of parts in which the families are held out."""


class CrossValidation(BaseModel):
    """How well one target was predicted on held-out datasets. A task is the choice of a method for a dataset and
    budget."""

    target: str
    families: int
    tasks: int
    cells: int
    precision: float
    """P@1: share of the tasks in which the recommended method is the best one, or tied with it."""
    precision_error: float
    """Standard error over families."""
    regret: float
    """Mean of the best method's target minus the recommended method's target."""
    mse: float
    """Mean squared error of the predictions."""
    coverage: float
    """Share of the cells whose target lies in the predicted 90 % interval."""
    random_precision: float
    random_regret: float
    """Regret of choosing a method at random."""
    single_precision: float
    single_regret: float
    """Regret of the method that is best on average over the training datasets, for any budget."""
    by_budget_precision: float
    by_budget_regret: float
    """Regret of the method that is best on average at the task's budget."""
    means_mse: float
    """Error of predicting every method by its mean over the training datasets at that budget."""
    kinds: dict[str, int]
    """Kind of model -> number of parts in which it was selected."""


def cross_validate(
    target: str,
    table: Table,
    y: np.ndarray,
    families: np.ndarray,
    names: Sequence[str] | None = None,
    parts: int = PARTS,
    on_progress: Callable[[int], None] | None = None,
    fit_y: np.ndarray | None = None,
) -> CrossValidation:
    """Holds out every family once.

    Args:
        target: Name of the target.
        table, y: Cells and their targets, float64 [n].
        families: Family of each cell, [n].
        names: Kinds of models to select from; default: all.
        parts: Number of parts in which families are held out; one family at a time if there are fewer families.
        on_progress: Called with the number of parts that are done.
        fit_y: Targets for training in place of ``y``, float64 [n]; default: ``y``.
    """
    fit_y = y if fit_y is None else fit_y
    n, task = len(y), table.tasks()
    predicted, means, half = np.empty(n), np.empty(n), np.empty(n)
    single = np.empty(n)
    kinds: dict[str, int] = {}
    part = folds(families, min(parts, len(np.unique(families))))
    for done, number in enumerate(np.unique(part)):
        out = part == number
        train, train_y, test = table.take(np.flatnonzero(~out)), y[~out], table.take(np.flatnonzero(out))
        chosen = select_regressor(train, train_y, families[~out], names, fit_y[~out])
        kinds[chosen.name] = kinds.get(chosen.name, 0) + 1
        model, mean = make_regressor(chosen.name), make_regressor("means")
        model.fit(train, fit_y[~out])
        mean.fit(train, train_y)
        predicted[out], means[out] = model.predict(test), mean.predict(test)
        found = widths(train_y - chosen.out_of_fold, train.log_budget, families[~out])
        half[out] = found.at(test.log_budget)
        single[out] = method_scores(train, train_y)[test.method]
        if on_progress:
            on_progress(done + 1)
    own, of_single, of_means = (regrets(task, y, p) for p in (predicted, single, means))
    by_chance = _by_chance(task, y)
    of_family = np.array([families[np.flatnonzero(task == number)[0]] for number in np.unique(task)])
    hits = own <= _TIE
    by_family = np.array([hits[of_family == family].mean() for family in np.unique(of_family)])
    return CrossValidation(
        target=target,
        families=len(by_family),
        tasks=len(hits),
        cells=n,
        precision=float(hits.mean()),
        precision_error=float(by_family.std(ddof=1) / len(by_family) ** 0.5) if len(by_family) > 1 else 0.0,
        regret=float(own.mean()),
        mse=float(((y - predicted) ** 2).mean()),
        coverage=float((np.abs(y - predicted) <= half).mean()),
        random_precision=float(by_chance[0].mean()),
        random_regret=float(by_chance[1].mean()),
        single_precision=float((of_single <= _TIE).mean()),
        single_regret=float(of_single.mean()),
        by_budget_precision=float((of_means <= _TIE).mean()),
        by_budget_regret=float(of_means.mean()),
        means_mse=float(((y - means) ** 2).mean()),
        kinds=kinds,
    )


def method_scores(table: Table, y: np.ndarray) -> np.ndarray:
    """Returns float64 [n_methods]: each method's mean distance above the mean of its tasks; −∞ if it was never
    tried."""
    task = table.tasks()
    above = y - (np.bincount(task, y) / np.bincount(task))[task]
    counts = np.bincount(table.method, minlength=table.n_methods)
    sums = np.bincount(table.method, above, table.n_methods)
    return np.where(counts > 0, sums / np.maximum(counts, 1), -np.inf)


def _by_chance(task: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns float64 [tasks] twice, for a method drawn at random: probability that it is the best; expected regret."""
    hit, short = [], []
    for number in np.unique(task):
        values = y[task == number]
        hit.append((values >= values.max() - _TIE).mean())
        short.append(values.max() - values.mean())
    return np.array(hit), np.array(short)
