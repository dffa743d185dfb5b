"""attribute: one number for each train row, which is a sampler at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest
from every_sample_kill import inline_sample
from prepare_kit import inline_prepare, random_rows, write_logs

from distill_at_scale.data.dataset import Dataset
from distill_at_scale.errors import DasError
from distill_at_scale.pipelines.attribute import attribute


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


def test_what_is_refused(tmp_path: Path, data: Dataset) -> None:
    asked: dict[str, Any] = {"data": data.uri, "model": "ease", "output": str(tmp_path / "values.parquet")}

    def refused(message: str, **other: Any) -> None:
        with pytest.raises(DasError, match=message):
            attribute(**(asked | other))

    refused("popularity", model="popularity")
    refused("objective", model="mf", set={"objective": "explicit"})
    refused("lam", set={"lam": -1})
    refused("lies in the dataset", output=f"{data.uri}/values.parquet")
    (tmp_path / "values.parquet").write_text("mine")
    refused("exists already")
    without = pl.DataFrame({"user_id": [1, 1], "item_id": [1, 2], "split": ["train", "test"]})
    without.write_csv(tmp_path / "log.csv")
    whole = inline_prepare(input=str(tmp_path / "log.csv"), output=str(tmp_path / "whole"), split="column")
    refused("has no validation rows", data=whole.uri, output=str(tmp_path / "other.parquet"))
