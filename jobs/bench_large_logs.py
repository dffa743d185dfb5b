"""What prepare's exchange and the manifest cost on logs of billions of rows, mostly from metadata alone; prints JSON.

    python jobs/bench_large_logs.py [--output FILE]

Measures the bytes of a row in every form that unfinished work has, on rows in no order with 64-bit ids of 200 M users
and 2 M items (the worst case for compression), and the CPU-seconds of merging them; plans the exchange of larger logs
from these and counts opens; and reads manifests of 65,536 shards. Takes half a minute of one CPU and 200 MB of disk.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import pickle
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))

from distill_at_scale.data import manifest, storage  # noqa: E402
from distill_at_scale.data.hashing import mix  # noqa: E402
from distill_at_scale.data.preparation import buckets, fragments, restartable  # noqa: E402
from distill_at_scale.data.preparation.dealt import part_files, source_files  # noqa: E402
from distill_at_scale.data.preparation.exchange import Exchange  # noqa: E402
from distill_at_scale.data.preparation.fragments import Source  # noqa: E402
from distill_at_scale.data.preparation.item_ids import ItemIds  # noqa: E402
from distill_at_scale.data.preparation.packed import pack  # noqa: E402
from distill_at_scale.data.readers import LogOptions, plan_log  # noqa: E402
from distill_at_scale.data.readers.tables import FRAGMENT_ROWS  # noqa: E402
from distill_at_scale.data.recorded import FileRecord  # noqa: E402
from distill_at_scale.data.shard_records import ShardRecord, ShardRecords  # noqa: E402
from distill_at_scale.pipelines.preparing.job import ROWS_A_SHARD, _power_of_two  # noqa: E402

ITEMS, SHARDS = 2_000_000, 65_536


def log_of(rng: np.random.Generator, rows: int, users: int) -> pl.DataFrame:
    rank = (50 * ((ITEMS + 50) / 50) ** rng.random(rows) - 50).astype(np.uint64)
    return pl.DataFrame(
        {
            "user_id": (mix(rng.integers(0, users, rows).astype(np.uint64)) >> np.uint64(1)).astype(np.int64),
            "item_id": (mix(rank) >> np.uint64(1)).astype(np.int64),
            "rating": rng.integers(1, 6, rows).astype(np.float32),
            "timestamp": rng.integers(1_400_000_000, 1_600_000_000, rows),
        }
    )


def measure(folder: Path) -> dict[str, float]:
    """Bytes and CPU-seconds of a row: two fragments, of whose group a bucket has 4,600 rows, and a bucket of 1 M."""
    rng, n = np.random.default_rng(0), FRAGMENT_ROWS
    for k in range(2):
        log_of(rng, n, 200_000_000).write_parquet(folder / f"{k}.parquet", compression="zstd", statistics=False)
    log_bytes = sum(file.stat().st_size for file in folder.glob("*.parquet"))
    work, exchange = str(folder / "work"), Exchange(2, 128, 2)
    schema, pieces, _ = plan_log(LogOptions(input=[str(folder / f"{k}.parquet") for k in range(2)]))
    before = time.process_time()
    for k, piece in enumerate(pieces):
        fragments.partition(str(folder / "out"), work, Source(k, [piece], k), schema, exchange)
    read_s = time.process_time() - before
    found = [restartable.read_arrow(fragments.items_of(str(folder / "work" / "fragments"), k)) for k in range(2)]
    item_ids = ItemIds.of(pl.concat([pl.DataFrame(pl.from_arrow(table)) for table in found])["item_id"].unique().sort())
    # As many buckets as give chunks of the size that 10 G rows have: 105 fragments and 16,384 buckets, or 2 and 328.
    dealt = fragments.dealt_rows(work, exchange, 328)
    files = source_files(str(folder / "first"), 0, exchange)
    with part_files(files, exchange) as write:
        for rows in fragments.good_rows(pieces[0], schema):
            write(pack(rows, item_ids))
    dealt_bytes = 2 * sum(Path(file).stat().st_size for file in files)
    before = time.process_time()
    dealt.merge(0, lambda k: fragments.good_rows(pieces[k], schema), lambda rows: pack(rows, item_ids))
    merge_s = time.process_time() - before
    before = time.process_time()
    held = fragments.dealt_rows(str(folder / "held"), exchange, 328)
    held.merge(0, lambda k: fragments.good_rows(pieces[k], schema), lambda rows: pack(rows, item_ids), 2 * n)
    held_s = time.process_time() - before
    merged_bytes = sum(file.stat().st_size for file in (folder / "work" / "merged").rglob("*.chunks"))
    one = log_of(rng, ROWS_A_SHARD, 20_000)
    one.write_parquet(folder / "bucket.parquet")
    schema, pieces, _ = plan_log(LogOptions(input=[str(folder / "bucket.parquet")]))
    alone = str(folder / "alone")
    fragments.partition(str(folder / "out"), alone, Source(0, pieces, 0), schema, Exchange(1, 1, 1))
    dealt = fragments.dealt_rows(alone, Exchange(1, 1, 1), 1)
    ids = ItemIds.of(one["item_id"].unique().sort())
    dealt.merge(0, lambda k: fragments.good_rows(pieces[k], schema), lambda rows: pack(rows, ids))
    kept = buckets.build_bucket(alone, 0, dealt, ids, "last", None, 0).kept
    sorted_bytes = sum(file.stat().st_size for file in (folder / "alone" / "buckets").glob("*.arrow"))
    return {
        "log": log_bytes / (2 * n),
        "dealt": dealt_bytes / (2 * n),
        "merged": merged_bytes / (2 * n),
        "sorted": sorted_bytes / kept,
        "read_cpu_s_per_million_rows": read_s / (2 * n / 1e6),
        "deal_cpu_s_per_million_rows": merge_s / (2 * n / 1e6),
        "deal_held_cpu_s_per_million_rows": held_s / (2 * n / 1e6),
    }


def simulate(rows: int, bytes_: dict[str, float]) -> dict[str, Any]:
    n_buckets = _power_of_two(rows / ROWS_A_SHARD)
    exchange = Exchange.plan(-(-rows // FRAGMENT_ROWS), n_buckets, rows)
    forms = [bytes_[name] for name in ("dealt", "merged", "sorted")]
    peak = {
        f"{at_once} tasks at once": round(exchange.peak(*forms, n_buckets, at_once) / bytes_["log"], 3)
        for at_once in (2, 16, 64)
    }
    return {
        "rows": rows,
        "fragments": -(-rows // FRAGMENT_ROWS),
        "read_together": exchange.together,
        "buckets": n_buckets,
        "levels": 2 if exchange.merges else 1,
        "groups": len(exchange.groups),
        "opens": exchange.opens(n_buckets),
        "opens_of_one_level": -(-rows // FRAGMENT_ROWS) * n_buckets,
        "work_as_share_of_log": peak,
    }


def best_of(times: int, work: Callable[[], Any]) -> float:
    spent = []
    for _ in range(times):
        before = time.process_time()
        work()
        spent.append(time.process_time() - before)
    return round(min(spent), 4)


def manifests(folder: Path) -> dict[str, Any]:
    """CPU-seconds to read a manifest of 65,536 shards, with their records inside and beside it, and in a task."""

    def file(path: str) -> FileRecord:
        digest = hashlib.sha256(path.encode()).hexdigest()
        return FileRecord(path=path, bytes=10**7, sha256=digest, digest=digest[::-1])

    shards = ShardRecords.of(
        ShardRecord(
            data=file(f"shards/part-{k:05d}.parquet"),
            users=file(f"users/part-{k:05d}.parquet"),
            first_user=20_000 * k,
            n_users=20_000,
            rows=10**6,
            splits={"train": 960_000, "validation": 20_000, "test": 20_000},
        )
        for k in range(SHARDS)
    )
    whole = manifest.Manifest(
        n_users=20_000 * SHARDS, n_items=ITEMS, n_rows=10**6 * SHARDS, splits=shards.rows_of_splits(),
        split_rule={"name": "leave_2"}, has_ratings=True, has_timestamps=True,
        id_types={"user_id": "int64", "item_id": "int64"}, items=file("items.parquet"), item_space="0" * 32,
        shards=shards, dropped={}, source={}, config={}, made_with={},
    )  # fmt: skip
    found: dict[str, Any] = {"shards": SHARDS}
    for name, most in (("inline", SHARDS), ("parquet", 1024)):
        place = folder / name
        place.mkdir()
        manifest.MOST_INLINE = most
        whole.write(str(place))
        found[name] = {
            "bytes": sum(one.stat().st_size for one in place.iterdir()),
            "read_cpu_s": best_of(3, lambda place=place: manifest.read_manifest(str(place))),  # type: ignore[misc]
        }
    beside = manifest.read_manifest(str(folder / "parquet"))
    file_of_shards = beside.shards.file
    assert file_of_shards is not None
    uri = storage.join(str(folder / "parquet"), file_of_shards.path)
    found["parquet"] |= {
        "of_which_digest_cpu_s": best_of(3, lambda: storage.sha256(uri)),
        "fingerprint_cpu_s": best_of(3, lambda: beside.fingerprint),
        "manifest_json_bytes": (folder / "parquet" / "manifest.json").stat().st_size,
    }
    outside: list[pickle.PickleBuffer] = []
    inside = pickle.dumps(beside, protocol=5, buffer_callback=outside.append)
    shared = [pa.py_buffer(buffer.raw()) for buffer in outside]
    found["in_a_task"] = {
        "copied_bytes": len(inside),
        "shared_bytes": sum(buffer.size for buffer in shared),
        "cpu_s": best_of(5, lambda: pickle.loads(inside, buffers=shared)),
        "own_record_cpu_s": best_of(5, lambda: beside.shards[SHARDS // 2]),
    }
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="das-large-logs-") as place:
        folder = Path(place)
        bytes_ = {name: round(value, 3) for name, value in measure(folder).items()}
        found = {
            "command": "python jobs/bench_large_logs.py",
            "bytes_of_a_row": bytes_,
            "exchange": [simulate(rows, bytes_) for rows in (2 * 10**7, 10**8, 10**9, 10**10)],
            "manifest": manifests(folder),
        }
    text = json.dumps(found, indent=1) + "\n"
    if options.output:
        options.output.write_text(text)
    print(text, end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
