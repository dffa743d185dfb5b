"""Hashes of ids: values that can never change, equality, spread, and nested shares."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from distill_at_scale.data import hashing

WORD = 1 << 64
PINNED = [
    (0, 0xE220A8397B1DCDAF),
    (1, 0x910A2DEC89025CC1),
    (-1, 0xE4D971771B652C20),
    (2**63 - 1, 0x2A67D7552E039EA7),
    (-(2**63), 0x481EC0A212A9F3DB),
    ("", 0xE220A8397B1DCDAF),
    ("a", 0xCD7E730A503DC265),
    ("user-42", 0x4AFBABC5813EF35D),
    ("\xc4\u2028", 0x963EB7888AB4B3B3),
]


def slow_mix(z: int) -> int:
    z = (z + 0x9E3779B97F4A7C15) % WORD
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % WORD
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB % WORD
    return z ^ (z >> 31)


def slow_hash(text: str) -> int:
    content = text.encode()
    total = sum((byte + 1) * pow(0x9FB21C651E98DF25, k + 1, WORD) for k, byte in enumerate(content))
    return slow_mix((total + len(content) * 0x9E3779B97F4A7C15) % WORD)


def hash_one(value: int | str) -> int:
    return int(hashing.hash_ids(pl.Series([value]))[0])


@pytest.mark.parametrize(("value", "expected"), PINNED)
def test_hashes_never_change(value: int, expected: int) -> None:
    assert hash_one(value) == expected


@given(st.lists(st.integers(-(2**63), 2**63 - 1), max_size=20))
def test_integers(values: list[int]) -> None:
    found = hashing.hash_ids(pl.Series(values, dtype=pl.Int64))
    assert found.dtype == np.uint64
    assert found.tolist() == [slow_mix(value % WORD) for value in values]


@given(st.lists(st.text(max_size=40), max_size=20))
def test_strings(texts: list[str]) -> None:
    """Empty strings, repeats, any script; each hash by itself and in company."""
    found = hashing.hash_ids(pl.Series(texts, dtype=pl.String)).tolist()
    assert found == [slow_hash(text) for text in texts]


def test_chunks_do_not_matter() -> None:
    whole = pl.Series(["b", "a", "", "b", "ä" * 500])
    chunked = pl.concat([whole[:2], whole[2:]], rechunk=False)
    assert chunked.n_chunks() == 2
    assert hashing.hash_ids(chunked).tolist() == hashing.hash_ids(whole).tolist()
    numbers = pl.concat([pl.Series([1, 2]), pl.Series([3])], rechunk=False)
    assert hashing.hash_ids(numbers).tolist() == hashing.hash_ids(pl.Series([1, 2, 3])).tolist()


def test_an_integer_and_its_text_differ() -> None:
    assert hash_one(12) != hash_one("12")


def test_combine_is_ordered_and_mixes_numbers_with_arrays() -> None:
    a, b = hashing.mix(np.arange(5, dtype=np.uint64)), hashing.mix(np.arange(5, 10, dtype=np.uint64))
    golden = 0x9E3779B97F4A7C15
    state = 0
    for part in (3, int(a[4]), int(b[4])):
        state = slow_mix((state * golden + slow_mix(part)) % WORD)
    assert int(hashing.combine(3, a, b)[4]) == state
    assert (hashing.combine(3, a, b) != hashing.combine(3, b, a)).all()
    assert (hashing.combine(3, a) != hashing.combine(4, a)).all()
    assert hashing.combine(WORD - 1, a).shape == (5,)


@pytest.mark.parametrize(
    "ids",
    [
        pl.Series(np.arange(60_000)),
        pl.Series(np.arange(60_000) << 40),
        pl.Series([f"user-{k}" for k in range(60_000)]),
    ],
    ids=["dense", "high bits", "strings"],
)
def test_hashes_spread_evenly(ids: pl.Series) -> None:
    """Chi-square over 256 shares and over the low byte; 1e-6 would be a one in a million accident."""
    hashes = hashing.hash_ids(ids)
    assert len(np.unique(hashes)) == len(ids)
    for cells in (hashing.share(hashes, 256), (hashes & np.uint64(255)).astype(np.int64)):
        assert stats.chisquare(np.bincount(cells, minlength=256)).pvalue > 1e-6


@pytest.mark.parametrize("n", [1, 2, 3, 7, 64, 65536])
def test_shares_are_equal_ranges_and_nested(n: int) -> None:
    edges = [0, 1, WORD // 2 - 1, WORD // 2, WORD - 1]
    hashes = np.concatenate([np.array(edges, np.uint64), hashing.mix(np.arange(5000, dtype=np.uint64))])
    coarse, fine = hashing.share(hashes, n), hashing.share(hashes, 2 * n)
    assert coarse.tolist() == [(int(value) >> 32) * n >> 32 for value in hashes]
    assert coarse.min() == 0
    assert coarse.max() == n - 1
    assert (fine // 2 == coarse).all()
