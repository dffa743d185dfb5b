"""A small Dataset, written file by file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from distill_at_scale.data.dataset import SHARD_SCHEMA, WEIGHT_FIELD, Dataset
from distill_at_scale.data.manifest import Manifest
from distill_at_scale.data.preparation.shards import write_parquet

SPLITS = ("train", "validation", "test")
Row = tuple[int, int, float, int, int]


def manifest_of(
    folder: Path,
    shards: list[list[Row]],
    users: list[int],
    n_items: int,
    weights: list[list[float]] | None = None,
    **fields: Any,
) -> dict[str, Any]:
    """Writes the files of shards of rows (user, item, rating, time, split) with these numbers of users, and perhaps the
    rows' weights; what the manifest must say."""
    output = str(folder)
    records: list[dict[str, Any]] = []
    first = 0
    for k, (rows, n_users) in enumerate(zip(shards, users)):
        columns = [pa.array([row[k] for row in rows], field.type) for k, field in enumerate(SHARD_SCHEMA)]
        table = pa.table(columns, schema=SHARD_SCHEMA)
        if weights is not None:
            table = table.append_column(WEIGHT_FIELD, pa.array(weights[k], WEIGHT_FIELD.type))
        numbers = list(range(first, first + n_users))
        counts = {name: [sum(r[0] == u and r[4] == c for r in rows) for u in numbers] for c, name in enumerate(SPLITS)}
        people = pa.table({"user": numbers, "user_id": [f"u{u}" for u in numbers], **counts})
        records.append(
            {
                "data": write_parquet(output, f"shards/part-{k:05d}.parquet", table).model_dump(),
                "users": write_parquet(output, f"users/part-{k:05d}.parquet", people).model_dump(),
                "first_user": first,
                "n_users": n_users,
                "rows": len(rows),
                "splits": {name: sum(n) for name, n in counts.items()},
            }
        )
        first += n_users
    train = [row[1] for rows in shards for row in rows if row[4] == 0]
    items = pa.table(
        {
            "item": pa.array(range(n_items), pa.int32()),
            "item_id": [10 * i for i in range(n_items)],
            "train_count": np.bincount(train, minlength=n_items),
        }
    )
    return {
        "n_users": first,
        "n_items": n_items,
        "n_rows": sum(map(len, shards)),
        "splits": {name: sum(r["splits"][name] for r in records) for name in SPLITS},
        "split_rule": {"name": "leave_2"},
        "has_ratings": True,
        "has_timestamps": True,
        "id_types": {"user_id": "string", "item_id": "int64"},
        "items": write_parquet(output, "items.parquet", items).model_dump(),
        "item_space": "x",
        "shards": records,
        "dropped": {},
        "source": {},
        "config": {},
        "made_with": {},
        **({"weight_meaning": "1/p"} if weights is not None else {}),
        **fields,
    }


def write_dataset(folder: Path, shards: list[list[Row]], users: list[int], n_items: int, **fields: Any) -> Dataset:
    """A finished Dataset of them."""
    Manifest.model_validate(manifest_of(folder, shards, users, n_items, **fields)).write(str(folder))
    return Dataset.open(str(folder))
