"""Packed rows are read back as they were."""

from __future__ import annotations

import polars as pl
import pytest

from distill_at_scale.data.preparation.item_ids import ItemIds
from distill_at_scale.data.preparation.packed import pack, unpack


@pytest.mark.parametrize("strings", [False, True])
@pytest.mark.parametrize("n", [0, 3])
def test_round_trip(n: int, strings: bool) -> None:
    items = [f"i{k}" for k in range(n)] if strings else list(range(5, 5 + n))
    kind = pl.String if strings else pl.Int64
    rows = pl.DataFrame(
        {
            "user_id": pl.Series(list(range(n)), dtype=pl.Int64),
            "item_id": pl.Series(items, dtype=kind),
            "rating": pl.Series([1.5] * n, dtype=pl.Float32),
            "timestamp": pl.Series([7] * n, dtype=pl.Int64),
            "split": pl.Series([1] * n, dtype=pl.Int8),
        }
    )
    item_ids = pl.Series("item_id", sorted([*items, *(["z"] if strings else [99])]), dtype=kind)
    known = ItemIds.of(item_ids)
    found = unpack(pack(rows, known), item_ids)
    assert found.drop("item").equals(rows)
    assert item_ids.gather(found["item"]).to_list() == items
    assert unpack(pack(rows, known), None).equals(found.drop("item_id"))
