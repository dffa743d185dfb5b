"""Split rules, which assign each user's rows to train, validation and test.

Source: Sachdeva, Wu, McAuley, "On Sampling Collaborative Filtering Datasets" (WSDM 2022), section 4.1, and its
reference code for `20_percent_hist` and `leave_2`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from distill_at_scale.data import hashing, ragged
from distill_at_scale.data.columns import SPLITS, TEST, TRAIN, VALIDATION
from distill_at_scale.data.ordering import order_by
from distill_at_scale.registry import SPLIT_RULES


class SplitRows(Protocol):
    """Whole users' rows, in the order of time, as rules see them; each attribute is made when it is asked for.

    Attributes:
        offsets: int64 [users + 1], start of each user's rows.
        timestamps: int64 [rows], ms; only of logs that have them.
        user_hash: uint64 [users], of the users' ids.
        item_hash: uint64 [rows], of the items' ids; only for rules that shuffle.
        given: int8 [rows], split codes of the log's own column; only for rules that go by it.
        seed: Seed of the run.
        validation_from, test_from: Points in time (ms), the same for all users; only for rules that go by them.
    """

    @property
    def offsets(self) -> np.ndarray: ...
    @property
    def timestamps(self) -> np.ndarray: ...
    @property
    def user_hash(self) -> np.ndarray: ...
    @property
    def item_hash(self) -> np.ndarray: ...
    @property
    def given(self) -> np.ndarray: ...
    @property
    def seed(self) -> int: ...
    @property
    def validation_from(self) -> int: ...
    @property
    def test_from(self) -> int: ...


@dataclass(frozen=True)
class Split:
    """A split rule.

    Attributes:
        assign: From rows to their split codes, int8 [rows]; a user's codes may depend on the user's own rows alone.
        shortest: Minimum history; users with fewer rows are dropped.
        by_time: Whether it needs timestamps.
        by_order: Whether it goes by each user's order in time; held-out rows that a draw chose among rows with the same
            time are then counted.
        shuffles: Whether it draws, by hashes of ids and the seed.
        at_times: Whether it divides all rows at two points in time, by ``--validation-share`` and ``--test-share``.
        in_log: Whether the log's own split column says it.
    """

    assign: Callable[[SplitRows], np.ndarray]
    shortest: int = 1
    by_time: bool = False
    by_order: bool = False
    shuffles: bool = False
    at_times: bool = False
    in_log: bool = False


def leave_2(offsets: np.ndarray) -> np.ndarray:
    """Assigns each user's last row by time to test, the one before it to validation and the rest to train.

    The caller breaks ties in time, by a draw rather than by ids.

    Args:
        offsets: int64 [users + 1], start of each user's rows; rows in time order.

    Returns:
        int8 [rows], split codes.
    """
    code = np.full(offsets[-1], TRAIN, dtype=np.int8)
    last = offsets[1:] - 1
    code[last] = TEST
    longer = np.diff(offsets) >= 2
    code[last[longer] - 1] = VALIDATION
    return code


def tied(offsets: np.ndarray, timestamps: np.ndarray, code: np.ndarray) -> dict[str, int]:
    """Counts the validation and test rows that a draw held out: another of the user's rows, in another split, has the
    same time.

    Args:
        offsets: int64 [users + 1].
        timestamps: int64 [rows], ascending within each user, in any unit.
        code: int8 [rows], split codes that follow the order of time.
    """
    owner = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    same = (owner[1:] == owner[:-1]) & (timestamps[1:] == timestamps[:-1])
    # Neighbours with equal times are in different splits: every row of that time was drawn into its split.
    run, _ = ragged.runs(same)
    drawn = np.isin(run, run[1:][same & (code[1:] != code[:-1])])
    return {name: int((drawn & (code == value)).sum()) for name, value in SPLITS.items() if value != TRAIN}


def tied_note(share: float | None) -> list[str]:
    """Returns a note on a share of held-out rows that were chosen by a draw; empty for a share of 0 or None."""
    if not share:
        return []
    return [f"{100 * share:.0f} % of the held-out rows were chosen by a draw among a user's rows with the same time."]


def leak_note(split_rule: Mapping[str, Any]) -> list[str]:
    """Returns a note on a split that trains on rows later than those held out; empty for other splits.

    Source: Ji, Sun, Zhang, Li, "A critical study on data leakage in recommender system offline evaluation" (TOIS 2023).
    """
    name = str(split_rule.get("name"))
    if name not in SPLIT_RULES or not SPLIT_RULES[name].by_order:
        return []
    return [
        f"{name} holds out each user's last rows, so models have trained on other users' rows of a later time; "
        "--split temporal holds out the latest rows of all users instead."
    ]


def twenty_percent_hist(offsets: np.ndarray, user_hash: np.ndarray, item_hash: np.ndarray, seed: int) -> np.ndarray:
    """Splits each user's rows in shuffled order: the first 80 % train, the next 10 % validation, the rest test; the
    very first row is always test.

    The shuffle sorts by a hash of (seed, user, item), so a row keeps its split whatever else the log contains, and no
    generator state is needed.

    Args:
        offsets: int64 [users + 1].
        user_hash: uint64 [users].
        item_hash: uint64 [rows].
        seed: Seed of the shuffle.

    Returns:
        int8 [rows], split codes.
    """
    counts = np.diff(offsets)
    owner = np.repeat(np.arange(len(counts)), counts)
    of_user = hashing.combine(hashing.stream("splits/20_percent_hist", seed), user_hash)
    order = order_by(owner, hashing.append(of_user[owner], hashing.mix(item_hash)))
    # Integer arithmetic: rounding 0.8 n could move a rank to the other side.
    first, train, validation = np.minimum(counts, 1), -(-8 * counts // 10), -(-9 * counts // 10)
    lengths = np.stack([first, train - first, validation - train, counts - validation], axis=1)
    code = np.empty(len(order), dtype=np.int8)
    code[order] = np.repeat(np.tile(np.array([TEST, TRAIN, VALIDATION, TEST], np.int8), len(counts)), lengths.ravel())
    return code


def temporal(timestamps: np.ndarray, validation_from: int, test_from: int) -> np.ndarray:
    """Assigns rows before ``validation_from`` (ms) to train, rows from ``test_from`` on to test, others to validation.

    Returns:
        int8 [rows], split codes.
    """
    code = np.full(len(timestamps), TRAIN, dtype=np.int8)
    code[timestamps >= validation_from] = VALIDATION
    code[timestamps >= test_from] = TEST
    return code


LEAVE_2 = Split(lambda rows: leave_2(rows.offsets), shortest=3, by_time=True, by_order=True)
TWENTY_PERCENT_HIST = Split(
    lambda rows: twenty_percent_hist(rows.offsets, rows.user_hash, rows.item_hash, rows.seed), shortest=3, shuffles=True
)
TEMPORAL = Split(
    lambda rows: temporal(rows.timestamps, rows.validation_from, rows.test_from), by_time=True, at_times=True
)
COLUMN = Split(lambda rows: rows.given, in_log=True)
