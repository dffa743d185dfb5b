"""Ids as their ranks: like a dictionary from each id to its position, whatever the ids are."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill_at_scale.data.preparation.item_ids import ItemIds
from distill_at_scale.data.preparation.row_order import distinct_and_ranks, distinct_ids, ranks

WIDE = st.integers(-(2**63), 2**63 - 1)
DENSE = st.integers(-5, 60)
TEXT = st.text(max_size=3)


@st.composite
def logs(draw: st.DrawFn) -> tuple[list[int] | list[str], list[int] | list[str]]:
    """Ids of rows, single or in runs, and a vocabulary that holds them all."""
    kind = draw(st.sampled_from([WIDE, DENSE, TEXT]))
    known: list = draw(st.lists(kind, min_size=1, max_size=30, unique=True))
    rows = draw(st.lists(st.sampled_from(known), max_size=40))
    longest = draw(st.integers(1, 6))
    return [one for one in rows for _ in range(draw(st.integers(1, longest)))], known


@given(logs())
def test_ranks_are_positions_in_the_vocabulary(log: tuple[list, list]) -> None:
    rows, known = log
    kind = pl.String if isinstance(known[0], str) else pl.Int64
    vocabulary = pl.Series(known, dtype=kind).sort()
    at = {one: position for position, one in enumerate(vocabulary.to_list())}
    ids = pl.Series(rows, dtype=kind)
    for found in (ranks(ids, vocabulary), ItemIds.of(vocabulary).ranks(ids)):
        assert found.dtype == np.int32
        assert found.tolist() == [at[one] for one in rows]


@pytest.mark.parametrize("crowded", [False, True])
def test_ranks_among_many_ids(crowded: bool) -> None:
    """Few ids share their leading bits, and an index finds them; or so many do that it is not used."""
    rng = np.random.default_rng(0)
    known = rng.integers(-(2**63), 2**63 - 1, 5000)
    if crowded:
        known[1:4000] = np.arange(3999)
    vocabulary = pl.Series(np.unique(known))
    indexed = ItemIds.of(vocabulary)
    assert (indexed.first is None) == crowded
    rows = rng.choice(known, 20_000)
    np.testing.assert_array_equal(indexed.ranks(pl.Series(rows)), np.searchsorted(vocabulary.to_numpy(), rows))


@given(logs())
def test_distinct_ids_are_each_there_once(log: tuple[list, list]) -> None:
    rows, known = log
    kind = pl.String if isinstance(known[0], str) else pl.Int64
    ids = pl.Series(rows, dtype=kind)
    assert sorted(distinct_ids(ids).to_list()) == sorted(set(rows))
    distinct, found = distinct_and_ranks(ids)
    assert distinct.to_list() == sorted(set(rows))
    assert found.dtype == np.int32
    assert distinct.gather(found).to_list() == rows
