"""tune: from a small log to a winner, going on, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from prepare_kit import inline_prepare

import distill_at_scale as das
from distill_at_scale.errors import DasError, OutputExistsError
from distill_at_scale.genie.synthetic_logs import LogDesign, generate_log
from distill_at_scale.pipelines.tune import rungs
from distill_at_scale.report import keep_tuned, show_tuned

SETTINGS = {"models": "popularity,svd_ae", "search": 5}


def dataset(folder: Path, users: int = 400, seed: int = 0) -> das.Dataset:
    design = LogDesign(users, 60, 10.0, 0.5, 0.7, 4, 2.0, 1.0, 0.0, 0.1, 0.0, seed=seed)
    folder.mkdir(exist_ok=True)
    generate_log(design).write_parquet(folder / "log.parquet")
    return inline_prepare(input=[str(folder / "log.parquet")], output=str(folder / "data"), shards=1)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> das.Dataset:
    return dataset(tmp_path_factory.mktemp("tune"))


def test_a_search(data: das.Dataset, tmp_path: Path, ray_session: None, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "tuned"
    # Nothing is measured in no time, and the same command goes on.
    late = das.tune(data, output=str(output), **SETTINGS, time_budget="0.001s")
    assert (late.ok, late.winner, late.model) == (True, None, None)
    assert any("run the same command again" in note for note in late.notes)

    result = das.tune(data, output=str(output), **SETTINGS)
    assert (result.ok, result.left_out) == (True, [])
    assert [rung.share for rung in result.rungs] == [0.27, 1.0]
    first, last = result.rungs
    assert first.tried == len(result.candidates) <= 6
    assert first.kept == last.tried < first.tried
    assert last.kept == 1
    assert 0 < first.users < data.n_users == last.users
    # The best on validation among those fitted on everything, whatever the test rows say.
    final = [one for one in result.candidates if one.rungs[-1].share == 1.0]
    assert {one.model for one in final} == {"popularity", "svd_ae"}
    assert [one.name for one in final[:2]] == [result.winner.name, result.runner_up.name]
    assert result.winner.validation == max(one.rungs[-1].quality for one in final)
    assert all(one.dropped for one in result.candidates if one.rungs[-1].share < 1.0)
    assert result.on_validation.low <= result.on_validation.value <= result.on_validation.high
    test = result.winner.test["ndcg@10"] - result.runner_up.test["ndcg@10"]
    assert result.on_test.value == pytest.approx(test)
    assert result.full_cpu_s > 0
    # The winner alone is kept, fitted on all train rows with its settings.
    assert [str(path) for path in (output / "models").iterdir()] == [result.model]
    assert das.evaluate(data, result.model).metrics == result.winner.test
    model = das.load_model(result.model)
    assert {name: getattr(model.config, name) for name in result.winner.settings} == result.winner.settings

    records = {path: path.stat().st_mtime_ns for path in output.glob("trained/**/*.json")}
    again = das.tune(data, output=str(output), **SETTINGS)
    assert again.model_copy(update={"wall_s": 0}) == result.model_copy(update={"wall_s": 0})
    assert {path: path.stat().st_mtime_ns for path in output.glob("trained/**/*.json")} == records

    keep_tuned(again)
    page = (output / "tune.html").read_text()
    assert all(one.name in page for one in again.candidates)
    show_tuned(again)
    shown = capsys.readouterr().out
    assert "winner" in shown
    assert "winner less runner-up, test" in shown
    assert f"das evaluate --data {data.uri} --model {result.model}" in shown
    assert again.to_frame().height == len(again.candidates)

    # One candidate: neither rungs nor a runner-up.
    one = das.tune(data, output=str(tmp_path / "one"), models="ease", set={"ease.lam": 100}, search=5)
    assert (one.winner.name, one.runner_up, one.on_test) == ("ease-0", None, None)
    assert [rung.share for rung in one.rungs] == [1.0]
    assert any("no runner-up" in note for note in one.notes)

    other = dataset(tmp_path / "other", users=60, seed=1)
    with pytest.raises(OutputExistsError, match=r"holds a search of another dataset .*choose another --output"):
        das.tune(other, output=str(output), **SETTINGS)


@pytest.mark.slow
def test_every_trial_is_a_run_of_mlflow(data: das.Dataset, tmp_path: Path, ray_session: None) -> None:
    """Those of a call without MLflow are added by the next one, once."""
    mlflow = pytest.importorskip("mlflow", reason="MLflow is not installed: pip install -e '.[mlflow]'")
    place, output = f"sqlite:///{tmp_path}/mlflow.db", str(tmp_path / "tuned")
    das.tune(data, output=output, **SETTINGS)
    for _ in range(2):
        result = das.tune(data, output=output, **SETTINGS, mlflow=place)
    client = mlflow.MlflowClient(tracking_uri=place)
    runs = client.search_runs([client.get_experiment_by_name("distill_at_scale").experiment_id])
    told = [
        (one.model, rung.share, rung.quality, {name: str(value) for name, value in one.settings.items()})
        for one in result.candidates
        for rung in one.rungs
    ]
    assert len(runs) == len(told)
    for run in runs:
        params = run.data.params
        same = [
            quality
            for model, share, quality, settings in told
            if (model, str(share)) == (params["model"], params["budget"]) and settings.items() <= params.items()
        ]
        assert run.info.status == "FINISHED"
        assert (params["fingerprint"], params["seed"], params["split"]) == (
            data.manifest.fingerprint,
            "0",
            "validation",
        )
        assert params["method"] == ("full" if params["budget"] == "1.0" else "random_users")
        assert any(run.data.metrics["ndcg_at_10"] == pytest.approx(quality) for quality in same)
    assert "mlflow" not in json.loads(Path(output, "tune.json").read_text())["config"]


def test_small_logs_have_fewer_rungs(data: das.Dataset, tmp_path: Path) -> None:
    assert rungs(data) == [0.27, 1.0]
    assert rungs(dataset(tmp_path / "few", users=60)) == [1.0]


def test_bad_input(data: das.Dataset, tmp_path: Path) -> None:
    def tune(**more: object) -> None:
        das.tune(**{"data": data.uri, "output": str(tmp_path / "tuned"), **SETTINGS, **more})

    with pytest.raises(DasError, match="setting 'models': 'eas' is not one of"):
        tune(models="eas")
    with pytest.raises(DasError, match="setting 'search'"):
        tune(search=0)
    with pytest.raises(DasError, match="setting 'time_budget': 'soon' is not a duration"):
        tune(time_budget="soon")
    with pytest.raises(DasError, match="lie in one another; choose another --output"):
        tune(output=f"{data.uri}/tuned")
    with pytest.raises(DasError, match=r"--set ease\.lam: name what it is a setting of"):
        tune(set={"ease.lam": 5})
    with pytest.raises(DasError, match=r"does not exist|is not a dataset|no dataset"):
        tune(data=str(tmp_path / "none"))
    (tmp_path / "tuned").mkdir(exist_ok=True)
    (tmp_path / "tuned" / "notes.txt").write_text("mine")
    with pytest.raises(OutputExistsError, match=r"holds other files .*notes.txt"):
        tune()
