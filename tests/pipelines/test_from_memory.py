"""Frames and Ray Data's datasets become the Datasets that files with their rows become, and back."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from polars.testing import assert_frame_equal

import distill_at_scale as das
from distill_at_scale.data.dataset import Dataset
from distill_at_scale.errors import SettingError

NAMES = {"user": "visitor", "item": "sku", "rating": "stars", "time": "when"}


def log(seed: int = 0, users: int = 40) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    rows = [
        (f"v{user}", int(item), float(rng.integers(1, 6)), 1_500_000_000 + int(t) // 2, "buy", "x" * 50)
        for user in range(users)
        for t, item in enumerate(rng.choice(25, 7, replace=False))
    ]
    return pl.DataFrame(rows, schema=["visitor", "sku", "stars", "when", "kind", "noise"], orient="row")


@pytest.fixture(scope="module")
def prepared(ray_session: None, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("files")
    log().write_parquet(folder / "log.parquet")
    mapping = {"user_id": "visitor", "item_id": "sku", "rating": "stars", "timestamp": "when"}
    return das.prepare(folder / "log.parquet", output=folder / "data", shards=2, map=mapping)


@pytest.mark.parametrize("make", [pl.DataFrame.lazy, pl.DataFrame.to_pandas, pl.DataFrame.to_arrow])
def test_a_frame_is_what_a_file_with_its_rows_is(make: Any, prepared: Dataset, tmp_path: Path) -> None:
    made = Dataset.from_frame(make(log()), **NAMES, shards=2, output=tmp_path / "data")
    assert made.manifest.fingerprint == prepared.manifest.fingerprint
    assert made.manifest.source["inputs"] == ["a frame in memory"]
    assert made.manifest.source["rows"] == log().height
    assert os.listdir(tmp_path) == ["data"]


def test_rows_of_ray_data_are_written_by_the_workers(prepared: Dataset, tmp_path: Path) -> None:
    import ray.data

    rows = ray.data.from_arrow([log().to_arrow().slice(start, 70) for start in range(0, 280, 70)])
    made = Dataset.from_ray(rows, **NAMES, shards=2, output=tmp_path / "data")
    assert made.manifest.fingerprint == prepared.manifest.fingerprint
    assert made.manifest.source["files"] == 4
    assert os.listdir(tmp_path) == ["data"]


def test_without_an_output_it_lies_in_a_temporary_folder(ray_session: None) -> None:
    made = Dataset.from_frame(log(), **NAMES, where={"kind": ["buy"]}, min_rating=3)
    assert Path(made.uri).is_dir()
    assert made.manifest.dropped["min_rating"] > 0


def test_rows_come_back_as_frames_matrices_and_ray_datasets(prepared: Dataset) -> None:
    frame = prepared.to_frame()
    ours = log().select(user_id="visitor", item_id="sku", rating=pl.col("stars").cast(pl.Float32), timestamp="when")
    keys = ["user_id", "item_id"]
    theirs = frame.with_columns(pl.col("timestamp") // 1000).drop("split")
    assert_frame_equal(theirs.sort(keys), ours.sort(keys))
    assert set(frame["split"].unique()) == {"train", "validation", "test"}
    rows = pl.concat(
        [pl.DataFrame(pl.from_arrow(pa.table(b))) for b in prepared.to_ray().iter_batches(batch_format="pyarrow")]
    )
    assert_frame_equal(rows.sort(keys), frame.sort(keys))
    numbers = prepared.to_frame("train", ids="number")
    assert numbers.columns == ["user", "item", "rating", "timestamp", "split"]
    matrix = prepared.to_csr("train")
    assert matrix.shape == (prepared.n_users, prepared.n_items)
    assert np.array_equal(matrix.toarray().nonzero()[0], numbers.sort("user", "item")["user"])
    assert prepared.to_csr("train", values="rating").sum() == numbers["rating"].sum()
    # What came out goes in again.
    again = Dataset.from_frame(frame, split="column", shards=2)
    assert again.manifest.fingerprint == prepared.manifest.fingerprint


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"user": "u"}, "no column 'u' .user='u'.; its columns are visitor, sku, stars, when, kind, noise."),
        ({"user": "visiter"}, "Did you mean 'visitor'"),
        ({}, "no column that is user_id for certain"),
        ({**NAMES, "split": "leave_3"}, "leave_3"),
        ({**NAMES, "outputs": "x"}, "outputs"),
        ({**NAMES, "split": "column"}, "Name it with split=COLUMN"),
    ],
)
def test_wrong_calls_are_sentences(given: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=sentence):
        Dataset.from_frame(log(users=1), **given, **({} if "outputs" in given else {"output": tmp_path / "data"}))
    assert os.listdir(tmp_path) == []


def test_things_that_are_no_rows(prepared: Dataset) -> None:
    with pytest.raises(SettingError, match="A int is not a frame"):
        Dataset.from_frame(7)
    with pytest.raises(SettingError, match=r"A DataFrame is not a ray.data.Dataset; Dataset.from_frame takes frames"):
        Dataset.from_ray(pd.DataFrame())
    with pytest.raises(SettingError, match="ids 'own' is not one of original, number"):
        prepared.to_frame(ids="own")  # type: ignore[arg-type]
    with pytest.raises(SettingError, match="unknown split 'all'"):
        prepared.to_ray("all")
