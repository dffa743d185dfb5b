"""Is Data-Genie's advice any good? Every dataset is judged when Data-Genie has never seen it.

Left out are whole families of datasets (all cuts of one log), a part of them at a time. What kind of model to use, and
how wide the intervals are, is settled on the others alone, by folds of them; then those left out are judged once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from pydantic import BaseModel

from distill_at_scale.genie.conformal import widths
from distill_at_scale.genie.regressors import choose, folds, make, regrets
from distill_at_scale.genie.table import Table

_TIE = 1e-9
PARTS = 6
"""How many times some families are left out."""


class CrossValidation(BaseModel):
    """How one target was predicted on datasets left out. A task is the choice of a method for a dataset and budget."""

    target: str
    families: int
    tasks: int
    cells: int
    precision: float
    """P@1: share of the tasks in which the recommended method is (one of) the best"""
    precision_error: float
    """Standard error over families."""
    regret: float
    """Mean of the best method's target less the recommended one's."""
    mse: float
    """Mean squared error of the predictions."""
    coverage: float
    """Share of the cells that their 90 % interval holds."""
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
    """kind of model -> how often it was chosen"""


def judge(
    target: str,
    table: Table,
    y: np.ndarray,
    families: np.ndarray,
    names: Sequence[str] | None = None,
    parts: int = PARTS,
    on_progress: Callable[[int], None] | None = None,
    taught: np.ndarray | None = None,
) -> CrossValidation:
    """Leaves every family out once.

    Args:
        target: name of what is predicted.
        table, y: cells and their targets, float64 [n].
        families: [n], of each cell.
        names: kinds of models to choose among; default: all.
        parts: Number of parts in which families are held out, or one family at a time if there are fewer.
        on_progress: called with the number of parts that are done.
        taught: what models are taught in place of ``y``; default: ``y``.
    """
    taught = y if taught is None else taught
    n, task = len(y), table.tasks()
    predicted, means, half = np.empty(n), np.empty(n), np.empty(n)
    single = np.empty(n)
    kinds: dict[str, int] = {}
    part = folds(families, min(parts, len(np.unique(families))))
    for done, number in enumerate(np.unique(part)):
        out = part == number
        learned, learned_y, rest = table.take(np.flatnonzero(~out)), y[~out], table.take(np.flatnonzero(out))
        chosen = choose(learned, learned_y, families[~out], names, taught[~out])
        kinds[chosen["name"]] = kinds.get(chosen["name"], 0) + 1
        model, mean = make(chosen["name"]), make("means")
        model.fit(learned, taught[~out])
        mean.fit(learned, learned_y)
        predicted[out], means[out] = model.predict(rest), mean.predict(rest)
        found = widths(learned_y - chosen["out_of_fold"], learned.log_budget, families[~out])
        half[out] = found.at(rest.log_budget)
        single[out] = method_scores(learned, learned_y)[rest.method]
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
    """float64 [n_methods]: how far each method is above the mean of its tasks, on average; −∞ where never tried."""
    task = table.tasks()
    above = y - (np.bincount(task, y) / np.bincount(task))[task]
    counts = np.bincount(table.method, minlength=table.n_methods)
    sums = np.bincount(table.method, above, table.n_methods)
    return np.where(counts > 0, sums / np.maximum(counts, 1), -np.inf)


def _by_chance(task: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """float64 [tasks] twice, expected of any method: that it is a best one; by how much it falls short."""
    hit, short = [], []
    for number in np.unique(task):
        values = y[task == number]
        hit.append((values >= values.max() - _TIE).mean())
        short.append(values.max() - values.mean())
    return np.array(hit), np.array(short)
