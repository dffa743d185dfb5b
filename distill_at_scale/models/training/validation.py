"""Validation by several workers: combination of the results over each worker's own users."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import torch

from distill_at_scale.data.interactions import Interactions
from distill_at_scale.evaluation import RankingEvaluator
from distill_at_scale.evaluation.auc import ScoreHistogram
from distill_at_scale.evaluation.groups import UserGroups
from distill_at_scale.evaluation.item_blocks import BlockScorer
from distill_at_scale.evaluation.metrics import inverse_propensities
from distill_at_scale.models.selection import MOST_USERS, Validated, drawn_users, with_both
from distill_at_scale.models.training.communicator import Communicator
from distill_at_scale.models.training.sources import Source

_CPU = torch.device("cpu")


class JudgedUsers:
    """The users of all workers on whom values are compared: those that
    :func:`~distill_at_scale.models.selection.validation_users` draws, of rows that are read piece by piece."""

    def __init__(self, source: Source, communicator: Communicator, device: torch.device = _CPU) -> None:
        """Counts the users with train and validation rows; all workers create it. ``device`` is that of the exchanged
        tensors."""
        self._source = source
        both = torch.zeros(1, dtype=torch.int64, device=device)
        for piece in range(source.n_pieces):
            if (heldout := source.validation(piece)) is not None:
                both += int(with_both(source.train(piece), heldout).sum())
        communicator.all_reduce(both)
        self._n = int(both)

    def add_to(self, evaluator: RankingEvaluator, score: BlockScorer | Callable[[Interactions], np.ndarray]) -> None:
        """Adds the scores of this worker's users to an evaluator."""
        for piece in range(self._source.n_pieces):
            heldout = self._source.validation(piece)
            if heldout is None:
                continue
            train = self._source.train(piece)
            if self._n:
                chosen = drawn_users(train, heldout, MOST_USERS / self._n)
                train, heldout = train.take(chosen, timestamps=False), heldout.take(chosen, timestamps=False)
            evaluator.add_all(score, train, heldout)


def merged_metric(
    evaluator: RankingEvaluator, metric: str, communicator: Communicator, device: torch.device = _CPU
) -> Validated:
    """Returns a validation metric over the users of all workers, the same on each.

    Args:
        evaluator: This worker's evaluator, with groups of users.
        metric: Name of the metric.
        communicator: Communicator of the workers.
        device: Device of the exchanged tensors.
    """
    histogram = evaluator.histogram
    if metric == "auc" and communicator.world_size > 1:
        histogram = _merged_histogram(histogram, communicator, device)
    groups = evaluator.groups or UserGroups()
    own = groups.sums.get(metric, np.zeros_like(groups.counts))
    totals = torch.tensor(
        [float(evaluator.sums.get(metric, 0.0)), *groups.counts, *own], dtype=torch.float64, device=device
    )
    communicator.all_reduce(totals)
    total, (counts, sums) = float(totals[0]), totals[1:].cpu().numpy().reshape(2, -1)
    if metric == "auc":
        return Validated(histogram.auc(), counts)
    return Validated(total / float(counts.sum()), counts, sums)


def _merged_histogram(histogram: ScoreHistogram, communicator: Communicator, device: torch.device) -> ScoreHistogram:
    """Merges the histograms of all workers, the same on each: every worker fills its own entry of a common table."""
    sizes = torch.zeros((communicator.world_size, 2), dtype=torch.int64, device=device)
    sizes[communicator.rank] = torch.tensor([len(histogram.keys), histogram.shift], device=device)
    communicator.all_reduce(sizes)
    table = torch.zeros((communicator.world_size, 3, int(sizes[:, 0].max())), dtype=torch.int64, device=device)
    own = np.stack((histogram.keys.astype(np.int64), histogram.positives, histogram.negatives))
    table[communicator.rank, :, : own.shape[1]] = torch.from_numpy(own).to(device)
    communicator.all_reduce(table)
    merged = ScoreHistogram()
    for (size, shift), (keys, positives, negatives) in zip(sizes.tolist(), table.cpu().numpy()):
        counts = positives[:size], negatives[:size]
        merged.merge(ScoreHistogram(keys[:size].astype(np.uint32), *counts, shift=shift))
    return merged


def item_weights(pieces: Iterable[Interactions], n_items: int, communicator: Communicator) -> np.ndarray:
    """Returns inverse propensities, float64 [n_items], by the train rows of all workers; ``pieces`` are this
    worker's."""
    counts = torch.zeros(n_items, dtype=torch.int64)
    for rows in pieces:
        counts += torch.from_numpy(rows.item_counts().astype(np.int64))
    communicator.all_reduce(counts)
    return inverse_propensities(counts.numpy(), int(counts.sum()))
