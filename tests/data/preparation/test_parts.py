"""Parts: done once, counted sparsely, and dealt so that every bucket finds its rows."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from distill_at_scale.data import hashing, recorded
from distill_at_scale.data.noticed import Notice
from distill_at_scale.data.preparation import fragments, restartable
from distill_at_scale.data.preparation.exchange import Exchange
from distill_at_scale.data.preparation.part_record import PartRecord
from distill_at_scale.data.readers import LogOptions, plan_log
from distill_at_scale.errors import DasError


@dataclass(frozen=True)
class Counted(PartRecord):
    rows: int


def test_once(tmp_path: Path) -> None:
    record = str(tmp_path / "deep" / "part.json")
    calls: list[int] = []

    def build() -> Counted:
        calls.append(1)
        if len(calls) == 1:
            raise DasError("the first try fails.")
        return Counted(3)

    with pytest.raises(DasError):
        restartable.once(record, Counted, build)
    assert restartable.once(record, Counted, build) == Counted(3)
    assert restartable.once(record, Counted, build) == Counted(3, reused=True)
    assert len(calls) == 2


def test_record_of_another_version_is_made_again(tmp_path: Path) -> None:
    record = str(tmp_path / "part.json")
    recorded.write_json(record, {"lines": 3})
    assert restartable.once(record, Counted, lambda: Counted(4)) == Counted(4)
    assert restartable.once(record, Counted, lambda: Counted(5)) == Counted(4, reused=True)


def test_records_are_stored_as_plain_json_in_the_order_of_their_fields() -> None:
    notice = Notice(what="odd", count=2)
    record = fragments.SourceRecord(
        rows=3,
        good=2,
        reasons={"odd": 1},
        quarantine=("quarantine/part-00000.parquet",),
        has_items=True,
        times=(1, 2),
        left_out={},
        seen=(("event", "buy"),),
        noticed=(notice,),
        reused=True,
    )
    stored = record.to_json()
    assert json.dumps(stored) == (
        '{"rows": 3, "good": 2, "reasons": {"odd": 1}, "quarantine": ["quarantine/part-00000.parquet"], '
        '"has_items": true, "times": [1, 2], "left_out": {}, "seen": [["event", "buy"]], '
        '"noticed": [{"what": "odd", "count": 2, "unit": "row", "example": ""}]}'
    )
    assert fragments.SourceRecord.from_json(json.loads(json.dumps(stored))) == replace(record, reused=False)


def test_counts_add_up(tmp_path: Path) -> None:
    vectors = [np.array([0, 3, 0, 1]), np.array([], dtype=np.int64), np.array([5]), np.zeros(9, dtype=np.int64)]
    for k, vector in enumerate(vectors):
        restartable.write_counts(str(tmp_path / f"{k}"), vector)
    restartable.sum_counts([str(tmp_path / f"{k}") for k in range(4)], str(tmp_path / "sum"))
    total = np.ones(6, dtype=np.int64)
    restartable.add_counts(str(tmp_path / "sum"), total)
    assert total.tolist() == [6, 4, 1, 2, 1, 1]
    restartable.sum_counts([str(tmp_path / "1"), str(tmp_path / "3")], str(tmp_path / "nothing"))
    restartable.add_counts(str(tmp_path / "nothing"), total)
    assert total.tolist() == [6, 4, 1, 2, 1, 1]


@pytest.mark.parametrize("strings", [False, True])
@pytest.mark.parametrize("n_buckets", [1, 2, 5, 300])
def test_every_bucket_finds_its_rows(tmp_path: Path, n_buckets: int, strings: bool) -> None:
    """Two fragments, one of them with a bad row and one that is all bad; most of 300 buckets are empty."""
    rng = np.random.default_rng(3)
    users = rng.integers(0, 50, 400)
    log = pl.DataFrame({"user_id": [f"u{u}" for u in users] if strings else users, "item_id": np.arange(400)})
    log = log.with_columns(rating=pl.lit(1.0))
    log[:250].vstack(log[:1].with_columns(rating=pl.lit(float("nan")))).write_parquet(tmp_path / "0.parquet")
    log[250:].write_parquet(tmp_path / "1.parquet")
    log[:3].with_columns(rating=pl.lit(float("inf"))).write_parquet(tmp_path / "2.parquet")
    out, work = str(tmp_path / "out"), str(tmp_path / "out" / "_work")
    schema, pieces, _ = plan_log(LogOptions(input=[str(tmp_path / f"{k}.parquet") for k in range(3)]))
    exchange = Exchange(3, n_buckets)
    records = [
        fragments.partition(out, work, fragments.Source(k, [one], k), schema, exchange) for k, one in enumerate(pieces)
    ]
    assert [r.rows for r in records] == [251, 150, 3]
    assert [r.good for r in records] == [250, 150, 0]
    assert [r.quarantine for r in records] == [
        ("quarantine/part-00000.parquet",),
        (),
        ("quarantine/part-00002.parquet",),
    ]
    assert records[0].reasons == {"rating is not finite": 1}
    owner = hashing.share(hashing.hash_ids(log["user_id"]), n_buckets)
    for bucket in range(n_buckets):
        found = fragments.dealt_rows(work, exchange, n_buckets).read(bucket)
        wanted = np.flatnonzero(owner == bucket).tolist()
        assert (found["item_id"].sort().to_list() if found.height else []) == wanted
    bad = pl.read_parquet(tmp_path / "out" / "quarantine" / "part-00000.parquet")
    assert bad.select("reason", "source", "row").rows() == [
        ("rating is not finite", str(tmp_path / "0.parquet"), 251),
    ]


def test_item_ids_merge_sorted_and_distinct(tmp_path: Path) -> None:
    for k, ids in enumerate(([5, -(2**63), 7], [7, 2**63 - 1], [0])):
        restartable.write_arrow(str(tmp_path / f"{k}"), restartable.to_table(pl.DataFrame({"item_id": ids})))
    assert fragments.merge_item_ids([str(tmp_path / f"{k}") for k in range(3)], str(tmp_path / "all")) == 5
    merged = restartable.read_arrow(str(tmp_path / "all"))["item_id"].to_pylist()
    assert merged == [-(2**63), 0, 5, 7, 2**63 - 1]
