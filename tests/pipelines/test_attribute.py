"""attribute: one number for each train row, which is a sampler at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from every_sample_kill import inline_sample
from prepare_kit import inline_prepare, random_rows, write_logs

from distill_at_scale.data import hashing
from distill_at_scale.data.dataset import Dataset
from distill_at_scale.distillation.attribution.rater import rank_correlation
from distill_at_scale.distillation.attribution.sampled_users import sample_users
from distill_at_scale.errors import DasError
from distill_at_scale.pipelines.attribute import LEAST_CORRELATION, _doubts, attribute


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("attribute")
    logs = write_logs(folder, random_rows(9, 1500, 80, 40, strings=True), 2)
    return inline_prepare(input=logs, output=str(folder / "data"), shards=2)


def test_values_are_a_sampler(tmp_path: Path, data: Dataset, ray_session: None) -> None:
    output, trained = str(tmp_path / "values.parquet"), str(tmp_path / "trained.parquet")
    small = {"epochs": 1, "dim": 4, "negatives": 2}
    through = attribute(data=data.uri, model="mf", output=trained, set=small)
    assert (through.lam, through.steps, through.settings) == (None, 1, small)
    result = attribute(data=data.uri, model="ease", output=output)
    assert result.steps is None
    assert result.lam is not None
    values = pl.read_parquet(output)
    assert pl.read_parquet(trained).drop("value").equals(values.drop("value"))
    train = data.to_frame("train").select("user_id", "item_id")
    assert values.columns == ["user_id", "item_id", "value"]
    assert values.select("user_id", "item_id").sort("user_id", "item_id").equals(train.sort("user_id", "item_id"))
    assert (result.rows, result.harmful) == (len(train), int((values["value"] < 0).sum()))
    assert result.lam > 0
    samples = inline_sample(
        data=data.uri, sampler="column=value", scores=output, budget=["0.3"], output=str(tmp_path / "samples")
    )
    kept = Dataset.open(samples.samples[0].uri).to_frame("train").select("user_id", "item_id")
    best = values.sort("value", descending=True).head(len(kept)).select("user_id", "item_id")
    assert kept.sort("user_id", "item_id").equals(best.sort("user_id", "item_id"))
    rated = attribute(data=data.uri, model="ease", output=output, users=60, overwrite=True)
    assert (rated.attributed_users, rated.rows) == (60, len(train))
    assert rated.rank_correlation is not None
    assert bool(rated.notes) == (rated.rank_correlation < LEAST_CORRELATION)
    scores = pl.read_parquet(output)
    assert scores.drop("value").equals(values.drop("value"))
    assert rated.harmful == int((scores["value"] < 0).sum())
    # The rater has seen three quarters of the users, whose values differ a little from those with all users.
    assert rank_correlation(scores["value"].to_numpy(), values["value"].to_numpy()) > 0.25
    again = attribute(data=data.uri, model="ease", output=trained, users=data.n_users, overwrite=True)
    assert again.attributed_users is None
    assert pl.read_parquet(trained).equals(values)


def test_scores_that_do_not_follow_the_values_are_not_recommended() -> None:
    assert _doubts(None) == _doubts(0.2) == _doubts(0.67) == []
    for correlation in (-0.16, 0.0, 0.19):
        (note,) = _doubts(correlation)
        assert f"{correlation:.2f}, is below 0.2. Do not sample by them" in note


def test_sampled_users_do_not_depend_on_shards(tmp_path: Path, data: Dataset) -> None:
    data.to_frame().write_csv(tmp_path / "log.csv")
    other = inline_prepare(input=str(tmp_path / "log.csv"), output=str(tmp_path / "whole"), shards=3)
    found = []
    for dataset in (data, other):
        some, fewer = sample_users(dataset, 15), sample_users(dataset, 8)
        ids = pl.concat([dataset.users(shard)["user_id"] for shard in range(len(dataset.shards))])
        hashes = hashing.combine(hashing.stream("attribute/users"), hashing.hash_ids(ids))
        np.testing.assert_array_equal(some.numbers, np.sort(np.argsort(hashes)[:15]))
        assert set(fewer.numbers) < set(some.numbers)
        np.testing.assert_array_equal(some.train.users, np.arange(15))
        for rows, split in ((some.train, "train"), (some.heldout, "validation")):
            np.testing.assert_array_equal(rows.items, dataset.interactions(split).take(some.numbers).items)
        assert len(sample_users(dataset, 1000).numbers) == len(ids)
        found.append(set(ids.gather(some.numbers)))
    assert found[0] == found[1]


def test_users_without_train_rows_are_not_sampled(tmp_path: Path) -> None:
    rows = [(user, item, split) for user in range(20) for item, split in ((user, "train"), (user + 1, "validation"))]
    rows += [(user, 3, "validation") for user in range(20, 60)]
    pl.DataFrame(rows, schema=["user_id", "item_id", "split"], orient="row").write_csv(tmp_path / "log.csv")
    data = inline_prepare(input=str(tmp_path / "log.csv"), output=str(tmp_path / "data"), split="column", shards=2)
    for wanted, found in ((12, 12), (50, 20)):
        assert len(sample_users(data, wanted).numbers) == found
        assert (sample_users(data, wanted).train.counts == 1).all()


def test_what_is_refused(tmp_path: Path, data: Dataset) -> None:
    asked: dict[str, Any] = {"data": data.uri, "model": "ease", "output": str(tmp_path / "values.parquet")}

    def refused(message: str, **other: Any) -> None:
        with pytest.raises(DasError, match=message):
            attribute(**(asked | other))

    refused("popularity", model="popularity")
    refused("objective", model="mf", set={"objective": "explicit"})
    refused("lam", set={"lam": -1})
    refused("must be at least 10", users=9)
    refused("lies in the dataset", output=f"{data.uri}/values.parquet")
    (tmp_path / "values.parquet").write_text("mine")
    refused("exists already")
    without = pl.DataFrame({"user_id": [1, 1], "item_id": [1, 2], "split": ["train", "test"]})
    without.write_csv(tmp_path / "log.csv")
    whole = inline_prepare(input=str(tmp_path / "log.csv"), output=str(tmp_path / "whole"), split="column")
    refused("has no validation rows", data=whole.uri, output=str(tmp_path / "other.parquet"))
