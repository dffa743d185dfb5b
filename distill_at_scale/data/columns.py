"""The column names of this project, fixed in one place."""

from typing import Annotated, Final, Literal

from distill_at_scale.registry import SPLIT_RULES
from distill_at_scale.validation import OneOf


class Columns:
    """Names in raw logs (``user_id`` …), names once numbered (``user``, ``item``), and the split codes."""

    USER_ID: Final = "user_id"
    ITEM_ID: Final = "item_id"
    RATING: Final = "rating"
    TIMESTAMP: Final = "timestamp"
    SPLIT: Final = "split"
    WEIGHT: Final = "weight"

    USER: Final = "user"
    ITEM: Final = "item"
    TRAIN_COUNT: Final = "train_count"

    LOG: Final = (USER_ID, ITEM_ID, RATING, TIMESTAMP, SPLIT)


TRAIN: Final = 0
VALIDATION: Final = 1
TEST: Final = 2

# Code of each split in a shard's `split` column, in reading order.
SPLITS: Final = {"train": TRAIN, "validation": VALIDATION, "test": TEST}

SplitRule = Annotated[str, OneOf(lambda: SPLIT_RULES, SPLIT_RULES.find)]
"""Name of the rule that divides rows into splits; see `splits`."""

History = Literal["all", "train+validation", "train"]
"""Rows that count as a user's history."""
HISTORIES: Final[dict[History, tuple[str, ...]]] = {
    "all": ("train", "validation", "test"),
    "train+validation": ("train", "validation"),
    "train": ("train",),
}
"""Splits of each kind of history."""
