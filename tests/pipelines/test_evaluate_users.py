"""evaluate --users: a sample of the users, the same for any number of shards, and what it leaves open."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import distill_at_scale as das
from distill_at_scale.data.columns import Columns
from distill_at_scale.data.dataset import Dataset
from distill_at_scale.errors import DasError
from distill_at_scale.evaluation.user_sample import UserSample
from distill_at_scale.report import show_evaluation


def prepared(folder: Path, shards: int) -> Dataset:
    rng = np.random.default_rng(0)
    rows = [(f"u{u}", int(i), int(t)) for u in range(200) for t, i in enumerate(rng.choice(40, 8, replace=False))]
    log = folder / "log.parquet"
    pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row").write_parquet(log)
    return das.prepare(log, output=folder / f"data-{shards}", shards=shards, time_unit="s")


def people(dataset: Dataset, shard: int) -> list[str]:
    """Ids of the users of a shard who are drawn, of whom 50 of 200 are asked for."""
    ids = dataset.users(shard)[Columns.USER_ID]
    return ids.gather(UserSample(0.25, 0).positions(ids)).to_list()


def test_a_sample_of_users_is_measured(ray_session: None, tmp_path: Path) -> None:
    many, few = prepared(tmp_path, 4), prepared(tmp_path, 1)
    model = das.models.Popularity().fit(many)
    found = [das.evaluate(data, model, ks=[5], users=50) for data in (many, few)]
    assert found[1].sampled is not None
    assert (found[0].n_users, found[0].n_users_all) == (found[1].n_users, found[1].n_users_all)
    sampled = found[0].sampled
    assert sampled is not None
    ids = [{user for k in range(len(data.shards)) for user in people(data, k)} for data in (many, few)]
    assert ids[0] == ids[1]
    drawn = len(ids[0])
    assert (sampled.asked, sampled.drawn, sampled.of) == (50, drawn, 200)
    assert found[0].n_users == found[0].n_users_all == drawn
    low, high = sampled.intervals["ndcg@5"]
    assert low < found[0].metrics["ndcg@5"] < high
    assert "auc" not in sampled.intervals
    whole, more = das.evaluate(many, model, ks=[5]), das.evaluate(many, model, ks=[5], users=200)
    assert whole.sampled is more.sampled is None
    assert whole.metrics == more.metrics != found[0].metrics

    with contextlib.redirect_stdout(io.StringIO()) as shown:
        show_evaluation(found[0])
    assert f"Measured on {drawn} of 200 users, drawn by a hash of their ids" in " ".join(shown.getvalue().split())
    assert f"{100 * low:.2f} to {100 * high:.2f}" in shown.getvalue()


def test_a_sample_without_a_user_is_refused(ray_session: None, tmp_path: Path) -> None:
    data = prepared(tmp_path, 2)
    with pytest.raises(DasError, match=r"none of the 0 users drawn has test rows; set more --users"):
        das.evaluate(data, das.models.Popularity().fit(data), users=1, seed=1)
