"""Where several budgets end in the order of the scores, found together: every pass over the shards serves all of them.

The caller runs the passes, wherever the shards are: it asks :attr:`BudgetSearch.questions` of the scores of each shard
and gives the answers back, until there are no questions left.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from distill_at_scale.samplers.scores import Scores, Threshold
from distill_at_scale.samplers.thresholds import Histogram, Span, candidates, histogram, narrow_span, settle

Question = Callable[[Scores], Any]


class BudgetSearch:
    """The thresholds of several budgets.

    Args:
        targets: rows that each budget keeps.
        first: histogram of each shard over :class:`Span`'s whole range.
    """

    def __init__(self, targets: Sequence[int], first: Sequence[Histogram]) -> None:
        self._targets = list(targets)
        self._spans = [narrow_span(Span(), first, target) for target in targets]
        # Of each budget that needs no more passes, the units of each shard that are left in its span.
        self._units: dict[int, Sequence[np.ndarray]] = {k: [] for k, span in enumerate(self._spans) if span.is_point}

    @property
    def questions(self) -> list[Question]:
        """What the next pass asks of each shard's scores: one question for each budget whose end is still open."""
        return [
            partial(candidates if span.is_narrow else histogram, span=span)
            for k, span in enumerate(self._spans)
            if k not in self._units
        ]

    def answer(self, shards: Sequence[Sequence[Any]]) -> None:
        """Takes the answers of every shard, in the order of :attr:`questions`."""
        still_open = [k for k in range(len(self._spans)) if k not in self._units]
        for j, k in enumerate(still_open):
            found = [answers[j] for answers in shards]
            if self._spans[k].is_narrow:
                self._units[k] = found
                continue
            self._spans[k] = narrow_span(self._spans[k], found, self._targets[k])
            if self._spans[k].is_point:
                self._units[k] = []

    def thresholds(self) -> list[Threshold | None]:
        """One for each budget, once no questions are left; None where keeping nothing comes nearest to the target."""
        found = zip(self._spans, self._targets)
        return [settle(span, self._units[k], target) for k, (span, target) in enumerate(found)]
