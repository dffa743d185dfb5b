"""Rater: a small model of row features that scores train rows whose values are not known.

    values of some users' rows ─┐
    their features ─────────────┴─► ridge regression ─► score of any row, from its features

A DataRater (Calian et al., "DataRater: meta-learned dataset curation", 2025) learns the weights w = f_φ(features) of
rows by the metagradient of a validation loss, −∂loss/∂φ = Σ_r v_r ∂f_φ(r)/∂φ with v_r = −∂loss/∂w_r: a training for
each step of φ. From equal weights, the steepest descent among all functions f is f = v itself; among those of the rater
it is the least-squares projection of v. So one attribution gives the whole step, and the rater is a regression of the
values.

The features (:mod:`row_features`, and the mean value of the item's other rows) are mapped to their quantiles, in
[−1, 1]; the model is linear in them, their squares and their products. Values are clipped, since a few that are a
hundred times the others would decide it alone. The penalty is chosen on users left out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from distill_at_scale.data import hashing
from distill_at_scale.data.interactions import Interactions
from distill_at_scale.distillation.attribution.row_features import ItemFacts, row_features
from distill_at_scale.distillation.attribution.values import RowValues
from distill_at_scale.errors import DasError

_FOLDS = 5
_QUANTILES = np.linspace(0, 1, 65)
_CLIPPED = 0.01
_PRIOR_ROWS = 5.0
_PENALTIES = 10.0 ** np.arange(-4, 2)
_BLOCK_ROWS = 8192
LEAST_USERS = 10
"""Minimum number of users with train rows by whom a rater is fitted and judged."""


@dataclass(frozen=True)
class Rater:
    """A fitted rater.

    Attributes:
        facts: Of the items, for the features.
        item_values: float64 [n_items], mean value of an item's rows, shrunk to 0.
        edges, levels: For each column, ascending values and what they map to, [−1, 1].
        coefficients: float64 [p], of the constant, the mapped columns, their squares and their products.
    """

    facts: ItemFacts
    item_values: np.ndarray
    edges: list[np.ndarray]
    levels: list[np.ndarray]
    coefficients: np.ndarray

    def scores(self, train: Interactions, heldout: Interactions) -> np.ndarray:
        """Returns the score of each train row, float64 [n_rows].

        Args:
            train, heldout: All train and validation rows of the same users, by user.
        """
        columns = [*row_features(train, heldout, self.facts).values(), self.item_values[train.items]]
        mapped = _mapped(columns, self.edges, self.levels)
        found = np.empty(train.n_rows)
        for start in range(0, len(found), _BLOCK_ROWS):
            block = slice(start, start + _BLOCK_ROWS)
            found[block] = _expanded(mapped[block]) @ self.coefficients
        return found


def fit_rater(values: RowValues, train: Interactions, heldout: Interactions, facts: ItemFacts | None = None) -> Rater:
    """Fits a rater to the values of some users' rows.

    Args:
        values: Of the distinct pairs of user and item in ``train``.
        train, heldout: Train and validation rows of these users.
        facts: Of the items; by default of these rows.
    """
    facts = facts or ItemFacts.of(train, heldout)
    owners = np.repeat(np.arange(len(train)), train.counts)
    y = _clipped(_of_rows(values, train))
    fold = _folds(train.users)[owners]
    sums, counts = np.zeros((_FOLDS, train.n_items)), np.zeros((_FOLDS, train.n_items))
    np.add.at(sums, (fold, train.items), y)
    np.add.at(counts, (fold, train.items), 1)
    # A row's own value, and those of its fold, are not in the mean that it is described by.
    of_others = (sums.sum(0) - sums) / (counts.sum(0) - counts + _PRIOR_ROWS)
    columns = [*row_features(train, heldout, facts).values(), of_others[fold, train.items]]
    edges, levels = zip(*(_quantiles(column) for column in columns))
    mapped = _mapped(columns, edges, levels)
    grams, rights, squares = _normal_equations(mapped, y, fold)
    penalty = _penalty(grams, rights, squares, len(y))
    coefficients = _solve(grams.sum(0), rights.sum(0), penalty * len(y))
    return Rater(facts, sums.sum(0) / (counts.sum(0) + _PRIOR_ROWS), list(edges), list(levels), coefficients)


def generalisation(values: RowValues, train: Interactions, heldout: Interactions) -> float:
    """Returns Spearman's correlation of scores and values on a fifth of the users, by a rater of the others.

    Raises:
        DasError: Fewer than ``LEAST_USERS`` users have train rows.
    """
    filled = np.flatnonzero(train.counts)
    if len(filled) < LEAST_USERS:
        raise DasError(f"{len(filled)} users have train rows; a rater needs {LEAST_USERS}, so omit --users.")
    draws = hashing.combine(hashing.stream("attribute/judged"), train.users[filled].astype(np.uint64))
    judged, rest = (filled[np.sort(some)] for some in np.split(np.argsort(draws), [len(filled) // _FOLDS]))
    rater = fit_rater(values, train.take(rest), heldout.take(rest))
    unknown = train.take(judged)
    return rank_correlation(rater.scores(unknown, heldout.take(judged)), _of_rows(values, unknown))


def rank_correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Returns Spearman's correlation; 0 if one of them is constant."""
    a, b = (rankdata(some) - (len(some) + 1) / 2 for some in (first, second))
    norm = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / norm if norm else 0.0


