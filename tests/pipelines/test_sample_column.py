"""column=NAME: scores from outside are a sampler, and what is refused of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from prepare_kit import frame, inline_prepare, random_rows

import distill_at_scale as das
from distill_at_scale.data.columns import TRAIN
from distill_at_scale.data.dataset import Dataset
from distill_at_scale.data.row_values import ValueFiles
from distill_at_scale.errors import DasError, SettingError
from distill_at_scale.pipelines.runtime import dealt_values
from distill_at_scale.samplers.column import read_column
from distill_at_scale.samplers.train_rows import read_train_rows


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("column")
    frame(random_rows(3, 3000, 80, 60, strings=True)).write_parquet(folder / "log.parquet")
    return inline_prepare(input=[str(folder / "log.parquet")], output=str(folder / "data"), split="leave_2", shards=2)


def train(dataset: Dataset) -> pl.DataFrame:
    """user_id · item_id · rating of every train row."""
    items, parts = dataset.items().select("item", "item_id"), []
    for shard in range(len(dataset.shards)):
        rows = pl.DataFrame(pl.from_arrow(dataset.table(shard))).filter(pl.col("split") == TRAIN)
        parts.append(rows.join(dataset.users(shard).select("user", "user_id"), on="user").join(items, on="item"))
    return pl.concat(parts).select("user_id", "item_id", "rating")


def scored(dataset: Dataset, seed: int = 0) -> pl.DataFrame:
    rows = train(dataset)
    return rows.with_columns(quality=np.random.default_rng(seed).permutation(len(rows)).astype(np.float64))


def test_the_largest_scores_are_kept(
    data: Dataset, tmp_path: Path, ray_session: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = scored(data)
    monkeypatch.setattr(dealt_values, "FEW_SHARDS", 1)
    (tmp_path / "scores").mkdir()
    shuffled = scores.sample(fraction=1.0, shuffle=True, seed=1)
    shuffled[:400].select("item_id", "quality", "user_id").write_parquet(tmp_path / "scores" / "a.parquet")
    shuffled[400:].select("user_id", "item_id", "quality").write_csv(tmp_path / "scores" / "b.csv", separator=";")
    made = das.sample(
        data, "column=quality", scores=str(tmp_path / "scores"), budget=[0.5, 0.1], output=str(tmp_path / "out")
    )
    assert [Path(one.uri).name for one in made.samples] == ["column=quality-0.5", "column=quality-0.1"]
    for one in made.samples:
        sample = Dataset.open(one.uri)
        best = scores.sort("quality", descending=True)[: one.rows]
        assert train(sample).sort("user_id", "item_id").equals(best.drop("quality").sort("user_id", "item_id"))
        assert sample.manifest.config["scores"] == str(tmp_path / "scores")
        assert sample.manifest.splits["test"] == data.manifest.splits["test"]
        stages = json.loads((Path(one.uri) / "run.json").read_text())["stages"]
        assert [stage["tasks"] for stage in stages if stage["stage"] == "deal quality by user"] == [2]
    assert not (tmp_path / "out" / "_work").exists()

    # Scores of users keep whole users.
    users = scores.group_by("user_id").agg(pl.col("quality").mean())
    users.write_csv(tmp_path / "users.csv")
    (one,) = das.sample(
        data, "column=quality", scores=str(tmp_path / "users.csv"), budget=0.3, output=str(tmp_path / "users")
    ).samples
    kept = train(Dataset.open(one.uri))
    best = users.sort("quality", descending=True)["user_id"][: kept["user_id"].n_unique()]
    assert set(kept["user_id"]) == set(best)
    assert len(kept) == len(scores.filter(pl.col("user_id").is_in(best.implode())))

    # A dataset's own column needs no file.
    (one,) = das.sample(data, "column=rating", budget=0.2, output=str(tmp_path / "rated")).samples
    kept = train(Dataset.open(one.uri))
    cut = kept["rating"].min()
    assert kept["rating"].mean() > train(data)["rating"].mean() + 1
    assert len(train(data).filter(pl.col("rating") > cut)) < len(kept)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda s: s[1:],
            r"1 of \d+ train rows of shard 0 have no value of 'quality'; the first is of user 'u.* and item",
        ),
        (lambda s: pl.concat([s, s[:1]]), r"user 'u\d+' and item 'ä-\d+' has several values of 'quality'; keep one"),
        (
            lambda s: s.with_columns(quality=pl.lit("good")),
            r"'good' in column 'quality' of user .* is not a finite number",
        ),
        (
            lambda s: s.with_columns(quality=pl.when(pl.int_range(pl.len()) == 3).then(float("nan")).otherwise(1.0)),
            r"'nan' in column 'quality' of user 'u\d+' and item 'ä-\d+' is not a finite number; give every row one",
        ),
        (
            lambda s: s.with_columns(quality=pl.when(pl.int_range(pl.len()) == 3).then(None).otherwise(1.0)),
            r"'None' in column 'quality' of user",
        ),
    ],
)
def test_scores_that_lack_or_are_no_numbers(data: Dataset, tmp_path: Path, change: object, message: str) -> None:
    first = read_train_rows(data, 0)
    users = data.users(0)["user_id"]
    own = scored(data).filter(pl.col("user_id").is_in(users.implode()))
    place = tmp_path / "scores.parquet"
    own.write_parquet(place)
    found = read_column(data, 0, first, "quality", ValueFiles.open(str(place), "quality"))
    assert (found.values.tolist(), found.of_users) == (own["quality"].to_list(), False)
    change(own).write_parquet(place)  # type: ignore[operator]
    with pytest.raises(DasError, match=message):
        read_column(data, 0, first, "quality", ValueFiles.open(str(place), "quality"))


def test_columns_that_do_not_exist(data: Dataset, tmp_path: Path) -> None:
    def sample(sampler: str, **more: object) -> None:
        das.sample(**{"data": data.uri, "sampler": sampler, "budget": 0.5, "output": str(tmp_path / "out"), **more})

    with pytest.raises(
        SettingError, match="has only rating and timestamp, no column 'quality'; name the file or folder"
    ):
        sample("column=quality")
    with pytest.raises(SettingError, match=r"none: no such file or folder of column 'quality'"):
        sample("column=quality", scores=str(tmp_path / "none"))
    scored(data).write_parquet(tmp_path / "scores.parquet")
    with pytest.raises(
        SettingError, match=r"missing column 'fraud'; its columns are user_id, item_id, rating, quality"
    ):
        sample("column=fraud", scores=str(tmp_path / "scores.parquet"))
    with pytest.raises(SettingError, match="name a column of scores, as column=quality"):
        sample("column=")
    with pytest.raises(SettingError, match="--scores is of --sampler column=NAME; leave it out for random"):
        sample("random", scores=str(tmp_path / "scores.parquet"))
    with pytest.raises(SettingError, match="'colum=x' is not one of"):
        sample("colum=x")
