"""Evaluation of model scores: full ranking over all items, streamed over users, mergeable.

A user's history is masked (never recommended); all other items of the catalogue are ranked, by
:mod:`~distill_at_scale.evaluation.top_k`, which also makes recommendations. Items are scored in blocks: nothing of the
size users × items is held.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from distill_at_scale.data.interactions import Interactions
from distill_at_scale.errors import DasError, SettingError
from distill_at_scale.evaluation.auc import N_NEGATIVES, ScoreHistogram, unseen_negatives
from distill_at_scale.evaluation.bootstrap import UserBootstrap
from distill_at_scale.evaluation.exact_sum import ExactSum
from distill_at_scale.evaluation.groups import UserGroups
from distill_at_scale.evaluation.item_blocks import BlockScorer, BlockScores, Pairs
from distill_at_scale.evaluation.metrics import inverse_propensities, ranking_metrics
from distill_at_scale.evaluation.off_policy import OffPolicySums
from distill_at_scale.evaluation.order import found_in, sorted_unique
from distill_at_scale.evaluation.slices import SliceSums
from distill_at_scale.evaluation.top_k import rank_blocks
from distill_at_scale.evaluation.top_lists import TopLists

DEFAULT_KS = (10, 100)


@dataclass(frozen=True)
class EvaluationResult:
    """Averages of metrics over users."""

    metrics: dict[str, float]
    """Averages over the users with held-out rows: ``ndcg@10``, …; ``auc`` and ``mse`` are over rows."""
    metrics_all_users: dict[str, float]
    """The same sums divided by the number of all users, as in the ∞-AE reference code; users without held-out rows
    count 0; ``auc`` and ``mse`` as above."""
    standard_errors: dict[str, float]
    """Standard error of each average in ``metrics`` over users (not for ``auc`` and ``mse``)."""
    n_users: int
    """Number of users with held-out rows."""
    n_users_all: int
    """Number of all users."""
    n_heldout: int
    """Number of held-out (user, item) pairs."""
    tied_hits: float
    """Share of the hits (at the largest cut-off) whose score is tied with another item, so that a draw decided their
    rank; 0 without hits."""


@dataclass
class RankingEvaluator:
    """Accumulates metrics batch by batch; :meth:`merge` adds the results of other workers.

    The state consists of a few sums and one score histogram. Its size depends on neither users nor items, except for
    the inverse propensities and the items' slices, the same on all workers (:meth:`drop_items`). The order and grouping
    of merges do not affect the result; the division of users into batches affects only its last bits.
    """

    inverse_propensities: np.ndarray
    """float64 [n_items]."""
    ks: tuple[int, ...] = DEFAULT_KS
    """Cut-offs of the ranking metrics."""
    seed: int = 0
    """Seed of the AUC's negatives."""
    n_negatives: int = N_NEGATIVES
    """Unseen items per user for the AUC; 0 omits the AUC."""
    ratings: bool = False
    """Whether scores predict ratings; adds ``mse`` over the held-out rows."""
    name: str = "the model"
    """Name of the model, for messages."""
    bootstrap: UserBootstrap | None = None
    """Collects averages of the ranking metrics over resampled users, if given."""
    groups: UserGroups | None = None
    """Collects sums of the ranking metrics over groups of users, if given."""
    slices: SliceSums | None = None
    """Collects metrics by the popularity of the held-out items, if given."""
    lists: TopLists | None = None
    """Collects the lists of some users, if given."""
    off_policy: OffPolicySums | None = None
    """Collects importance weights of logged rows, if given."""
    more: tuple[str, ...] = ()
    """Ranking metrics beside those of the table, as ``package.module:METRIC``."""
    sums: dict[str, ExactSum] = field(default_factory=dict)
    squares: dict[str, ExactSum] = field(default_factory=dict)
    histogram: ScoreHistogram = field(default_factory=ScoreHistogram)
    squared_error: ExactSum = field(default_factory=ExactSum)
    n_rated: int = 0
    n_users: int = 0
    n_users_all: int = 0
    n_heldout: int = 0
    n_hits: int = 0
    n_tied_hits: int = 0

    def __post_init__(self) -> None:
        self.ks = tuple(int(k) for k in self.ks)
        if not self.ks or min(self.ks) < 1:
            raise SettingError(f"ks={list(self.ks)}: give at least one cut-off, each at least 1.")

    def add(
        self,
        scores: np.ndarray,
        histories: Interactions,
        heldout: Interactions,
        known: Interactions | None = None,
    ) -> None:
        """Adds a batch of users.

        Args:
            scores: float32 [b, n_items]; not modified.
            histories: The b users' input rows, masked in the ranking.
            heldout: The same users' held-out rows; an item that is also in the history can never be a hit.
            known: The same users' rows whose items, besides the held-out ones, are not negatives of the AUC; default:
                the histories. The ∞-AE reference code uses only train rows here, so at test time it sometimes draws
                validation items as negatives, which lowers its AUC by 0.0035 on ML-1M.

        Raises:
            DasError: The scores have another shape or are not finite, ``heldout`` has other users, or there are no
                ratings to compare with.
        """
        shape = (len(histories), histories.n_items)
        if scores.shape != shape or len(self.inverse_propensities) != shape[1]:
            raise DasError(f"{self.name}: scores of shape {scores.shape}, expected {shape} (users, items).")
        self.add_blocks(lambda first, last: scores[:, first:last], shape[1], histories, heldout, known)

    def add_blocks(
        self,
        scores: BlockScores,
        width: int,
        histories: Interactions,
        heldout: Interactions,
        known: Interactions | None = None,
    ) -> None:
        """Adds a batch of users whose scores are computed for ``width`` items at a time; otherwise as :meth:`add`."""
        known = histories if known is None else known
        n_items = len(self.inverse_propensities)
        if any(rows.n_items != n_items for rows in (histories, heldout, known)) or any(
            not np.array_equal(rows.users, histories.users) for rows in (heldout, known)
        ):
            raise DasError(
                "Histories and held-out rows are not of the same users and items; take both from one Dataset."
            )
        self.n_users_all += len(histories)
        if self.ratings and heldout.ratings is None:
            raise DasError("The held-out rows have no ratings, so a model that predicts them has no mse.")
        rows = np.flatnonzero(heldout.counts > 0)
        if not len(rows):
            return
        every = len(rows) == len(histories)
        if not every:
            histories, heldout, known = (each.take(rows) for each in (histories, heldout, known))
        self._add_ranking(scores, width, None if every else rows, histories, heldout, known)

    def add_all(
        self,
        score: BlockScorer | Callable[[Interactions], np.ndarray],
        histories: Interactions,
        heldout: Interactions,
        known: Interactions | None = None,
        batch_users: int | None = None,
    ) -> None:
        """Scores users in batches and adds them; arguments as in :func:`evaluate`."""
        scorer = score if isinstance(score, BlockScorer) else BlockScorer.whole(score)
        step = batch_users or scorer.batch_users(histories.n_items)
        for start in range(0, len(histories), step):
            stop = start + step
            batch = histories.slice(start, stop)
            avoided = None if known is None else known.slice(start, stop)
            width = scorer.block_items(batch.n_items, len(batch))
            self.add_blocks(scorer.begin(batch), width, batch, heldout.slice(start, stop), avoided)

    def _add_ranking(
        self,
        scores: BlockScores,
        width: int,
        rows: np.ndarray | None,
        histories: Interactions,
        heldout: Interactions,
        known: Interactions,
    ) -> None:
        n_users, n_items = len(histories), histories.n_items
        target = sorted_unique(_pairs(heldout))  # T is a set
        target_rows, target_items = np.divmod(target, n_items)
        counts = np.bincount(target_rows, minlength=n_users)
        asked = []
        if self.n_negatives:
            seen = sorted_unique(np.concatenate((_pairs(known), target)))
            offsets = np.searchsorted(seen, np.arange(n_users + 1) * n_items)
            negatives = unseen_negatives(seen % n_items, offsets, histories.users, n_items, self.seed, self.n_negatives)
            asked += [Pairs(target_rows, target_items), Pairs(*negatives)]
        if self.ratings:
            asked.append(_all_pairs(heldout))
        best, found = rank_blocks(
            scores, width, n_items, histories.users, _all_pairs(histories), max(self.ks), self.name, asked, rows
        )
        if self.ratings and heldout.ratings is not None:
            errors = found.pop().astype(np.float64) - heldout.ratings
            self.squared_error.add((errors * errors).sum())
            self.n_rated += len(errors)
        if self.n_negatives:
            self.histogram.add(*found)

        hits = found_in(target, np.arange(n_users)[:, None] * n_items + best.items, n_users * min(n_items, width))
        hits &= best.valid
        weights = self.inverse_propensities
        descending = np.lexsort((-weights[target_items], target_rows))
        values_by_metric = ranking_metrics(
            hits, weights[best.items], counts, weights[target_items[descending]], self.ks, self.more
        )
        for metric, values in values_by_metric.items():
            self.sums.setdefault(metric, ExactSum()).add(values.sum())
            self.squares.setdefault(metric, ExactSum()).add((values * values).sum())
        if self.bootstrap is not None:
            self.bootstrap.add(histories.users, values_by_metric)
        if self.groups is not None:
            self.groups.add(histories.users, values_by_metric)
        if self.slices is not None:
            self.slices.add(best.items, hits, best.valid, target_rows, target_items, self.ks)
        if self.lists is not None:
            self.lists.add(histories.users, best.items, best.valid)
        if self.off_policy is not None:
            self.off_policy.add(histories.users, best.items, best.valid)
        self.n_users += n_users
        self.n_heldout += len(target)
        self.n_hits += int(hits.sum())
        self.n_tied_hits += int((hits & best.tied).sum())

    def merge(self, other: RankingEvaluator) -> None:
        """Adds the state of another evaluator with the same cut-offs, seed and propensities, over other users.

        Raises:
            DasError: The two evaluators measure different things.
        """
        mine = (self.ks, self.seed, self.n_negatives, self.ratings)
        theirs = (other.ks, other.seed, other.n_negatives, other.ratings)
        if mine != theirs or not np.array_equal(self.inverse_propensities, other.inverse_propensities):
            raise DasError(f"Evaluations of different settings cannot be merged: {mine} and {theirs}.")
        if self.sums and other.sums and self.sums.keys() ^ other.sums.keys():
            odd = ", ".join(sorted(self.sums.keys() ^ other.sums.keys()))
            raise DasError(f"Only some nodes measured {odd}: install the package that adds the metric on every node.")
        for metric, value in other.sums.items():
            self.sums.setdefault(metric, ExactSum()).merge(value)
            self.squares.setdefault(metric, ExactSum()).merge(other.squares[metric])
        if self.bootstrap is not None and other.bootstrap is not None:
            self.bootstrap.merge(other.bootstrap)
        if self.groups is not None and other.groups is not None:
            self.groups.merge(other.groups)
        if self.slices is not None and other.slices is not None:
            self.slices.merge(other.slices)
        if self.lists is not None and other.lists is not None:
            self.lists.merge(other.lists)
        if self.off_policy is not None and other.off_policy is not None:
            self.off_policy.merge(other.off_policy)
        self.histogram.merge(other.histogram)
        self.squared_error.merge(other.squared_error)
        self.n_rated += other.n_rated
        self.n_users += other.n_users
        self.n_users_all += other.n_users_all
        self.n_heldout += other.n_heldout
        self.n_hits += other.n_hits
        self.n_tied_hits += other.n_tied_hits

    def drop_items(self) -> None:
        """Drops what is kept per item: the sums can still be merged and averaged, and are small to send."""
        self.inverse_propensities = np.empty(0)
        if self.slices is not None:
            self.slices.of_item = np.empty(0, dtype=np.int8)

    def result(self) -> EvaluationResult:
        """Returns the averages so far.

        Raises:
            DasError: No user has held-out rows.
        """
        if not self.n_users:
            raise DasError("No user has held-out rows in this split, so nothing can be measured; choose another split.")
        n = self.n_users
        metrics = {metric: float(value) / n for metric, value in self.sums.items()}
        everyone = {metric: float(value) / self.n_users_all for metric, value in self.sums.items()}
        errors = {metric: _standard_error(float(self.squares[metric]), mean, n) for metric, mean in metrics.items()}
        over_rows = {}
        if self.n_negatives:
            over_rows["auc"] = self.histogram.auc()
        if self.ratings:
            over_rows["mse"] = float(self.squared_error) / self.n_rated
        return EvaluationResult(
            metrics={**metrics, **over_rows},
            metrics_all_users={**everyone, **over_rows},
            standard_errors=errors,
            n_users=n,
            n_users_all=self.n_users_all,
            n_heldout=self.n_heldout,
            tied_hits=self.n_tied_hits / max(self.n_hits, 1),
        )


