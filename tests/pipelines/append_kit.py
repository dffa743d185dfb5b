"""Random logs that arrive in several batches, and the settings to prepare them with."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import polars as pl

LOG = ("user_id", "item_id", "rating", "timestamp", "split")


def random_case(seed: int, folder: Path) -> tuple[list[list[str]], dict[str, Any]]:
    """The files of two to four batches of a log, and settings that fit it."""
    rng = random.Random(seed)
    split = rng.choice(["leave_2", "20_percent_hist", "temporal", "column"])
    in_order = split == "leave_2" and rng.random() < 0.15
    timed = not in_order and (split in ("leave_2", "temporal") or rng.random() < 0.5)
    rated, strings, fine = rng.random() < 0.6, rng.random() < 0.4, rng.random() < 0.2
    settings: dict[str, Any] = {
        "split": split,
        "seed": rng.randrange(3),
        "min_user": rng.choice([1, 1, 2, 4]),
        "min_item": rng.choice([1, 1, 2, 3]),
        "duplicates": rng.choice(["last", "last", "first", "all"]),
        "min_rating": rng.choice([None, 1.0, 3.5]) if rated else None,
        "shards": rng.choice([None, 1, 3, 8]),
        "max_bad_share": 0.5,
        **({"order": "file"} if in_order else {}),
    }
    users, items = rng.randrange(2, 25), rng.randrange(2, 20)
    ways = {"csv": pl.DataFrame.write_csv, "parquet": pl.DataFrame.write_parquet}
    # One kind of file each, since the types of a text file are guessed from its first rows.
    kind = rng.choice(list(ways))
    batches = []
    for batch in range(rng.randrange(2, 5)):
        paths = []
        for k in range(rng.randrange(1, 3)):
            rows = [_row(rng, users + 3 * batch, items + 2 * batch, strings) for _ in range(rng.randrange(1, 50))]
            columns = [True, True, rated, timed, split == "column"]
            frame = pl.DataFrame(rows, schema=list(LOG), orient="row", infer_schema_length=None)
            frame = frame.select([name for name, there in zip(LOG, columns) if there])
            if timed and not fine:
                frame = frame.with_columns(pl.col("timestamp") // 10**6 * 10**6)
            if rated and rng.random() < 0.3:
                # A bad row, which goes to quarantine.
                bad = pl.int_range(pl.len()) == 1
                frame = frame.with_columns(rating=pl.when(bad).then(float("nan")).otherwise(pl.col("rating")))
            paths.append(str(folder / f"log-{batch}-{k}.{kind}"))
            ways[kind](frame, paths[-1])
        batches.append(paths)
    return batches, settings


def _row(rng: random.Random, users: int, items: int, strings: bool) -> tuple[Any, ...]:
    user, item = rng.randrange(users) * 7919, min(int(rng.paretovariate(0.8)), items) * 31
    time = 1_600_000_000 * 10**9 + rng.randrange(60) * 10**9 + rng.choice([0, 0, 123_456])
    ids = (f"u{user}", f"ä-{item}") if strings else (user, item)
    return (*ids, rng.randrange(1, 11) / 2, time, rng.choice([-1, 0, 0, 1, 2]))
