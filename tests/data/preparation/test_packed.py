"""Packed rows are read back as they were."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from distill_at_scale.data.preparation.packed import pack, unpack

TIMES = {
    "seconds": [1_600_000_000_000_000_000, 0, 1_000_000_000],
    "milliseconds": [1_600_000_000_001_000_000, -5_000_000, 0],
    "nanoseconds": [7, -7, 0],
    "the whole range": [2**63 - 1, -(2**63), 0],
    "none": [],
}


@pytest.mark.parametrize("strings", [False, True])
@pytest.mark.parametrize("times", TIMES)
def test_round_trip(times: str, strings: bool) -> None:
    n = len(TIMES[times])
    items = [f"i{k}" for k in range(n)] if strings else list(range(5, 5 + n))
    kind = pl.String if strings else pl.Int64
    rows = pl.DataFrame(
        {
            "user_id": pl.Series(list(range(n)), dtype=pl.Int64),
            "item_id": pl.Series(items, dtype=kind),
            "rating": pl.Series([1.5] * n, dtype=pl.Float32),
            "timestamp": pl.Series(TIMES[times], dtype=pl.Int64),
            "split": pl.Series([1] * n, dtype=pl.Int8),
        }
    )
    item_ids = pl.Series("item_id", sorted([*items, *(["z"] if strings else [99])]), dtype=kind)
    found = unpack(pack(rows, item_ids), item_ids)
    assert found.drop("item").equals(rows)
    assert item_ids.gather(found["item"]).to_list() == items


def test_frames_of_one_log_have_one_schema() -> None:
    """Whatever their times, so that frames of several fragments can be joined."""
    item_ids = pl.Series("item_id", [1, 2])
    schemas = {
        tuple(pack(pl.DataFrame({"item_id": [1, 2], "timestamp": times}), item_ids).schema.items())
        for times in (np.array([0, 10**9]), np.array([-1, 2**62]), np.array([5 * 10**15, 10**6]))
    }
    assert len(schemas) == 1
