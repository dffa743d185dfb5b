"""Data-Genie whole: it predicts, saves and loads; it refuses other versions and knows what it does not know."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from genie_kit import BUDGETS, METHODS, kept, make_cells, make_features

from distill_at_scale.errors import DasError
from distill_at_scale.genie.model import DataGenie, bounded

FAST = ("means", "ridge")


@pytest.fixture(scope="module")
def genie() -> DataGenie:
    features = make_features(20)
    return DataGenie.fit(make_cells(features), features, FAST)


def test_predictions_follow_the_rule_and_intervals_hold_it(genie: DataGenie) -> None:
    held = []
    for of in make_features(40, seed=77).values():
        found = genie.predict(of)
        assert found["method"].unique().sort().to_list() == sorted(METHODS)
        for row in found.filter(pl.col("budget").is_in(BUDGETS)).iter_rows(named=True):
            truth = kept(row["method"], row["budget"], of)
            # The rule's lean spans ±.3.
            assert row["kept"] == pytest.approx(truth, abs=0.15)
            held.append(row["kept_low"] <= truth <= row["kept_high"])
    assert np.mean(held) > 0.85


def test_ranking_is_learned_from_its_mean_over_resamples() -> None:
    """Where that is known; it is judged by what was measured."""
    features = make_features(20)
    cells = make_cells(features)
    rng = np.random.default_rng(0)
    noisy = cells.with_columns(
        tau=(pl.col("tau") + pl.Series(rng.normal(0, 0.3, cells.height))).clip(-1, 1), tau_resampled=pl.col("tau")
    )
    plain, taught = (DataGenie.fit(known, features, ["ridge"]) for known in (cells, noisy))
    of = make_features(1, seed=5)["f00"]
    assert taught.predict(of)["tau"].to_list() == pytest.approx(plain.predict(of)["tau"].to_list())
    assert taught.targets["tau"].validation["ridge"]["mse"] > 0.05 > plain.targets["tau"].validation["ridge"]["mse"]
    half = noisy.with_columns(tau_resampled=pl.when(pl.col("method") == METHODS[0]).then("tau_resampled"))
    assert np.isfinite(DataGenie.fit(half, features, ["ridge"]).predict(of)["tau"].to_numpy()).all()


def test_budgets_lie_between_those_tried(genie: DataGenie) -> None:
    found = genie.predict(make_features(1, 5)["f00"], budgets=(0.001, 0.02, 0.1, 0.5, 0.9, 0.1 * 5**0.5))
    assert sorted(set(found["budget"])) == pytest.approx([0.02, 0.1, 0.1 * 5**0.5, 0.5, 0.9])
    one = found.filter(pl.col("method") == "dull").sort("budget")
    # In between by the logarithm of the budget.
    assert one["kept"][2] == pytest.approx((one["kept"][1] + one["kept"][3]) / 2)
    # Everything is kept of all data, and nothing is uncertain there.
    way = np.log(0.9 / 0.5) / np.log(2)
    assert one["kept"][4] == pytest.approx(one["kept"][3] + way * (1 - one["kept"][3]))
    half = one["kept_high"] - one["kept"]
    assert half[4] == pytest.approx((1 - way) * half[3])


def test_costs_are_those_of_the_cells(genie: DataGenie) -> None:
    of = make_features(1, 8)["f00"]
    found = genie.predict(of)
    assert found["make_cpu_s"].to_list() == pytest.approx(
        [0.5 + 1e-4 * np.exp(of["log_rows"])] * found.height, rel=1e-3
    )
    tried = found.filter(pl.col("budget").is_in(BUDGETS))
    assert tried["fit_share"].to_list() == pytest.approx(tried["budget"].to_list())


def test_features_that_never_differ_are_left_out(genie: DataGenie) -> None:
    assert "constant" not in genie.encoder.names
    assert "log_density" in genie.encoder.names


def test_saved_and_loaded_it_says_the_same(genie: DataGenie, tmp_path: Path) -> None:
    genie.save(str(tmp_path), {"judgements": []})
    loaded = DataGenie.load(str(tmp_path))
    of = make_features(1, 9)["f00"]
    assert loaded.predict(of).equals(genie.predict(of))
    assert loaded.neighbours.nearest(of) == genie.neighbours.nearest(of)
    assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".safetensors", ".parquet"}


def test_a_ranking_of_fewer_models_is_not_compared(genie: DataGenie) -> None:
    features = make_features(12)
    cells = make_cells(features).with_columns(
        n_models=pl.when(pl.col("method") == "dull").then(2).otherwise(4),
        tau=pl.when(pl.col("method") == "dull").then(1.0).otherwise("tau"),
    )
    found = DataGenie.fit(cells, features, FAST).predict(features["f00"])
    dull = found.filter(pl.col("method") == "dull")
    assert dull["tau"].null_count() == dull.height
    assert dull["kept"].null_count() == 0
    assert found.filter(pl.col("method") != "dull")["tau"].null_count() == 0


def test_data_unlike_all_others_are_told(genie: DataGenie) -> None:
    usual = make_features(30, 3).values()
    assert sum(genie.neighbours.outside(of) is not None for of in usual) <= 3
    far = {**make_features(1)["f00"], "log_rows": float(np.log(1e9)), "log_users": float(np.log(1e7))}
    said = genie.neighbours.outside(far)
    assert said is not None
    assert "1,000,000,000 train rows" in said
    assert "10,000,000 users" in said
    # It answers all the same, and with numbers that can be.
    found = genie.predict(far)
    assert found["kept"].is_finite().all()
    assert found["kept"].is_between(-1, 2).all()


def test_its_neighbours_are_the_nearest(genie: DataGenie) -> None:
    of = genie.features["f03"]
    (first, distance), *others = genie.neighbours.nearest(of)
    assert (first, distance) == ("f03", 0.0)
    assert all(d > 0 for _, d in others)


def test_what_is_no_genie_or_an_older_one_is_refused(genie: DataGenie, tmp_path: Path) -> None:
    with pytest.raises(DasError, match=r"is not a Data-Genie.*das genie train"):
        DataGenie.load(str(tmp_path / "nowhere"))
    genie.save(str(tmp_path))
    place = tmp_path / "genie.json"
    content = json.loads(place.read_text())
    place.write_text(json.dumps({**content, "feature_version": 0}))
    with pytest.raises(DasError, match=r"features of version 0.*train it again: das genie train --sweeps"):
        DataGenie.load(str(tmp_path))
    place.write_text(json.dumps({**content, "version": 99}))
    with pytest.raises(DasError, match="another version"):
        DataGenie.load(str(tmp_path))


def test_too_few_datasets_are_refused() -> None:
    features = make_features(2)
    with pytest.raises(DasError, match="at least 3 datasets"):
        DataGenie.fit(make_cells(features), features, FAST)


def test_cuts_of_one_log_count_once() -> None:
    features = make_features(6)
    cells = make_cells(features).with_columns(dataset=pl.concat_str(pl.lit("one--"), pl.col("fingerprint")))
    with pytest.raises(DasError, match="not subsets of one another"):
        DataGenie.fit(cells, features, FAST)


def test_a_model_that_hardly_works_on_everything_does_not_stand_for_all() -> None:
    cells = make_cells(make_features(1)).with_columns(
        kept=pl.lit(2.25), kept_by_model=pl.lit('{"popularity": 8.1, "ease": 0.3, "svd_ae": 0.3, "infinite_ae": 0.3}')
    )
    assert bounded(cells)["kept"].to_list() == pytest.approx([(1.2 + 3 * 0.3) / 4] * cells.height)
