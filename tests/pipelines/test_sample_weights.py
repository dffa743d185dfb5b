"""Samples with weights end to end: the column, samples of samples, and what reads them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

import distill_at_scale as das
from distill_at_scale import cli
from distill_at_scale.data.dataset import SHARD_SCHEMA, WEIGHT_FIELD, Dataset

pytestmark = pytest.mark.usefixtures("ray_session")


@pytest.fixture(scope="module")
def datasets(ray_session: None, tmp_path_factory: pytest.TempPathFactory) -> dict[int, Dataset]:
    """One log with many small users, prepared as 1 and as 4 shards."""
    folder = tmp_path_factory.mktemp("weights")
    rng = np.random.default_rng(3)
    rows = [
        (u, int(i), t)
        for u in range(120)
        for t, i in enumerate(rng.choice(40, 3 + int(rng.exponential(8)) % 30, False))
    ]
    pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row").write_parquet(folder / "log.parquet")
    log = str(folder / "log.parquet")
    return {n: das.prepare(input=[log], output=str(folder / f"data-{n}"), shards=n, time_unit="s") for n in (1, 4)}


def sampled(parent: Dataset, sampler: str, budget: float, output: Path, seed: int = 0) -> Dataset:
    made = das.sample(data=parent.uri, sampler=sampler, budget=[budget], seed=seed, output=str(output))
    return Dataset.open(made.samples[0].uri)


def train_weights(dataset: Dataset) -> dict[tuple[int, int], float]:
    rows = dataset.to_frame("train")
    return dict(zip(zip(rows["user_id"], rows["item_id"]), rows["weight"]))


def test_samples_have_weights_whatever_the_shards(datasets: dict[int, Dataset], tmp_path: Path) -> None:
    for name in ("stratified", "sensitivity_users"):
        found = [train_weights(sampled(data, name, 0.4, tmp_path / f"{name}-{n}")) for n, data in datasets.items()]
        assert found[0] == found[1]
        assert len(set(found[0].values())) > 2
        assert min(found[0].values()) >= 1
    sample = Dataset.open(str(tmp_path / "stratified-4" / "stratified-0.4"))
    assert sample.manifest.weight_meaning == "1 / probability of being kept by stratified"
    assert sample.table(0).schema.equals(SHARD_SCHEMA.append(WEIGHT_FIELD))
    assert set(sample.to_frame("validation", "test")["weight"]) == {1.0}
    sample.verify()
    # Of a user's n rows, t n or at least one are kept.
    counts = {u: n for part in range(4) for u, n in datasets[4].users(part).select("user_id", "train").iter_rows()}
    weights = train_weights(sample)
    largest = max(weights.values())
    assert all(weight == pytest.approx(min(counts[user], largest)) for (user, _), weight in weights.items())


def test_samples_without_unequal_probabilities_are_as_they_were(datasets: dict[int, Dataset], tmp_path: Path) -> None:
    for name in ("random", "random_users", "head_users", "temporal"):
        sample = sampled(datasets[4], name, 0.3, tmp_path)
        assert sample.manifest.weight_meaning is None
        assert sample.table(0).schema.equals(SHARD_SCHEMA)
        assert "weight_meaning" not in (tmp_path / f"{name}-0.3" / "manifest.json").read_text()


def test_a_sample_of_a_sample_has_the_product(datasets: dict[int, Dataset], tmp_path: Path) -> None:
    first = sampled(datasets[4], "sensitivity_users", 0.6, tmp_path / "first")
    parents = train_weights(first)
    again = sampled(first, "stratified", 0.5, tmp_path / "again")
    of_second = {row: weight / parents[row] for row, weight in train_weights(again).items()}
    assert again.manifest.weight_meaning == (
        "1 / probability of being kept by sensitivity_users × 1 / probability of being kept by stratified"
    )
    counts = {u: n for part in range(4) for u, n in first.users(part).select("user_id", "train").iter_rows()}
    largest = max(of_second.values())
    assert all(w == pytest.approx(min(counts[user], largest), rel=1e-5) for (user, _), w in of_second.items())
    equal = sampled(first, "random", 0.5, tmp_path / "equal")
    assert equal.manifest.weight_meaning == first.manifest.weight_meaning
    assert train_weights(equal).items() <= parents.items()
    every = sampled(datasets[4], "sensitivity", 1.0, tmp_path / "every")
    assert set(train_weights(every).values()) == {1.0}


def test_what_reads_samples_with_weights(
    datasets: dict[int, Dataset], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    sample = sampled(datasets[1], "sensitivity_users", 0.5, tmp_path)
    output = str(tmp_path / "popularity")
    for weights, said in ((False, "ignored"), (True, "used")):
        given = {"weights": weights}
        assert das.fit(data=sample.uri, model="popularity", set=given, output=output, overwrite=True).weights == said
        counts = sample.to_frame("train").group_by("item_id").agg(n=pl.col("weight").sum() if weights else pl.len())
        of_items = sample.items().select("item_id").join(counts, on="item_id", how="left", maintain_order="left")
        saved = das.load_model(output)._weights()["counts"]
        np.testing.assert_allclose(saved, of_items["n"].fill_null(0), rtol=1e-6)
    for form in ("hf", "recbole"):
        das.export(data=sample.uri, format=form, output=str(tmp_path / form))
    exported = pl.read_parquet(tmp_path / "hf" / "data" / "train-*.parquet")
    found = dict(zip(zip(exported["user_id"], exported["item_id"]), exported["weight"]))
    assert found == train_weights(sample)
    assert "weight:float" in (tmp_path / "recbole" / "recbole.train.inter").read_text().splitlines()[0]
    monkeypatch.setattr("sys.argv", ["das", "inspect", sample.uri])
    with pytest.raises(SystemExit):
        cli.main()
    assert "1 / probability of being kept by sensitivity_users" in " ".join(capsys.readouterr().out.split())
    user = exported["user_id"][0]
    (tmp_path / "users.txt").write_text(f"{user}\n")
    das.forget(data=sample.uri, users=str(tmp_path / "users.txt"), output=str(tmp_path / "left"))
    remaining = train_weights(Dataset.open(str(tmp_path / "left")))
    assert remaining == {row: weight for row, weight in found.items() if row[0] != user}
