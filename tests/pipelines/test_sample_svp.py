"""das sample with SVP-CF: one training of a proxy serves every budget and all four variants."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from prepare_kit import inline_prepare, random_rows, write_logs

import distill_at_scale as das
from distill_at_scale.data.columns import TRAIN
from distill_at_scale.data.dataset import Dataset
from distill_at_scale.evaluation import inverse_propensities
from distill_at_scale.samplers.svp import row_scores

pytestmark = pytest.mark.usefixtures("ray_session")
SEED, EPOCHS, BUDGETS = 3, 2, [0.6, 0.2]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("svp")
    logs = write_logs(folder, random_rows(6, 2000, 100, 50), 1)
    return inline_prepare(input=logs, output=str(folder / "data"), shards=3, min_user=4)


@pytest.fixture(scope="module")
def samples(data: Dataset, ray_session: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sample of each variant, in one folder."""
    folder = tmp_path_factory.mktemp("samples")
    for variant in ("", "_prop", "_users", "_users_prop"):
        das.sample(
            data=data.uri, sampler=f"svp_bias{variant}", budget=BUDGETS, output=str(folder), seed=SEED,
            proxy_epochs=EPOCHS,
        )  # fmt: skip
    return folder


def train_rows(dataset: Dataset, shard: int) -> pl.DataFrame:
    table = pl.DataFrame(pl.from_arrow(dataset.table(shard)))
    return table.filter(pl.col("split") == TRAIN)


def slow_hardness(data: Dataset, folder: Path, prop: bool) -> list[float]:
    """What each train row counts, one shard after another, from the scores that the proxy left."""
    uri = str(folder / f"svp-bias-implicit-{SEED}")
    manifest = row_scores.open_scores(uri, data)
    n_rows = data.manifest.splits["train"]
    of_items = inverse_propensities(data.train_counts(), n_rows)
    found: list[float] = []
    for shard in range(len(data.shards)):
        rows = train_rows(data, shard)
        scores = row_scores.read_part(uri, manifest, shard, rows.height).astype(np.float64)
        degree = rows.group_by("user").len()
        of_users = dict(zip(degree["user"], inverse_propensities(degree["len"].to_numpy(), n_rows)))
        for user, item, score in zip(rows["user"], rows["item"], scores):
            found.append(score * (max(of_users[user], of_items[item]) if prop else 1.0))
    return found


@pytest.mark.parametrize("prop", [False, True])
def test_the_hardest_rows_are_kept(prop: bool, data: Dataset, samples: Path) -> None:
    hard = np.array(slow_hardness(data, samples, prop))
    everything = pl.concat([train_rows(data, shard) for shard in range(len(data.shards))])
    before: set[tuple[int, int]] | None = None
    for budget in BUDGETS:
        sample = Dataset.open(str(samples / f"svp_bias{'_prop' * prop}-{budget}"))
        kept = pl.concat([train_rows(sample, shard) for shard in range(len(sample.shards))])
        n = int(budget * everything.height + 0.5)
        assert kept.height == n
        pairs = set(zip(kept["user"], kept["item"]))
        inside = np.array([pair in pairs for pair in zip(everything["user"], everything["item"])])
        assert hard[inside].min() >= hard[~inside].max()
        assert before is None or pairs <= before
        before = pairs


@pytest.mark.parametrize("prop", [False, True])
def test_the_hardest_users_are_kept(prop: bool, data: Dataset, samples: Path) -> None:
    everything = pl.concat([train_rows(data, shard) for shard in range(len(data.shards))])
    frame = everything.with_columns(pl.Series("hard", slow_hardness(data, samples, prop)))
    users = frame.group_by("user").agg(pl.col("hard").mean(), pl.len())
    for budget in BUDGETS:
        sample = Dataset.open(str(samples / f"svp_bias_users{'_prop' * prop}-{budget}"))
        kept = pl.concat([train_rows(sample, shard) for shard in range(len(sample.shards))])
        inside = pl.col("user").is_in(kept["user"].unique().implode())
        # Equal to rounding: the twin adds up in another order.
        assert users.filter(inside)["hard"].min() >= users.filter(~inside)["hard"].max() - 1e-9
        assert users.filter(inside)["len"].sum() == kept.height
        assert abs(kept.height - budget * everything.height) <= users["len"].max() / 2


def test_the_proxy_is_trained_once(samples: Path) -> None:
    trained = []
    for variant in ("", "_prop", "_users", "_users_prop"):
        run = json.loads((samples / f"svp_bias{variant}-0.2" / "run.json").read_text())
        trained.append(any(stage["stage"] == "train bias proxy" for stage in run["stages"]))
    assert trained == [True, False, False, False]
    assert not (samples / "_work").exists()


def test_what_makes_a_sample_stands_in_its_manifest(data: Dataset, samples: Path) -> None:
    sample = Dataset.open(str(samples / "svp_bias_prop-0.2"))
    assert sample.manifest.config == {
        "sampler": "svp_bias_prop", "seed": SEED, "objective": "implicit", "proxy_epochs": EPOCHS, "budget": 0.2,
    }  # fmt: skip


def test_scores_of_other_settings_are_not_taken(data: Dataset, samples: Path) -> None:
    settings = {"data": data.uri, "sampler": "svp_bias", "budget": 0.5, "output": str(samples), "seed": SEED}
    with pytest.raises(das.DasError, match=r"holds row scores of other settings \(2 epochs\); choose another --output"):
        das.sample(**settings, proxy_epochs=EPOCHS + 1)


def test_explicit_needs_ratings(tmp_path: Path) -> None:
    log = tmp_path / "log.csv"
    log.write_text("user_id,item_id,timestamp\n" + "".join(f"{k % 9},{k % 7},{1_600_000_000 + k}\n" for k in range(60)))
    data = inline_prepare(input=[str(log)], output=str(tmp_path / "data"))
    with pytest.raises(das.DasError, match=r"--objective explicit goes by ratings, but .*data has none"):
        das.sample(data=data.uri, sampler="svp_mf", objective="explicit", budget=0.5, output=str(tmp_path / "out"))