def _of_rows(values: RowValues, train: Interactions) -> np.ndarray:
    """The value of each row; rows of the same user and item have the same one."""
    keys = np.repeat(train.users, train.counts) * np.int64(train.n_items) + train.items
    known = values.users * np.int64(train.n_items) + values.items
    order = np.argsort(known)
    found: np.ndarray = values.values[order[np.searchsorted(known, keys, sorter=order)]]
    return found


def _clipped(values: np.ndarray) -> np.ndarray:
    return values.clip(*np.quantile(values, (_CLIPPED, 1 - _CLIPPED)))


def _folds(users: np.ndarray) -> np.ndarray:
    return hashing.share(hashing.combine(hashing.stream("attribute/folds"), users.astype(np.uint64)), _FOLDS)


def _quantiles(column: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distinct quantiles of a column, and what they map to: the mean of the quantiles that are equal."""
    edges, place = np.unique(np.quantile(column, _QUANTILES), return_inverse=True)
    return edges, np.bincount(place, 2 * _QUANTILES - 1) / np.bincount(place)


def _mapped(
    columns: list[np.ndarray],
    edges: tuple[np.ndarray, ...] | list[np.ndarray],
    levels: tuple[np.ndarray, ...] | list[np.ndarray],
) -> np.ndarray:
    """[n, columns], in [−1, 1]."""
    return np.stack([np.interp(*one) for one in zip(columns, edges, levels)], axis=1)


def _expanded(mapped: np.ndarray) -> np.ndarray:
    """A constant, the columns, and the products of any two of them, [n, 1 + c + c (c + 1)/2]."""
    left, right = np.triu_indices(mapped.shape[1])
    return np.concatenate((np.ones((len(mapped), 1)), mapped, mapped[:, left] * mapped[:, right]), axis=1)


def _normal_equations(mapped: np.ndarray, y: np.ndarray, fold: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """XᵀX [folds, p, p], Xᵀy [folds, p] and yᵀy [folds] of the rows of each fold."""
    p = _expanded(mapped[:1]).shape[1]
    grams, rights = np.zeros((_FOLDS, p, p)), np.zeros((_FOLDS, p))
    squares = np.bincount(fold, y**2, _FOLDS)
    for k in range(_FOLDS):
        rows = np.flatnonzero(fold == k)
        for start in range(0, len(rows), _BLOCK_ROWS):
            block = rows[start : start + _BLOCK_ROWS]
            x = _expanded(mapped[block])
            grams[k] += x.T @ x
            rights[k] += x.T @ y[block]
    return grams, rights, squares


def _penalty(grams: np.ndarray, rights: np.ndarray, squares: np.ndarray, n: int) -> float:
    """The penalty, per row, with the smallest squared error on folds left out."""
    errors = np.zeros(len(_PENALTIES))
    for k in range(_FOLDS):
        gram, right = grams.sum(0) - grams[k], rights.sum(0) - rights[k]
        for i, penalty in enumerate(_PENALTIES):
            found = _solve(gram, right, penalty * n * (_FOLDS - 1) / _FOLDS)
            errors[i] += squares[k] - 2 * found @ rights[k] + found @ grams[k] @ found
    return float(_PENALTIES[np.argmin(errors)])


def _solve(gram: np.ndarray, right: np.ndarray, penalty: float) -> np.ndarray:
    """The coefficients; the constant has no penalty but what keeps the matrix regular."""
    diagonal = np.full(len(gram), penalty)
    diagonal[0] = 1e-9 * (1 + penalty)
    return np.linalg.solve(gram + np.diag(diagonal), right)
