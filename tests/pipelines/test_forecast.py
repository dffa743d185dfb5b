"""forecast: from a tiny log to learning curves, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from prepare_kit import inline_prepare

import distill_at_scale as das
from distill_at_scale.data import recorded
from distill_at_scale.data.dataset_ref import TrainDataRef
from distill_at_scale.errors import DasError, OutputExistsError
from distill_at_scale.genie.synthetic_logs import LogDesign, generate_log
from distill_at_scale.genie.trials import as_trials
from distill_at_scale.pipelines.forecast import in_turn, measured, rungs
from distill_at_scale.pipelines.sweeps.evaluations import EvaluationTask, train_here
from distill_at_scale.pipelines.sweeps.forecast_result import ForecastResult, read_forecast
from distill_at_scale.pipelines.sweeps.small_datasets import SmallDataset
from distill_at_scale.pipelines.sweeps.trial_plan import PlannedTrial, TrainingData
from distill_at_scale.report import keep_forecast, show_forecast

SETTINGS = {"models": "popularity,ease", "up_to": 0.5, "rungs": 4, "seeds": 1, "set": {"ease.grid": [100]}}


def dataset(folder: Path, seed: int = 0, users: int = 160) -> das.Dataset:
    design = LogDesign(users, 60, 10.0, 0.5, 0.7, 4, 2.0, 1.0, 0.0, 0.1, 0.0, seed=seed)
    folder.mkdir(exist_ok=True)
    generate_log(design).write_parquet(folder / "log.parquet")
    return inline_prepare(input=[str(folder / "log.parquet")], output=str(folder / "data"), shards=1)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> das.Dataset:
    return dataset(tmp_path_factory.mktemp("forecast"))


def test_a_forecast(data: das.Dataset, tmp_path: Path, ray_session: None, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "forecast"
    result = das.forecast(data, output=str(output), **SETTINGS)
    assert (result.ok, result.left_out, result.seeds) == (True, [], 1)
    assert result.rungs == [0.0625, 0.125, 0.25, 0.5]
    assert {one.model for one in result.models} == {"popularity", "ease"}
    assert result.models[0].quality >= result.models[1].quality
    for one in result.models:
        assert 0 < one.low <= one.quality <= one.high <= 1
        assert [need.keep for need in one.needed] == [0.9, 0.95, 0.99]
        rows = [need.rows for need in one.needed]
        assert rows == sorted(rows)
        assert rows[-1] <= data.manifest.splits["train"]
        assert len(one.rungs) == 4 + (one.model == "popularity")
        assert one.curve[-1].share == 1.0
    assert result.tau is not None
    assert -1 <= result.tau_low <= result.tau <= result.tau_high <= 1

    # Never a full fit, but of what needs only the counts of the items; every rung holds the smaller ones.
    trials = pl.read_parquet(output / "trials.parquet")
    assert set(trials.filter(pl.col("budget") < 1)["method"]) == {"random_users"}
    assert len(trials) == 2 * 4 + 1
    (known,) = trials.filter(pl.col("budget") == 1).to_dicts()
    assert (known["method"], known["model"]) == ("full", "popularity")
    (popularity,) = (one for one in result.models if one.model == "popularity")
    assert popularity.quality == pytest.approx(known["ndcg@10"], rel=1e-12)
    assert popularity.low < popularity.quality < popularity.high
    assert popularity.curve[-1].quality == pytest.approx(known["ndcg@10"], rel=1e-12)
    assert "Measured on all rows, not forecast: popularity." in result.notes
    kept = [
        das.Dataset.open(str(output / "data" / "seed-0" / f"random_users-{rung}")).interactions("train")
        for rung in result.rungs
    ]
    users = [set(one.users[one.offsets[1:] > one.offsets[:-1]].tolist()) for one in kept]
    assert users[0] < users[1] < users[2] < users[3]

    # What is known is taken up, and told alike.
    records = {path: path.stat().st_mtime_ns for path in output.glob("trained/**/*.json")}
    again = das.forecast(data, output=str(output), **SETTINGS)
    assert again.models == result.models
    assert {path: path.stat().st_mtime_ns for path in output.glob("trained/**/*.json")} == records
    assert read_forecast(str(output), data) == again

    keep_forecast(again)
    assert b"<svg" in (output / "forecast.svg").read_bytes()
    page = (output / "forecast.html").read_text()
    assert page.count("<polygon") == 2
    assert "popularity" in page
    assert "forecast.svg" not in page
    show_forecast(again)
    shown = capsys.readouterr().out
    assert "rows for 95 % (90 %)" in shown
    assert "Expected τ" in shown
    assert again.to_frame().columns[:4] == ["model", "quality", "low", "high"]
    assert "<svg" in again._repr_html_()
    assert repr(again).startswith("ForecastResult: test ndcg@10 of 2 models on all of ")

    # All of this is known.
    one = das.forecast(data, output=str(output), **{**SETTINGS, "models": "popularity", "set": {}})
    assert [of.model for of in one.models] == ["popularity"]
    assert one.tau is None
    assert "A single model has neither an order nor τ." in one.notes
    assert any(note.startswith("With one seed") for note in one.notes)

    other = dataset(tmp_path / "other", seed=1)
    with pytest.raises(OutputExistsError, match=r"holds a forecast of another dataset .*choose another --output"):
        das.forecast(other, output=str(output), **SETTINGS)
    with pytest.raises(DasError, match="is a forecast of another dataset"):
        read_forecast(str(output), other)


def test_a_rung_selects_around_what_the_smaller_one_chose(data: das.Dataset, tmp_path: Path) -> None:
    def planned(seed: int, budget: float, model: str) -> PlannedTrial:
        made = SmallDataset(
            method="random_users",
            budget=budget,
            seed=seed,
            uri=data.uri,
            fingerprint="f",
            rows=1,
            share=budget,
            bytes=1,
        )
        uri = f"{tmp_path}/{seed}-{budget}"
        task = EvaluationTask.of(data.uri, data.manifest.fingerprint, data, model, uri, "test")
        return PlannedTrial(TrainingData("random_users", budget, seed, made), model, task)

    cells = [(seed, budget, model) for budget in (0.5, 0.125, 0.25) for seed in (0, 1) for model in ("ease", "mf")]
    plan = in_turn([planned(*cell) for cell in cells])
    tasks = {(one.source.seed, one.source.budget, one.model): one.task for one in plan}
    assert [one.source.budget for one in plan] == [0.125] * 4 + [0.25] * 4 + [0.5] * 4
    assert tasks[1, 0.125, "ease"].grid_from == ""
    assert tasks[1, 0.5, "ease"].grid_from == tasks[1, 0.25, "ease"].record

    first, second = tasks[1, 0.125, "ease"], tasks[1, 0.25, "ease"]
    assert second.all_settings() == {}, "without a record all of the grid is tried"
    train_here(first)
    around = first.read().around
    assert len(around) in (2, 3)
    assert second.all_settings() == {"grid": around}
    assert replace(second, settings={"grid": [7]}).all_settings() == {"grid": [7]}, "what the user set stays"
    train_here(second)
    assert set(second.read().around) & set(around)
    one = replace(tasks[1, 0.125, "mf"], settings={"epochs": 2})
    train_here(one)
    assert one.read().around is not None
    assert tasks[1, 0.25, "mf"].all_settings() == {}, "epochs are not selected from a grid"
    assert replace(second, model="svd_ae").all_settings() == {}, "one decomposition serves all ranks"


def test_bad_input(data: das.Dataset, tmp_path: Path) -> None:
    def forecast(**more: object) -> None:
        das.forecast(**{"data": data.uri, "output": str(tmp_path / "forecast"), **SETTINGS, **more})

    for up_to in (0, 1.5, -0.1):
        with pytest.raises(DasError, match="setting 'up_to'"):
            forecast(up_to=up_to)
    with pytest.raises(DasError, match=r"has \d+ users, too few for 3 rungs .*choose --up-to 0.2 or more"):
        forecast(up_to=0.1)
    with pytest.raises(DasError, match="setting 'models': 'eas' is not one of"):
        forecast(models="eas")
    with pytest.raises(DasError, match="setting 'time_budget': 'soon' is not a duration"):
        forecast(time_budget="soon")
    with pytest.raises(DasError, match="lie in one another; choose another --output"):
        forecast(output=f"{data.uri}/forecast")
    (tmp_path / "forecast").mkdir()
    (tmp_path / "forecast" / "notes.txt").write_text("mine")
    with pytest.raises(OutputExistsError, match=r"holds other files .*notes.txt"):
        forecast()
    assert (tmp_path / "forecast" / "notes.txt").read_text() == "mine"


def test_too_few_users_for_any_rungs(tmp_path: Path) -> None:
    with pytest.raises(DasError, match=r"has 20 users, too few for 3 rungs up to 1 .*fit the models on all of it"):
        rungs(dataset(tmp_path / "few", users=20), 1.0, 5)


def test_a_model_that_fails_is_left_out() -> None:
    def row(budget: float, status: str, quality: float | None) -> dict[str, object]:
        return {
            "model": "mf",
            "budget": budget,
            "seed": 0,
            "status": status,
            "share": budget,
            "fit_cpu_s": 1.0,
            "reason": "the loss became NaN" if status == "failed" else "",
            "ndcg@10": quality,
        }

    rows = [row(0.1, "done", 0.1), row(0.05, "done", 0.1), row(0.2, "failed", None)]
    found, reason = measured(as_trials(rows), "mf", 1, 500)
    assert found is None
    assert reason == "only 2 rungs were measured (the loss became NaN)"
    assert (
        measured(as_trials(rows[:2]), "mf", 1, 500)[1] == "only 2 rungs were measured (the time budget did not suffice)"
    )


def test_a_damaged_forecast_is_refused(data: das.Dataset, tmp_path: Path) -> None:
    with pytest.raises(DasError, match=r"is not a forecast: it has no forecast.json"):
        read_forecast(str(tmp_path), data)
    (tmp_path / "forecast.json").write_text(json.dumps({"data": {"uri": "x", "fingerprint": "y"}}))
    with pytest.raises(DasError, match=r"forecast.json .*run the same das forecast again"):
        read_forecast(str(tmp_path), data)
    content = {"data": TrainDataRef.of(data).model_dump(mode="json"), "result": {"models": []}}
    recorded.write_json(str(tmp_path / "forecast.json"), content)
    with pytest.raises(DasError, match=r"forecast.json is damaged .*run the same das forecast again"):
        read_forecast(str(tmp_path), data)


def test_a_forecast_of_no_model_sharpens_nothing(data: das.Dataset, tmp_path: Path) -> None:
    of = TrainDataRef.of(data)
    spent = {"tau": None, "tau_low": None, "tau_high": None, "spent_cpu_s": 0.0, "full_cpu_s": 0.0, "wall_s": 0.0}
    told = {"ok": False, "uri": str(tmp_path), "data": of, "metric": "ndcg@10", "rungs": [0.1], "seeds": 1, "notes": []}
    result = ForecastResult(**told, **spent, models=[], left_out=["ease: ndcg@10 is 0 on every rung"])
    content = {"data": of.model_dump(mode="json"), "result": result.model_dump(mode="json")}
    recorded.write_json(str(tmp_path / "forecast.json"), content)
    with pytest.raises(DasError, match=r"is a forecast of no model \(ease: ndcg@10 is 0 on every rung\)"):
        das.recommend(data=data.uri, forecast=str(tmp_path))
