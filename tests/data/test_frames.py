"""Frames of any library become numbered rows, by the rules of prepare; what is wrong with one is said in a sentence."""

from __future__ import annotations

from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from distill_at_scale.data.frames import find_columns, is_frame, number, read_log, to_polars
from distill_at_scale.errors import SettingError

TABLE = {"u": ["b", "a", "b", "a"], "i": [7, 7, 5, 9], "when": [30, 20, 10, 10], "stars": [1.0, 2.0, 3.0, 4.0]}
NAMES = {"user_id": "u", "item_id": "i", "timestamp": "when", "rating": "stars"}


def of_duckdb(table: dict[str, list[Any]]) -> Any:
    frame = pl.DataFrame(table)  # DuckDB finds it by its name
    return duckdb.sql("select * from frame").fetch_arrow_reader() if frame.height else None


@pytest.mark.parametrize("make", [pl.DataFrame, pl.LazyFrame, pd.DataFrame, pa.table, of_duckdb])
def test_frames_of_every_library_are_the_same_rows(make: Any) -> None:
    frame = make(TABLE)
    assert is_frame(frame)
    log = number(read_log(frame, NAMES))
    assert log.user_ids.to_list() == ["a", "b"]
    assert log.item_ids.to_list() == [5, 7, 9]
    assert log.train.items.tolist() == [2, 1, 0, 1]  # each user's rows by time
    assert log.train.offsets.tolist() == [0, 2, 4]
    assert log.train.ratings is not None
    assert log.train.ratings.tolist() == [4.0, 2.0, 3.0, 1.0]
    assert log.validation is None


def test_categories_nullable_integers_and_a_named_index() -> None:
    frame = pd.DataFrame({"user_id": pd.Categorical(["x", "y", "x"]), "item_id": pd.array([1, 2, 2], "Int64")})
    log = number(read_log(frame.set_index("user_id")))
    assert log.user_ids.to_list() == ["x", "y"]
    assert log.train.items.tolist() == [0, 1, 1] or log.train.items.tolist() == [1, 0, 1]


def test_of_a_pair_the_last_row_stays_and_splits_are_parted() -> None:
    frame = pl.DataFrame(
        {
            "user_id": [1, 1, 1, 2, 2],
            "item_id": [4, 4, 5, 4, 6],
            "timestamp": [1.0, 3.0, 2.0, 1.0, 2.0],
            "rating": [1, 2, 3, 4, 5],
            "split": ["train", "train", "validation", "train", "-1"],
        }
    )
    log = number(read_log(frame))
    assert log.train.ratings is not None
    assert log.train.ratings.tolist() == [2.0, 4.0]
    assert log.validation is not None
    assert log.validation.counts.tolist() == [1, 0]
    assert log.test is None
    assert log.item_ids.to_list() == [4, 5]


@pytest.mark.parametrize("unit", [1, 1_000, 1_000_000, 1_000_000_000])
def test_times_are_milliseconds_whatever_their_unit(unit: int) -> None:
    seconds = np.array([1_500_000_000, 1_500_000_060])
    frame = pl.DataFrame({"user_id": [1, 1], "item_id": [1, 2], "timestamp": seconds * unit})
    times = number(read_log(frame)).train.timestamps
    assert times is not None
    assert times.tolist() == [1_500_000_000_000, 1_500_000_060_000]
    dates = frame.with_columns(timestamp=pl.from_epoch(pl.Series(seconds), "s"))
    assert np.array_equal(number(read_log(dates)).train.timestamps, times)


def test_known_items_keep_their_numbers_and_unknown_ones_are_counted() -> None:
    frame = pl.DataFrame({"user_id": [1, 1, 2], "item_id": ["c", "a", "z"]})
    log = number(read_log(frame), pl.Series(["c", "b", "a"]))
    assert sorted(log.train.items.tolist()) == [0, 2]
    assert (log.train.n_items, log.unknown_items) == (3, 1)
    with pytest.raises(SettingError, match="item ids are String, those of the model are Int64; cast them"):
        number(read_log(frame), pl.Series([1, 2]))


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (
            {"user_id": "visiter"},
            "The frame has no column 'visiter' (user='visiter'); its columns are visitor, item_id, n. "
            "Did you mean 'visitor'?",
        ),
        (
            {},
            "The frame has no column that is user_id for certain; its columns are visitor, item_id, n. Name it with "
            "user=COLUMN.",
        ),
    ],
)
def test_columns_that_are_not_there(names: dict[str, str | None], sentence: str) -> None:
    with pytest.raises(SettingError) as error:
        find_columns(["visitor", "item_id", "n"], names)
    assert str(error.value) == sentence


@pytest.mark.parametrize(
    ("frame", "sentence"),
    [
        (
            pl.DataFrame({"user_id": [1, None], "item_id": [1, 2]}),
            "1 of 2 rows of the frame is bad, the first at posi",
        ),
        (pl.DataFrame({"user_id": [1.5], "item_id": [1]}), "position 0: user_id is not a whole number"),
        (pl.DataFrame({"user_id": [[1]], "item_id": [1]}), r"'user_id' of the frame holds List\(Int64\); ids are"),
        (pl.DataFrame({"user_id": [True], "item_id": [1]}), "holds Boolean; ids are integers or text"),
        (pd.DataFrame({"user_id": [1, "a"], "item_id": [1, 2]}), "give each column one type"),
        ({"user_id": [1]}, "A dict is not a frame"),
    ],
)
def test_what_is_no_log(frame: Any, sentence: str) -> None:
    with pytest.raises(SettingError, match=sentence):
        read_log(frame)


def test_nothing_is_copied_of_polars() -> None:
    frame = pl.DataFrame(TABLE)
    assert to_polars(frame) is frame
