"""The k-core's step: which users and rows of a bucket stay, and what took the others."""

from __future__ import annotations

import numpy as np

from distill_at_scale.data.preparation.kcore import alive_in_bucket

USER = np.array([0, 0, 0, 1, 1, 2, 2, 2, 2, 4], dtype=np.int32)
ITEM = np.array([0, 1, 2, 0, 3, 0, 1, 2, 3, 3], dtype=np.int32)


def test_rows_go_with_dead_items_and_users_with_too_few_rows() -> None:
    """Item 3 is dead: users 1 and 4 fall below two rows; user 3 never had one."""
    alive = alive_in_bucket(USER, ITEM, 5, np.array([True, True, True, False]), min_user=2, short=3)
    assert alive.users.tolist() == [True, False, True, False, False]
    assert alive.rows.tolist() == [True, True, True, False, False, True, True, True, False, False]
    assert alive.lost == {"min_item": 3, "min_user": 1, "short_history": 0}


def test_short_histories_are_told_apart() -> None:
    alive = alive_in_bucket(USER, ITEM, 5, None, min_user=2, short=3)
    assert alive.users.tolist() == [True, False, True, False, False]
    assert alive.lost == {"min_item": 0, "min_user": 1, "short_history": 2}


def test_an_empty_bucket() -> None:
    none = np.array([], dtype=np.int32)
    alive = alive_in_bucket(none, none, 0, np.array([True]), min_user=1, short=1)
    assert (len(alive.users), len(alive.rows)) == (0, 0)
    assert sum(alive.lost.values()) == 0
