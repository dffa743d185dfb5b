"""forget: the rows and ids of users are gone, exactly; synthetic data are those of the log without them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from every_sample_kill import inline_sample
from forget_kit import file_of, inline_forget, users_of
from prepare_kit import inline_prepare, random_rows, write_logs

import distill_at_scale as das
from distill_at_scale.data.dataset import Dataset
from distill_at_scale.distillation.synthetic import SyntheticDataset
from distill_at_scale.errors import DasError, OutputExistsError, SettingError
from distill_at_scale.pipelines import forget as verb
from distill_at_scale.pipelines.distill import distill
from distill_at_scale.pipelines.forget import forget
from distill_at_scale.pipelines.runtime import used_model
from distill_at_scale.pipelines.runtime.run_record import RunRecord


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("forget")
    logs = write_logs(folder, random_rows(5, 1500, 60, 40, strings=True), 2)
    return inline_prepare(input=logs, output=str(folder / "data"), shards=3)


@pytest.mark.parametrize("of", ["log", "sample"])
def test_a_dataset_is_what_is_left(tmp_path: Path, data: Dataset, of: str) -> None:
    if of == "sample":
        samples = inline_sample(data=data.uri, sampler="random", budget=["0.5"], output=str(tmp_path / "samples"))
        data = Dataset.open(samples.samples[0].uri)
    # All users of one shard are among them.
    first = data.users(0)["user_id"].to_list()
    ids = [*first, *users_of(data).to_list()[len(first) :: 4]]
    result = inline_forget(data=data.uri, users=file_of(tmp_path, [*ids, "nobody"]), output=str(tmp_path / "left"))
    left = Dataset.open(str(tmp_path / "left"))
    left.verify()
    whole = data.to_frame()
    stays = ~pl.col("user_id").is_in(ids)
    assert left.to_frame().equals(whole.filter(stays))
    assert users_of(left).equals(users_of(data).filter(~users_of(data).is_in(ids)))
    assert left.item_ids().equals(data.item_ids())
    assert left.manifest.item_space == data.manifest.item_space
    counts = np.bincount(left.interactions("train").items, minlength=left.n_items)
    np.testing.assert_array_equal(left.train_counts(), counts)
    for shard in range(len(left.shards)):
        table, users = left.rows(shard, ids="number"), left.users(shard)
        assert table["user"].is_between(users["user"].min(), users["user"].max()).all()
        per_user = table.filter(pl.col("split") == "train").group_by("user").len()
        joined = users.join(per_user, on="user", how="left").with_columns(pl.col("len").fill_null(0))
        assert (joined["train"] == joined["len"]).all()
    assert (result.users, result.missing, result.kind) == (len(ids), 1, "dataset")
    assert result.rows == len(whole.filter(~stays & (pl.col("split") == "train")))
    # Nothing in the folder names them.
    content = b"".join(file.read_bytes() for file in (tmp_path / "left").rglob("*.json"))
    assert not any(user.encode() in content for user in ids)
    assert not (tmp_path / "left" / "_work").exists()


def test_a_model_of_the_users_before_serves_those_who_stay_as_new_ones(tmp_path: Path, data: Dataset) -> None:
    """Their numbers are now those of others."""
    uri, left = str(tmp_path / "mf"), str(tmp_path / "left")
    model = das.models.MF(epochs=5, dim=4, device="cpu").fit(data)
    model.save(uri)
    RunRecord("fit", {}, trained_on=data.manifest.of_heldout()).write(uri)
    inline_forget(data=data.uri, users=file_of(tmp_path, users_of(data).to_list()[:7]), output=left)
    of, stay = used_model.described(uri), Dataset.open(left)
    assert of.strangers_note(data) == []
    (said,) = of.strangers_note(stay)
    assert "all users are served as new ones, by their histories" in said
    assert said in of.foreign_note(stay)
    histories = stay.interactions("train")
    new = replace(histories, users=histories.users + 10**6)
    found = used_model._loaded(uri, (), foreign=True).score(histories)
    np.testing.assert_array_equal(found, model.score(new))
    assert not np.allclose(found, used_model._loaded(uri, (), foreign=False).score(histories))


def test_a_killed_run_goes_on(tmp_path: Path, data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {"data": data.uri, "users": file_of(tmp_path, users_of(data).to_list()[::3])}
    inline_forget(**asked, output=str(tmp_path / "whole"))
    written = verb.remaining.write_shard

    def dies(dataset: Dataset, shard: int, *arguments: Any) -> Any:
        if shard == 1:
            raise KeyboardInterrupt
        return written(dataset, shard, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(verb.remaining, "write_shard", dies)
        with pytest.raises(KeyboardInterrupt):
            inline_forget(**asked, output=str(tmp_path / "again"))
    with pytest.raises(DasError, match="has not finished"):
        Dataset.open(str(tmp_path / "again"))
    seen = []
    monkeypatch.setattr(
        verb.remaining, "write_shard", lambda data, shard, *more: seen.append(shard) or written(data, shard, *more)
    )
    inline_forget(**asked, output=str(tmp_path / "again"))
    assert seen == [1, 2]
    whole, again = (Dataset.open(str(tmp_path / name)).manifest for name in ("whole", "again"))
    assert whole == again


def test_what_is_refused(tmp_path: Path, data: Dataset) -> None:
    some = file_of(tmp_path, users_of(data).to_list()[:2])

    def refused(kind: type[DasError], message: str, **changed: Any) -> None:
        with pytest.raises(kind, match=message):
            inline_forget(**({"data": data.uri, "users": some, "output": str(tmp_path / "left")} | changed))

    everybody, nobody = tmp_path / "everybody.csv", tmp_path / "nobody.txt"
    pl.DataFrame({"user_id": users_of(data)}).write_csv(everybody)
    nobody.write_text("x\ny")
    refused(DasError, "names all users", users=str(everybody))
    refused(DasError, "none of the 2 users|'x'", users=str(nobody))
    refused(SettingError, "no such file", users=str(tmp_path / "no.txt"))
    refused(SettingError, "--quick is for synthetic data", quick=True)
    refused(SettingError, "lies in the dataset", output=f"{data.uri}/left")
    inline_forget(data=data.uri, users=some, output=str(tmp_path / "left"))
    refused(OutputExistsError, "holds a dataset already")
    assert inline_forget(data=data.uri, users=some, output=str(tmp_path / "left"), overwrite=True).users == 2
    assert inline_forget(data=data.uri, users=some, output=str(tmp_path / "left"), dry_run=True).uri is None
    assert inline_forget(data=data.uri, users=some, dry_run=True).users == 2
    with pytest.raises(SettingError, match="'output' is missing: give a folder for the result, or 'dry_run'"):
        inline_forget(data=data.uri, users=some)


@pytest.mark.slow
def test_synthetic_users_are_those_of_the_log_without_them(tmp_path: Path, data: Dataset, ray_session: None) -> None:
    made = distill(data=data.uri, method="sketch", users=6, seed=3, output=str(tmp_path / "made"))
    ids = users_of(data).to_list()[::4]
    asked: dict[str, Any] = {"data": made.uri, "users": file_of(tmp_path, ids)}
    told = forget(**asked, output=str(tmp_path / "new"), dry_run=True)
    assert told.uri is None
    assert not (tmp_path / "new").exists()
    result = forget(**asked, output=str(tmp_path / "new"))
    assert result.kind == "rows"
    assert result.explained == told.explained
    assert 0.3 * result.share < (result.explained or 0) < 3 * result.share
    assert len(result.most) == 6
    left = Dataset.open(result.remaining or "")
    assert left.to_frame().equals(data.to_frame().filter(~pl.col("user_id").is_in(ids)))
    again = distill(data=left.uri, method="sketch", users=6, seed=3, output=str(tmp_path / "again"))
    new = SyntheticDataset.open(str(tmp_path / "new"))
    assert new.manifest.data.sha256 == SyntheticDataset.open(again.uri).manifest.data.sha256
    assert new.manifest.parent.fingerprint == left.manifest.fingerprint
    assert new.manifest.data.sha256 != SyntheticDataset.open(made.uri).manifest.data.sha256
    with pytest.raises(SettingError, match="--quick: sketch does not start from an earlier result"):
        forget(**asked, output=str(tmp_path / "other"), quick=True)
    with pytest.raises(DasError, match=r"is not the dataset that .* was distilled from"):
        forget(**asked, output=str(tmp_path / "other"), log=left.uri)
    with pytest.raises(OutputExistsError, match="already"):
        forget(**asked, output=str(tmp_path / "new"))
