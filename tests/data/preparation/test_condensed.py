"""Condensed columns are read back bit by bit, in few bytes."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from distill_at_scale.data.preparation.condensed import Condenser, lists_of, restored

rng = np.random.default_rng(0)
N = 5000
SECONDS = 1_600_000_000 + rng.integers(0, 10**6, N)
COLUMNS = {
    "nothing": np.zeros(0, dtype=np.int64),
    "one": np.array([-5]),
    "the whole range": np.array([2**63 - 1, -(2**63), 0, 1]),
    "constant": np.full(N, 7, dtype=np.int8),
    "bytes": rng.integers(-3, 200, N),
    "three bytes": rng.integers(0, 2_000_000, N).astype(np.int32),
    "four bytes": rng.integers(-(2**31), 2**31, N).astype(np.int32),
    "ids in no order": rng.integers(-(2**63), 2**63, N),
    "ids that repeat": rng.integers(-(2**63), 2**63, 50)[rng.integers(0, 50, N)],
    "short runs of ids": np.repeat(rng.integers(-(2**63), 2**63, N // 3), 3),
    "long runs": np.repeat(np.arange(20, dtype=np.int32), 250),
    "runs of more than 2⁸ rows": np.repeat(rng.integers(0, 2**62, 3), [1, 70_000, 300]),
    "seconds": SECONDS * 10**9,
    "milliseconds": SECONDS * 10**9 + 10**6 * rng.integers(0, 1000, N),
    "nanoseconds": SECONDS * 10**9 + rng.integers(0, 10**9, N),
    "all seconds but one": np.append(SECONDS * 10**9, 1),
    "half stars": (rng.integers(1, 11, N) / 2).astype(np.float32),
    "zeros of both signs": np.array([0.0, -0.0, 2.5], dtype=np.float32),
    "no half stars": rng.random(N, dtype=np.float32),
    "no numbers": np.array([np.nan, np.inf, -1, 127.5, 128], dtype=np.float32),
}


def columns() -> dict[str, pa.Array]:
    texts = [f"u{k}" for k in rng.integers(0, 30, N)]
    return {name: pa.array(values) for name, values in COLUMNS.items()} | {
        "texts": pa.array(texts, pa.large_string()),
        "sorted texts": pa.array(sorted(texts)),
        "distinct texts": pa.array([f"{k}" for k in range(N)]),
        "with nulls": pa.array([None, 1, 2], pa.int8()),
    }


@pytest.mark.parametrize("name", columns())
def test_read_back(name: str) -> None:
    array = columns()[name]
    whole = pa.record_batch({name: array})
    condenser = Condenser()
    # What one file learns of its first chunk holds for others, which may be of another kind.
    for start, stop in ((0, len(array)), (0, len(array) // 2), (len(array) // 2, len(array))):
        batch = whole.slice(start, stop - start)
        message = condenser.condense(batch).serialize()
        found = restored(pa.ipc.read_record_batch(message, condenser.condense(batch).schema))
        assert found.schema == batch.schema
        if array.null_count or not isinstance(array, pa.FloatArray):
            assert found.equals(batch)
        else:
            assert found.column(0).to_numpy().tobytes() == batch.column(0).to_numpy().tobytes()


@pytest.mark.parametrize(
    ("name", "most"),
    [
        ("constant", 0.02),
        ("bytes", 1.02),
        ("three bytes", 3.02),
        ("ids that repeat", 1.2),
        ("short runs of ids", 3.1),
        ("long runs", 0.1),
        ("seconds", 3.02),
        ("half stars", 0.7),
        ("ids in no order", 8.01),
    ],
)
def test_bytes_of_a_row(name: str, most: float) -> None:
    array = columns()[name]
    condensed = Condenser().condense(pa.record_batch({name: array}))
    assert condensed.nbytes / len(array) < most


def test_columns_are_read_alone() -> None:
    batch = Condenser().condense({"a": np.arange(5), "b": np.arange(5.0)})
    assert batch.schema.names == lists_of(["a", "b"])
    assert restored(batch.select(lists_of(["b"]))).to_pydict() == {"b": [0, 1, 2, 3, 4]}
