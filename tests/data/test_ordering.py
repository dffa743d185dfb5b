"""order_by is np.lexsort, which is stable, whatever the keys' types and ranges."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill_at_scale.data.ordering import order_and_ties, order_by, sorted_integers

WIDE = st.integers(-(2**63), 2**63 - 1)
FLOATS = st.floats(allow_nan=False, width=32)


@st.composite
def keys(draw: st.DrawFn) -> list[np.ndarray]:
    """One to five keys: narrow ones, that share a word, and the widest; multiples have trailing zero bits."""
    n = draw(st.integers(0, 40))

    def column(values: st.SearchStrategy, dtype: type) -> np.ndarray:
        return np.array(draw(st.lists(values, min_size=n, max_size=n)), dtype=dtype)

    kinds = [
        lambda: column(WIDE, np.int64),
        lambda: column(st.integers(0, 2**64 - 1), np.uint64),
        lambda: column(st.integers(0, 3), np.int32),
        lambda: column(st.integers(-3, 3), np.int8),
        lambda: column(st.integers(0, 50), np.int64) * 1000 * 2**20,
        lambda: column(FLOATS, np.float32),
        lambda: column(st.sampled_from([-0.0, 0.0, -1.5, 2.0]), np.float64),
        lambda: np.full(n, 7),
    ]
    return [draw(st.sampled_from(kinds))() for _ in range(draw(st.integers(1, 5)))]


@given(keys())
def test_equals_lexsort(columns: list[np.ndarray]) -> None:
    expected = np.lexsort(columns[::-1])
    np.testing.assert_array_equal(order_by(*columns), expected)
    order, ties = order_and_ties(*columns)
    np.testing.assert_array_equal(order, expected)
    rows = list(zip(*(key[expected].tolist() for key in columns)))
    assert ties.tolist() == [one == other for one, other in itertools.pairwise(rows)]


@given(st.lists(st.integers(0, 2**64 - 1)), st.sampled_from([np.uint64, np.int64, np.int32, np.uint32]))
def test_sorted_integers(values: list[int], kind: type) -> None:
    numbers = np.array(values, dtype=np.uint64).astype(kind)
    found = sorted_integers(numbers)
    assert found.dtype == numbers.dtype
    np.testing.assert_array_equal(found, np.sort(numbers))


@pytest.mark.parametrize("n", [5000, 200_000])
def test_a_log(n: int) -> None:
    rng = np.random.default_rng(n)
    user, item = rng.integers(0, n // 50, n).astype(np.int32), rng.integers(0, 1000, n).astype(np.int32)
    time = 1_600_000_000_000 + 1000 * rng.integers(0, 10**8, n)
    rating = rng.integers(1, 11, n).astype(np.float32) / 2
    np.testing.assert_array_equal(order_by(user, time, item, rating), np.lexsort((rating, item, time, user)))
    # Ties of ties: leading bits that most rows share, more than once.
    coarse = rng.integers(0, 2, n) << 50
    np.testing.assert_array_equal(order_by(coarse, coarse, time, item), np.lexsort((item, time, coarse)))


def test_keys_that_fill_their_words() -> None:
    """Widths of 64, 0, 33 and 32 bits: where a word ends nothing may be lost."""
    rng = np.random.default_rng(1)
    whole = rng.integers(-(2**63), 2**63 - 1, 500)
    whole[:2] = -(2**63), 2**63 - 1
    same = np.zeros(500, np.int64)
    wide, narrow = rng.integers(0, 2, 500) * (2**33 - 1), rng.integers(0, 3, 500) * (2**31 + 1)
    for columns in ((same, whole), (whole, same), (wide, narrow, same), (narrow, wide, whole), (same,)):
        np.testing.assert_array_equal(order_by(*columns), np.lexsort(columns[::-1]))
