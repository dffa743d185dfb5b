"""Lists of the best items, concatenated, and their form as a table with the log's own ids."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl

from distill_at_scale.data.interactions import Interactions
from distill_at_scale.evaluation.top_k import default_batch_users, require_finite, top_k

RANK: Final = "rank"
SCORE: Final = "score"


@dataclass(frozen=True)
class RankedItems:
    """Concatenated lists of some users, best item first.

    Attributes:
        rows: int64 [n], position of the user in the histories.
        items: int64 [n], item numbers.
        ranks: int32 [n], from 1.
        scores: float32 [n], scores of the model.
    """

    rows: np.ndarray
    items: np.ndarray
    ranks: np.ndarray
    scores: np.ndarray

    def frame(self, owner: pl.Series, item_ids: pl.Series) -> pl.DataFrame:
        """Returns the columns ``owner`` (one id per history) · the item's id · rank (Int32) · score (Float32)."""
        return pl.DataFrame(
            [
                owner.gather(self.rows),
                item_ids.gather(self.items),
                pl.Series(RANK, self.ranks),
                pl.Series(SCORE, self.scores),
            ]
        )


def rank_items(
    score: Callable[[Interactions], np.ndarray],
    histories: Interactions,
    k: int,
    include_seen: bool = False,
    name: str = "the model",
) -> RankedItems:
    """Returns the k best items of each user, or fewer if fewer remain.

    Args:
        score: Function from the histories of b users to scores, float32 [b, n_items].
        histories: The users' input rows.
        k: Length of the lists.
        include_seen: Whether items of the history are ranked, too.
        name: Name of the model, for messages.

    Raises:
        DasError: Some scores are not finite.
    """
    step, parts = default_batch_users(histories.n_items), []
    for start in range(0, len(histories), step):
        batch = histories.slice(start, start + step)
        scores = score(batch)
        require_finite(scores, name)
        seen = np.repeat(np.arange(len(batch)), 0 if include_seen else batch.counts)
        best = top_k(scores, seen, batch.items[: len(seen)], k, batch.users)
        rows, positions = np.nonzero(best.valid)
        parts.append((rows + start, best.items[best.valid], positions + 1, best.scores[best.valid]))
    columns = [np.concatenate(column) for column in zip(*parts)] if parts else [np.empty(0)] * 4
    types = (np.int64, np.int64, np.int32, np.float32)
    return RankedItems(*(column.astype(kind, copy=False) for column, kind in zip(columns, types)))
