"""Split rules against their definitions, user by user."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from distill_at_scale.data import hashing, splits

OFFSETS = np.concatenate(([0], np.cumsum([1, 2, 3, 4, 10, 20, 0, 33, 101]))).astype(np.int64)
TRAIN, VALIDATION, TEST = 0, 1, 2


def per_user(code: np.ndarray) -> list[list[int]]:
    return [code[a:b].tolist() for a, b in itertools.pairwise(OFFSETS)]


@pytest.mark.parametrize("lengths", [[1, 2, 3, 9], [5], []])
def test_leave_2(lengths: list[int]) -> None:
    code = splits.leave_2(np.concatenate(([0], np.cumsum(lengths))).astype(np.int64))
    assert code.dtype == np.int8
    expected: list[int] = []
    for n in lengths:
        expected += ([TRAIN] * n + [VALIDATION, TEST])[2:] if n > 1 else [TEST]
    assert code.tolist() == expected


@pytest.mark.parametrize("seed", [0, 7, 2**64 - 1])
def test_twenty_percent_hist(seed: int) -> None:
    """In the order of hash(seed, user, item): place 0 is test, then the first 80 % train, 10 % validation."""
    n = int(OFFSETS[-1])
    users = hashing.mix(np.arange(len(OFFSETS) - 1, dtype=np.uint64))
    items = hashing.mix(np.arange(1000, 1000 + n, dtype=np.uint64))
    code = splits.twenty_percent_hist(OFFSETS, users, items, seed)
    assert code.dtype == np.int8
    for k, rows in enumerate(per_user(code)):
        begin = hashing.stream("splits/20_percent_hist", seed)
        keys = hashing.combine(begin, users[k : k + 1], items[OFFSETS[k] : OFFSETS[k + 1]])
        for place, row in enumerate(np.argsort(keys)):
            share = 10 * place / len(rows)
            expected = TEST if place == 0 or share >= 9 else VALIDATION if share >= 8 else TRAIN
            assert rows[row] == expected


def test_twenty_percent_hist_sizes_and_seeds() -> None:
    users, items = np.arange(1, dtype=np.uint64), hashing.mix(np.arange(1000, dtype=np.uint64))
    offsets = np.array([0, 1000])
    one, other = (splits.twenty_percent_hist(offsets, users, items, seed) for seed in (1, 2))
    for code in (one, other):
        assert np.bincount(code).tolist() == [799, 100, 101]
    # Two independent shuffles agree on .8² + .1² + .1² = 66 % of the rows.
    assert 0.6 < (one == other).mean() < 0.72


def test_twenty_percent_hist_does_not_depend_on_other_rows() -> None:
    users, items = hashing.mix(np.arange(3, dtype=np.uint64)), hashing.mix(np.arange(30, dtype=np.uint64))
    whole = splits.twenty_percent_hist(np.array([0, 10, 20, 30]), users, items, 5)
    alone = splits.twenty_percent_hist(np.array([0, 10]), users[1:2], items[10:20], 5)
    assert whole[10:20].tolist() == alone.tolist()
    order = np.random.default_rng(0).permutation(10)
    turned = splits.twenty_percent_hist(np.array([0, 10]), users[1:2], items[10:20][order], 5)
    assert turned.tolist() == alone[order].tolist()


def test_temporal_boundaries_belong_to_the_later_split() -> None:
    code = splits.temporal(np.array([0, 4, 5, 6, 8, 9, 10]), 5, 9)
    assert code.tolist() == [TRAIN, TRAIN, VALIDATION, VALIDATION, VALIDATION, TEST, TEST]
    assert splits.temporal(np.array([5, 5]), 5, 5).tolist() == [TEST, TEST]
