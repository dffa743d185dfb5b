"""The plan of the exchange, from the number of fragments and buckets alone."""

from __future__ import annotations

import numpy as np
import pytest

from distill_at_scale.data import hashing
from distill_at_scale.data.preparation.exchange import Exchange
from distill_at_scale.data.readers.tables import FRAGMENT_ROWS
from distill_at_scale.pipelines.preparing.job import ROWS_A_SHARD, _power_of_two

# Bytes of a row as measured (jobs/results/large-logs.json), and of the log's Parquet.
DEALT, MERGED, SORTED, LOG = 15.7, 15.8, 8.6, 19.1


def of(rows: int, a_fragment: int = FRAGMENT_ROWS) -> tuple[Exchange, int]:
    n_buckets = _power_of_two(rows / ROWS_A_SHARD)
    return Exchange.plan(-(-rows // a_fragment), n_buckets, rows), n_buckets


@pytest.mark.parametrize("rows", [10**5, 10**7, 10**8, 2 * 10**8])
def test_small_logs_have_one_level(rows: int) -> None:
    exchange, n_buckets = of(rows)
    assert not exchange.merges
    assert exchange.groups == []
    assert exchange.parts == n_buckets
    assert exchange.opens(n_buckets) == exchange.sources * n_buckets


@pytest.mark.parametrize("a_fragment", [10**6, FRAGMENT_ROWS, 10**7])
@pytest.mark.parametrize("rows", [10**9, 10**10])
def test_large_logs_open_few_files(rows: int, a_fragment: int) -> None:
    exchange, n_buckets = of(rows, a_fragment)
    assert exchange.opens(n_buckets) <= rows // 5_000
    if not exchange.merges:
        # Chunks that compress: those of the fragments that are read together, which a task holds.
        assert a_fragment * exchange.together / n_buckets > 5_000
        assert exchange.together * a_fragment <= max(1 << 23, a_fragment)
        fragments = -(-rows // a_fragment)
        read = [k for source in range(exchange.sources) for k in exchange.fragments_of(source, fragments)]
        assert read == list(range(fragments))
        return
    assert exchange.opens(n_buckets) == 9 * exchange.sources + len(exchange.groups) * n_buckets
    assert [k for group in exchange.groups for k in group] == list(range(exchange.sources))
    # Chunks that compress: those of a fragment, and those of a group for one bucket.
    assert a_fragment / exchange.parts > 5_000
    assert a_fragment * exchange.group / n_buckets > 5_000


def test_fragments_are_read_together_only_where_their_rows_are_known() -> None:
    assert Exchange.plan(2000, 1024).merges
    assert Exchange.plan(2000, 1024, 10**9) == Exchange(125, 1024, 0, 1024, 16)
    # With more buckets, or fragments of which a task holds no two, the rows are dealt in two levels.
    assert Exchange.plan(2000, 65_536, 10**9).merges
    assert Exchange.plan(200, 1024, 10**9).merges
    assert Exchange.plan(120, 1024, 10**9) == Exchange(120, 1024, 0, 1024)


@pytest.mark.parametrize("at_once", [2, 64, 1000])
@pytest.mark.parametrize("rows", [2 * 10**7, 10**8, 10**9, 10**10])
def test_unfinished_work_is_smaller_than_the_log(rows: int, at_once: int) -> None:
    """While no more than a quarter of the buckets is sorted at the same time; else by what is sorted."""
    exchange, n_buckets = of(rows)
    few = exchange.peak(DEALT, MERGED, SORTED, n_buckets, 2)
    many = exchange.peak(DEALT, MERGED, SORTED, n_buckets, at_once)
    assert min(DEALT, MERGED) <= few <= many <= (LOG if 4 * at_once <= n_buckets else LOG + SORTED)


@pytest.mark.parametrize("parts", [1, 3, 8, 64, 100, 512])
def test_slabs_divide_the_parts(parts: int) -> None:
    slabs = Exchange(5, parts).slabs
    assert [part for slab in slabs for part in slab] == list(range(parts))
    assert len(slabs) <= 8
    assert parts < 10 or len(slabs) > 4


@pytest.mark.parametrize("n_buckets", [1, 3, 8, 100])
@pytest.mark.parametrize("parts", [1, 4, 7, 128])
def test_a_bucket_finds_its_rows_in_its_parts(parts: int, n_buckets: int) -> None:
    exchange = Exchange(1, parts, 1)
    hashes = np.random.default_rng(0).integers(0, 2**64, 20_000, dtype=np.uint64)
    part, bucket = hashing.share(hashes, parts), hashing.share(hashes, n_buckets)
    for k in range(n_buckets):
        assert set(part[bucket == k]) <= set(exchange.parts_of(k, n_buckets))
    for k in range(parts):
        assert set(bucket[part == k]) <= set(exchange.buckets_of(k, n_buckets))
        assert all(k in exchange.parts_of(one, n_buckets) for one in exchange.buckets_of(k, n_buckets))
