"""evaluate --users: a sample of the users, the same for any number of shards, and what it leaves open."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import distill_at_scale as das
from distill_at_scale.data.columns import Columns
from distill_at_scale.data.dataset import Dataset
from distill_at_scale.errors import DasError, SettingError
from distill_at_scale.evaluation.user_sample import UserSample
from distill_at_scale.pipelines.runtime import dealt_values
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


def test_only_an_evaluation_is_replaced(ray_session: None, tmp_path: Path) -> None:
    data = prepared(tmp_path, 1)
    model, output = das.models.Popularity().fit(data), tmp_path / "metrics.json"
    for before in ("", '{"metrics": {}}'):
        output.write_text(before)
        das.evaluate(data, model, output=str(output))
        assert "ndcg@10" in json.loads(output.read_text())["metrics"]
    manifest = Path(data.uri, "manifest.json")
    before = manifest.read_bytes()
    with pytest.raises(DasError, match=r"manifest.json is not an evaluation; choose another --output"):
        das.evaluate(data, model, output=str(manifest))
    assert manifest.read_bytes() == before


def test_off_policy(ray_session: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = prepared(tmp_path, 2)
    model = das.models.Popularity().fit(data)
    heldout = pl.concat([data.rows(shard, "test") for shard in range(len(data.shards))])
    place = tmp_path / "logged.csv"
    logged = heldout.select("user_id", "item_id", p=pl.lit(1 / 40))
    logged.write_csv(place)
    asked = {"data": data, "model": model, "ks": [5], "propensity": "p"}
    found = das.evaluate(**asked, propensities=str(place))
    # Items were shown evenly: the weight of each hit is 40 / 5.
    hits = found.metrics["recall@5"] * found.n_users
    assert found.off_policy["matched"] == pytest.approx(hits)
    assert found.off_policy["ips"] == pytest.approx(8 * hits / len(heldout))
    assert found.off_policy["snips"] == pytest.approx(1.0)
    assert found.off_policy["effective_rows"] == pytest.approx(hits)
    with contextlib.redirect_stdout(io.StringIO()) as shown:
        show_evaluation(found)
    assert "actions without support" in shown.getvalue()
    # Dealt by user, as with many shards, beside the output or in a temporary folder.
    with monkeypatch.context() as patch:
        patch.setattr(dealt_values, "FEW_SHARDS", 1)
        before = {path.name for path in tmp_path.iterdir()}
        for output in (None, tmp_path / "metrics.json"):
            assert das.evaluate(**asked, propensities=str(place), output=output).off_policy == found.off_policy
    assert {path.name for path in tmp_path.iterdir()} - before == {"metrics.json"}

    with pytest.raises(SettingError, match="holds no propensities, and none can be made up afterwards"):
        das.evaluate(**asked)
    with pytest.raises(SettingError, match="missing column 'q'; its columns are user_id, item_id, p"):
        das.evaluate(**{**asked, "propensity": "q"}, propensities=str(place))
    with pytest.raises(SettingError, match="needs the name of their column"):
        das.evaluate(data, model, propensities=str(place))
    logged.drop("item_id").write_csv(place)
    with pytest.raises(SettingError, match="missing column 'item_id'; a propensity is of a user and an item"):
        das.evaluate(**asked, propensities=str(place))
    logged[1:].write_csv(place)
    with pytest.raises(DasError, match=r"1 of \d+ held-out rows of shard \d have no value of 'p'"):
        das.evaluate(**asked, propensities=str(place))
    logged.with_columns(p=pl.when(pl.int_range(pl.len()) == 2).then(1.5).otherwise(pl.col("p"))).write_csv(place)
    with pytest.raises(DasError, match=r"1.5 in column 'p' is not a propensity; 1 rows of shard"):
        das.evaluate(**asked, propensities=str(place))


def test_a_sample_as_data_is_said(ray_session: None, tmp_path: Path) -> None:
    """Users whose histories it does not hold are judged without them."""
    whole = prepared(tmp_path, 1)
    small = das.sample(whole, sampler="random_users", budget=["0.5"], output=str(tmp_path / "samples")).samples[0]
    model = das.models.Popularity().fit(whole)
    notes = [das.evaluate(data, model, ks=[5]).notes for data in (whole.uri, small.uri)]
    said = [[note for note in some if "is a sample, so" in note] for some in notes]
    assert said[0] == []
    (note,) = said[1]
    assert f"evaluate on {whole.uri} to compare" in note