def evaluate(
    score: BlockScorer | Callable[[Interactions], np.ndarray],
    histories: Interactions,
    heldout: Interactions,
    item_counts: np.ndarray,
    n_rows_train: int,
    ks: Sequence[int] = DEFAULT_KS,
    seed: int = 0,
    batch_users: int | None = None,
    *,
    known: Interactions | None = None,
    n_negatives: int = N_NEGATIVES,
    ratings: bool = False,
    name: str = "the model",
) -> EvaluationResult:
    """Scores all users in batches and evaluates the rankings.

    Args:
        score: Function from the histories of b users to scores, float32 [b, n_items]; or by blocks of items, as a
            model's ``scorer``.
        histories: Every user's input rows (for the test split: train and validation rows).
        heldout: The same users' rows of the split to be predicted.
        item_counts: int64 [n_items], train rows of each item, for ``psp``.
        n_rows_train: Total number of train rows.
        ks: Cut-offs.
        seed: Seed of the AUC's negatives.
        batch_users: Number of users scored at once (default: a few megabytes of scores).
        known: As in :meth:`RankingEvaluator.add`.
        n_negatives, ratings, name: As in :class:`RankingEvaluator`.

    Raises:
        DasError: As in :meth:`RankingEvaluator.add` and :meth:`RankingEvaluator.result`.
    """
    weights = inverse_propensities(item_counts, n_rows_train)
    evaluator = RankingEvaluator(weights, tuple(ks), seed, n_negatives, ratings, name)
    evaluator.add_all(score, histories, heldout, known, batch_users)
    return evaluator.result()


def _standard_error(squares: float, mean: float, n: int) -> float:
    """Standard error of the mean of n values, of which the sum of squares is known; NaN for a single one."""
    return math.sqrt(max(squares - n * mean * mean, 0.0) / (n - 1) / n) if n > 1 else math.nan


def _pairs(rows: Interactions) -> np.ndarray:
    """Encodes each row, int64 [n], as position of the user times n_items plus item."""
    return np.repeat(np.arange(len(rows), dtype=np.int64), rows.counts) * rows.n_items + rows.items


def _all_pairs(rows: Interactions) -> Pairs:
    return Pairs(np.repeat(np.arange(len(rows)), rows.counts), rows.items)
