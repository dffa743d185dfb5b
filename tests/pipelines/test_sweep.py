"""sweep: every trial once, whatever happens on the way."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from kill_kit import Death, Runs
from prepare_kit import inline_prepare

import distill_at_scale as das
from distill_at_scale.errors import DasError
from distill_at_scale.genie.trials import FULL, KEY, read_trials
from distill_at_scale.pipelines.sweep import seconds

SETTINGS = {"methods": "random,head_users", "budgets": "0.5,0.2", "models": "popularity,ease", "seeds": 2}


def log(folder: Path, seed: int = 0) -> str:
    """Two groups of users with an own half of the items each."""
    rng = np.random.default_rng(seed)
    rows = [
        (user, int(item) + 30 * (user % 2), 60 * k)
        for user in range(80)
        for k, item in enumerate(rng.permutation(30)[: 6 + user % 9])
    ]
    path = folder / "log.parquet"
    pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row").write_parquet(path)
    return str(path)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> das.Dataset:
    folder = tmp_path_factory.mktemp("sweep")
    return inline_prepare(input=[log(folder)], output=str(folder / "data"), shards=2)


def keys(trials: pl.DataFrame) -> list[tuple[object, ...]]:
    return sorted(trials.select(KEY).rows())


def expected_keys(data: das.Dataset, seeds: int = 2) -> list[tuple[object, ...]]:
    made = [(method, budget) for method in ("random", "head_users") for budget in (0.5, 0.2)]
    return sorted(
        (data.manifest.fingerprint, method, budget, seed, model)
        for method, budget in [*made, (FULL, 1.0)]
        for seed in range(seeds)
        for model in ("popularity", "ease")
    )


def test_a_sweep(data: das.Dataset, tmp_path: Path, ray_session: None) -> None:
    output = tmp_path / "sweep"
    with_a_failure = {**SETTINGS, "budgets": "0.5,0.2", "models": "popularity,ease,gru4rec"}
    stopped = das.sweep(data=data.uri, output=str(output), **SETTINGS, time_budget="0s")
    assert (stopped.done, stopped.failed, stopped.left) == (0, 0, 20)

    result = das.sweep(data=data.uri, output=str(output), **SETTINGS)
    assert (result.trials, result.done, result.failed, result.left) == (20, 20, 0, 0)
    # On everything, models in closed form are the same for both seeds.
    assert result.fits == 2 + 2 * 2 * 2 * 2
    described, trials = read_trials(str(output))
    assert described["data"]["fingerprint"] == data.manifest.fingerprint
    assert keys(trials) == expected_keys(data)
    assert {(cell["method"], cell["budget"]) for cell in result.cells} == {
        (method, budget) for method in ("random", "head_users") for budget in (0.5, 0.2)
    }
    assert list((output / "tensorboard").rglob("events.out.tfevents.*"))
    assert not list(output.rglob("*.pkl"))

    # A trial measures what the verbs measure.
    (row,) = trials.filter(method="random", budget=0.2, seed=1, model="ease").to_dicts()
    sample = str(output / "data" / "seed-1" / "random-0.2")
    das.fit(data=sample, model="ease", output=str(tmp_path / "ease"))
    alone = das.evaluate(data=data.uri, model=str(tmp_path / "ease"), resample=True)
    assert row["ndcg@10"] == pytest.approx(alone.metrics["ndcg@10"], rel=1e-5)
    assert alone.resampled is not None
    assert row["resampled"]["ndcg@10"] == pytest.approx(alone.resampled["ndcg@10"], rel=1e-4)

    # Once more: what is known is taken up, and what is new is added; a trial that fails is a row that says why.
    records = {path: path.stat().st_mtime_ns for path in (output / "trained").rglob("*.json")}
    tiny = das.sweep(data=data.uri, output=str(output), **{**with_a_failure, "budgets": "0.5,0.2,0.0025"})
    assert all(path.stat().st_mtime_ns == written for path, written in records.items())
    assert tiny.failed > 0
    assert tiny.done + tiny.failed == tiny.trials == 3 * 2 * (2 * 3 + 1)
    _, trials = read_trials(str(output))
    failed = trials.filter(status="failed")
    assert set(failed["budget"]) == {0.0025}
    assert failed["reason"].str.contains("gru4rec").any()


def test_bad_input(data: das.Dataset, tmp_path: Path, ray_session: None) -> None:
    def sweep(**more: object) -> None:
        das.sweep(**{"data": data.uri, "output": str(tmp_path / "sweep"), **SETTINGS, **more})

    with pytest.raises(DasError, match="unknown method 'randon'; the methods are random, stratified"):
        sweep(methods="randon")
    with pytest.raises(DasError, match="There is no model 'eas'"):
        sweep(models="eas,popularity")
    with pytest.raises(DasError, match=r"budgets.*2 is not a share of the train rows"):
        sweep(budgets="2")
    with pytest.raises(DasError, match="time_budget 'soon' is no duration; write it as 90s, 30m, 2h"):
        sweep(time_budget="soon")
    with pytest.raises(DasError, match=r"--set steps: say of which method or model, as distill_cf\.steps=100"):
        sweep(set={"steps": 3})
    with pytest.raises(DasError, match=r"no method is left: popularity, svd_ae on sketch: learns from interactions"):
        sweep(methods="sketch", models="popularity,svd_ae")
    with pytest.raises(DasError, match=r"is no sweep: it has no sweep\.json"):
        read_trials(str(tmp_path))
    sweep(time_budget="0s")
    other = inline_prepare(input=[log(tmp_path, seed=1)], output=str(tmp_path / "other"))
    with pytest.raises(DasError, match="holds a sweep of another dataset"):
        sweep(data=other.uri)


@pytest.mark.parametrize(
    ("text", "expected"), [("90s", 90), ("30m", 1800), ("2h", 7200), ("1h30m", 5400), ("0.5h", 1800)]
)
def test_durations(text: str, expected: float) -> None:
    assert seconds(text) == expected


LIVES: list[list[Death]] = [
    [("driver", "after", r"made/random-0-\w+\.json$")],
    [("worker", "before", r"made/head_users-1-\w+\.json$"), ("driver", "after", r"/ease-test-0\.json$")],
    [("worker", "before", r"/popularity-test-0\.json$"), ("driver", "after", r"trials\.parquet$")],
    [],
]


@pytest.mark.slow
def test_killed(data: das.Dataset, tmp_path: Path, run_folder: Path) -> None:
    """The driver dies three times and a worker twice: every trial is there exactly once, as if nothing had been."""
    options = [part for name, value in SETTINGS.items() for part in (f"--{name}", str(value))]
    killed = Runs(tmp_path / "killed", run_folder, "sweep", "--data", data.uri, "--output", "sweep", *options)
    for deaths in LIVES:
        killed.run(deaths)
    undisturbed = Runs(tmp_path / "whole", run_folder, "sweep", "--data", data.uri, "--output", "sweep", *options)
    undisturbed.run([])
    _, found = read_trials(str(killed.folder / "sweep"))
    _, whole = read_trials(str(undisturbed.folder / "sweep"))
    assert keys(found) == keys(whole) == expected_keys(data)
    measured = [*KEY, "status", "rows", "share", "ndcg@10", "hr@100", "auc"]
    assert found.select(measured).sort(KEY).equals(whole.select(measured).sort(KEY))
