"""Lists of the best items, concatenated, and their form as a table with the log's own ids."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl

from distill_at_scale.data.interactions import Interactions
from distill_at_scale.evaluation.item_blocks import BlockScorer, Pairs
from distill_at_scale.evaluation.top_k import rank_blocks

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
    scorer: BlockScorer,
    histories: Interactions,
    k: int,
    include_seen: bool = False,
    name: str = "the model",
) -> RankedItems:
    """Returns the k best items of each user, or fewer if fewer remain.

    Args:
        scorer: The model's scores.
        histories: The users' input rows.
        k: Length of the lists.
        include_seen: Whether items of the history are ranked, too.
        name: Name of the model, for messages.

    Raises:
        DasError: Some scores are not finite.
    """
    n_items = histories.n_items
    step, parts = scorer.batch_users(n_items), []
    for start in range(0, len(histories), step):
        batch = histories.slice(start, start + step)
        seen = np.repeat(np.arange(len(batch)), 0 if include_seen else batch.counts)
        hidden = Pairs(seen, batch.items[: len(seen)])
        width = scorer.block_items(n_items, len(batch))
        best, _ = rank_blocks(scorer.begin(batch), width, n_items, batch.users, hidden, k, name)
        rows, positions = np.nonzero(best.valid)
        parts.append((rows + start, best.items[best.valid], positions + 1, best.scores[best.valid]))
    columns = [np.concatenate(column) for column in zip(*parts)] if parts else [np.empty(0)] * 4
    types = (np.int64, np.int64, np.int32, np.float32)
    return RankedItems(*(column.astype(kind, copy=False) for column, kind in zip(columns, types)))
