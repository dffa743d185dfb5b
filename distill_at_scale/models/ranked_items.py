"""Lists of the best items, one after another, and their form as a table with the log's own ids."""

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
    """The lists of some users, one after another, best item first.

    Attributes:
        rows: int64 [n], position of the user in the histories.
        items: int64 [n].
        ranks: int32 [n], from 1.
        scores: float32 [n].
    """

    rows: np.ndarray
    items: np.ndarray
    ranks: np.ndarray
    scores: np.ndarray

    def frame(self, owner: pl.Series, item_ids: pl.Series) -> pl.DataFrame:
        """Columns: ``owner`` (one id for each history) · the item's id · rank (Int32) · score (Float32)."""
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
    """The k best items of each user; fewer where fewer are left.

    Args:
        score: from the histories of b users to float32 [b, n_items].
        histories: the users' input rows.
        k: length of the lists.
        include_seen: whether items of the history compete, too.
        name: of the model, for messages.

    Raises:
        DasError: scores that are not finite.
    """
    step, parts = default_batch_users(histories.n_items), []
    for start in range(0, len(histories), step):
        batch = histories.slice(start, start + step)
        scores = score(batch)
        require_finite(scores, name)
        seen = np.repeat(np.arange(len(batch)), 0 if include_seen else batch.counts)
        best = top_k(scores, seen, batch.items[: len(seen)], k, batch.users)
        rows, places = np.nonzero(best.valid)
        parts.append((rows + start, best.items[best.valid], places + 1, best.scores[best.valid]))
    columns = [np.concatenate(column) for column in zip(*parts)] if parts else [np.empty(0)] * 4
    types = (np.int64, np.int64, np.int32, np.float32)
    return RankedItems(*(column.astype(kind, copy=False) for column, kind in zip(columns, types)))
