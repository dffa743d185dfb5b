"""Ids that may not be what they seem: placeholders for unknown users, users with an implausible share of the rows, and
ids that differ from others only in case or Unicode form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import polars as pl

from distill_at_scale.data import hashing
from distill_at_scale.data.noticed import Notice, shown
from distill_at_scale.data.values import fold

_WORDS: Final = (
    "anonymous anon (anonymous) guest unknown nobody nouser no_user not_set (not set) (unknown) default - -- ?"
)
_NUMBERS: Final = (
    *("-1", "-2147483648", "2147483647", "4294967295"),
    *("-9223372036854775808", "9223372036854775807", "18446744073709551615"),
)
PLACEHOLDERS: Final = frozenset(
    (*_WORDS.replace("(not set)", "").split(), "(not set)", *_NUMBERS, "0" * 32, "00000000-0000-0000-0000-000000000000")
)
"""Ids, in lower case, that programs write where there is none."""

# Users whose ids are compared: all of a small log, a sample of a large one.
_SAMPLE: Final = 8192
_LEAST_SAMPLE: Final = 64
# A share that no single person has: of a large log, and of a small one.
_LARGE_SHARE, _LARGE_RATIO = 0.02, 10
_SMALL_SHARE, _SMALL_RATIO = 0.2, 4


@dataclass(frozen=True)
class UserSummary:
    """What one bucket tells about its users."""

    users: int = 0
    rows: int = 0
    heaviest: tuple[tuple[str, int], ...] = ()
    """The two users with the most rows, each with their number."""
    placeholders: Mapping[str, int] = field(default_factory=dict)
    """User ids that look like placeholders, each with its number of rows."""
    sample: tuple[tuple[int, str], ...] = ()
    """(hash of the folded id, id) of the users with the smallest hashes; empty for integers."""
    complete: bool = True
    """Whether the sample holds all users of the bucket."""


def summarise_users(users: pl.Series, rows: np.ndarray, n_buckets: int) -> UserSummary:
    """Summarises the users of a bucket.

    Args:
        users: [u] Distinct user ids.
        rows: int64 [u], number of rows of each.
        n_buckets: Number of buckets of the log.
    """
    top = np.argsort(-rows, kind="stable")[:2].tolist()
    at = np.flatnonzero(_is_placeholder(users).to_numpy()).tolist()
    sample, complete = _sample(users, n_buckets)
    return UserSummary(
        users=len(users),
        rows=int(rows.sum()),
        heaviest=tuple((str(users[k]), int(rows[k])) for k in top),
        placeholders={str(users[k]): int(rows[k]) for k in at},
        sample=sample,
        complete=complete,
    )


def notice_users(summaries: Sequence[UserSummary]) -> list[Notice]:
    """Returns notices about the users of a log from the summaries of all buckets."""
    n_users, n_rows = sum(one.users for one in summaries), sum(one.rows for one in summaries)
    notices = []
    placeholders = [pair for one in summaries for pair in one.placeholders.items()]
    for user, rows in sorted(placeholders, key=lambda pair: -pair[1]):
        notices.append(_placeholder(user, rows, n_rows))
    heaviest = sorted((pair for one in summaries for pair in one.heaviest), key=lambda pair: -pair[1])[:2]
    if len(heaviest) == 2 and heaviest[0][0] not in dict(placeholders):
        (user, rows), (_, second) = heaviest
        share, ratio = rows / n_rows, rows * n_users / n_rows
        if user == "0" and rows >= 2 * second:
            notices.append(_placeholder(user, rows, n_rows))
        elif (share >= _LARGE_SHARE and ratio >= _LARGE_RATIO) or (
            share >= _SMALL_SHARE and rows >= _SMALL_RATIO * second
        ):
            what = (
                f"user_id is {shown(user)}: one user with {share:.1%} of all rows, {ratio:.0f} times the mean; it may "
                f"stand for many people or a program: take its rows out of the log if so"
            )
            notices.append(Notice(what=what, count=rows))
    return notices + _twins(summaries)


def _placeholder(user: str, rows: int, n_rows: int) -> Notice:
    what = (
        f"user_id is {shown(user)} ({rows / n_rows:.1%} of all rows): it looks like a placeholder for unknown users, "
        f"and is read as one user; take its rows out of the log if so"
    )
    return Notice(what=what, count=rows)


def notice_items(ids: pl.Series) -> list[Notice]:
    """Returns notices about the distinct item ids of a log."""
    notices = []
    odd = ids.filter(_is_placeholder(ids))
    if len(odd):
        what = "item_id looks like a placeholder for unknown items, and is read as one item"
        notices.append(Notice(what=what, count=len(odd), unit="value", example=shown(str(odd[0]))))
    if ids.dtype == pl.String:
        alike = pl.DataFrame({"id": ids, "folded": fold(ids)}).filter(pl.col("folded").is_duplicated())
        if alike.height:
            pair = alike.filter(pl.col("folded") == alike["folded"][0])["id"].sort()
            notices.append(_alike("item_id", "item", alike.height, pair[0], pair[1], ""))
    return notices


def _alike(name: str, what: str, count: int, one: str, two: str, of: str) -> Notice:
    said = f"{name} differs from another only in case or Unicode form, and stays a different {what}{of}"
    return Notice(what=said, count=count, unit="value", example=f"{shown(one)} and {shown(two)}")


def _is_placeholder(ids: pl.Series) -> pl.Series:
    if ids.dtype != pl.String:
        return ids.is_in([int(text) for text in _NUMBERS if -(2**63) <= int(text) < 2**63])
    short = ids.str.len_bytes() <= max(map(len, PLACEHOLDERS))
    if not short.any():
        return short
    return ids.str.to_lowercase().is_in(list(PLACEHOLDERS))


def _sample(users: pl.Series, n_buckets: int) -> tuple[tuple[tuple[int, str], ...], bool]:
    """Users with the smallest hashes of their folded ids, so that ids that look alike are sampled together."""
    if users.dtype != pl.String:
        return (), True
    size = max(_LEAST_SAMPLE, 2 * _SAMPLE // n_buckets)
    # 32 bits: JSON has no larger exact integers.
    hashes = (hashing.hash_ids(fold(users)) >> np.uint64(32)).astype(np.int64)
    first = np.argsort(hashes, kind="stable")[:size]
    sample = tuple((int(hashes[k]), str(users[k])) for k in first.tolist())
    return sample, len(users) <= size


def _twins(summaries: Sequence[UserSummary]) -> list[Notice]:
    """Looks for ids that differ only in case or Unicode form, which may be in different buckets."""
    # Below this hash, the samples of all buckets together hold every user.
    below = min((one.sample[-1][0] for one in summaries if not one.complete), default=1 << 32)
    pairs = sorted(pair for one in summaries for pair in one.sample if pair[0] < below)
    if not pairs:
        return []
    ids = pl.Series([user for _, user in pairs], dtype=pl.String)
    alike = pl.DataFrame({"id": ids, "folded": fold(ids)}).filter(pl.col("folded").is_duplicated())
    if not alike.height:
        return []
    one, two = alike.filter(pl.col("folded") == alike["folded"][0])["id"].sort()[:2]
    of = "" if all(summary.complete for summary in summaries) else f" (in a sample of {len(pairs):,} users)"
    return [_alike("user_id", "user", alike.height, one, two, of)]
