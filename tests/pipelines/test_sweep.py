"""sweep: every trial once, whatever happens on the way."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path, PurePosixPath

import numpy as np
import polars as pl
import pytest
from kill_kit import Death, Runs
from prepare_kit import inline_prepare

import distill_at_scale as das
from distill_at_scale.errors import DasError
from distill_at_scale.genie.trials import FULL, KEY, read_trials
from distill_at_scale.settings import seconds

SETTINGS = {"methods": "random,head_users", "budgets": "0.5,0.2", "models": "popularity,ease", "seeds": 2}


def log(folder: Path, seed: int = 0) -> str:
    """Two groups of users with an own half of the items each."""
    rng = np.random.default_rng(seed)
    rows = [
        (user, int(item) + 30 * (user % 2), 1_600_000_000 + 60 * k)
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


def expected_keys(
    data: das.Dataset, budgets: tuple[float, ...], models: tuple[str, ...], seeds: int
) -> list[tuple[object, ...]]:
    made = [(method, budget) for method in ("random", "head_users") for budget in budgets]
    return sorted(
        (data.manifest.fingerprint, method, budget, seed, model)
        for method, budget in [*made, (FULL, 1.0)]
        for seed in range(seeds)
        for model in models
    )


def test_a_sweep(data: das.Dataset, tmp_path: Path, ray_session: None) -> None:
    """With a sample that cannot be made (no user has so few rows) and a model that cannot learn from another."""
    output = tmp_path / "sweep"
    settings = {**SETTINGS, "budgets": "0.5,0.0025", "models": "popularity,ease,gru4rec", "seeds": 1}
    settings["set"] = {"gru4rec.epochs": 1}
    stopped = das.sweep(data=data.uri, output=str(output), **settings, time_budget="0s")
    assert (stopped.ok, stopped.done, stopped.failed, stopped.left) == (True, 0, 0, 15)

    result = das.sweep(data=data.uri, output=str(output), **settings)
    assert (result.ok, result.trials, result.done, result.failed, result.left) == (False, 15, 11, 4, 0)
    described, trials = read_trials(str(output))
    assert described.data.fingerprint == data.manifest.fingerprint
    assert keys(trials) == expected_keys(data, (0.5, 0.0025), ("popularity", "ease", "gru4rec"), seeds=1)
    failed = trials.filter(status="failed").sort("method", "model")
    assert failed.select("method", "budget", "model").rows() == [
        *(("head_users", 0.0025, model) for model in ("ease", "gru4rec", "popularity")),
        ("random", 0.0025, "gru4rec"),
    ]
    assert "first unit that head_users would keep has more than twice" in failed["reason"][0]
    assert "no user has enough train rows" in failed["reason"][3]
    assert {(cell.method, cell.budget) for cell in result.cells} == {
        ("random", 0.5),
        ("random", 0.0025),
        ("head_users", 0.5),
    }
    logs = b"".join(file.read_bytes() for file in (output / "tensorboard").rglob("events.out.tfevents.*"))
    for name in ("dataset", "method", "budget", "model", "seed"):
        assert f"trial/{name}".encode() in logs
    assert not list(output.rglob("*.pkl"))

    # A trial measures what the verbs measure.
    (row,) = trials.filter(method="random", budget=0.5, model="ease").to_dicts()
    sample = str(output / "data" / "seed-0" / "random-0.5")
    das.fit(data=sample, model="ease", output=str(tmp_path / "ease"))
    alone = das.evaluate(data=data.uri, model=str(tmp_path / "ease"), resample=True)
    assert row["ndcg@10"] == pytest.approx(alone.metrics["ndcg@10"], rel=1e-5)
    assert alone.resampled is not None
    assert row["resampled"]["ndcg@10"] == pytest.approx(alone.resampled["ndcg@10"], rel=1e-4)

    # Once more: what is known is taken up.
    records = {path: path.stat().st_mtime_ns for path in output.glob("trained/**/*.json")}
    again = das.sweep(data=data.uri, output=str(output), **settings)
    assert (again.done, again.failed, again.cells) == (11, 4, result.cells)
    assert {path: path.stat().st_mtime_ns for path in output.glob("trained/**/*.json")} == records


def test_bad_input(data: das.Dataset, tmp_path: Path, ray_session: None) -> None:
    def sweep(**more: object) -> None:
        das.sweep(**{"data": data.uri, "output": str(tmp_path / "sweep"), **SETTINGS, **more})

    with pytest.raises(DasError, match=r"setting 'methods': 'randon' is not one of random, .*Did you mean 'random'"):
        sweep(methods="randon")
    with pytest.raises(DasError, match=r"setting 'models': 'eas' is not one of popularity, .*Did you mean 'ease'"):
        sweep(models="eas,popularity")
    with pytest.raises(DasError, match=r"budgets.*2 is not a share of the train rows"):
        sweep(budgets="2")
    with pytest.raises(DasError, match="setting 'time_budget': 'soon' is not a duration; write it as 90s, 30m, 2h"):
        sweep(time_budget="soon")
    with pytest.raises(DasError, match="--set steps: name what it is a setting of, as "):
        sweep(set={"steps": 3})
    with pytest.raises(DasError, match="is left: sketch: none of the models learns from what it makes; add ease or"):
        sweep(methods="sketch", models="popularity,svd_ae")
    for place in (f"{data.uri}/sweep", str(PurePosixPath(data.uri).parent)):
        with pytest.raises(DasError, match="lie in one another; choose another --output"):
            sweep(output=place, overwrite=True)
    assert das.Dataset.open(data.uri).manifest == data.manifest
    with pytest.raises(DasError, match="--gpu is set, but the cluster has no GPU; leave it out, or add a GPU node"):
        sweep(gpu=True, output=str(tmp_path / "on_gpu"))
    with pytest.raises(DasError, match=r"is not a sweep: sweep\.json is missing"):
        read_trials(str(tmp_path))
    sweep(time_budget="0s")
    other = inline_prepare(input=[log(tmp_path, seed=1)], output=str(tmp_path / "other"))
    with pytest.raises(DasError, match="holds a sweep of another dataset"):
        sweep(data=other.uri)


def test_a_search_without_optuna_starts_nothing(
    data: das.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(DasError, match=r"--search needs Optuna, which is not installed: pip install"):
        das.sweep(data=data.uri, output=str(tmp_path / "sweep"), **SETTINGS, search=4)
    assert not (tmp_path / "sweep").exists()


def test_mlflow_is_asked_for_without_being_there(data: das.Dataset, tmp_path: Path) -> None:
    asked = {"data": data.uri, "output": str(tmp_path / "sweep"), **SETTINGS, "mlflow": "ftp://me:secret@there/"}
    here = importlib.util.find_spec("mlflow") is not None
    with pytest.raises(
        DasError, match="--mlflow ftp://there/: " if here else r"pip install 'distill-at-scale\[mlflow\]'"
    ) as told:
        das.sweep(**asked)
    assert "secret" not in str(told.value)
    assert not (tmp_path / "sweep").exists()


@pytest.mark.slow
def test_every_row_is_a_run_of_mlflow(data: das.Dataset, tmp_path: Path, ray_session: None) -> None:
    """Those of a first call without MLflow are added by a second one, which measures a model more."""
    mlflow = pytest.importorskip("mlflow", reason="MLflow is not installed: pip install -e '.[mlflow]'")
    place, output = f"sqlite:///{tmp_path}/mlflow.db", str(tmp_path / "sweep")
    settings = {**SETTINGS, "methods": "random,random_users", "budgets": "0.5", "seeds": 1}
    das.sweep(data=data.uri, output=output, **{**settings, "models": "popularity,ease"})
    for _ in range(2):
        das.sweep(data=data.uri, output=output, **{**settings, "models": "popularity,ease,svd_ae"}, mlflow=place)
    _, trials = read_trials(output)
    client = mlflow.MlflowClient(tracking_uri=place)
    found = client.search_runs([client.get_experiment_by_name("distill_at_scale").experiment_id])
    assert len(found) == len(trials) == 9
    assert {run.info.status for run in found} == {"FINISHED"}
    rows = {(row["method"], str(row["budget"]), row["model"]): row for row in trials.iter_rows(named=True)}
    for run in found:
        told = run.data.params
        row = rows.pop((told["method"], told["budget"], told["model"]))
        assert (told["seed"], told["dataset"], told["fingerprint"]) == ("0", row["dataset"], row["fingerprint"])
        assert run.data.metrics["ndcg_at_10"] == pytest.approx(row["ndcg@10"], rel=1e-5)
        assert run.data.metrics["fit_cpu_s"] == pytest.approx(row["fit_cpu_s"])
    assert rows == {}


@pytest.mark.slow
def test_settings_are_searched_first(data: das.Dataset, tmp_path: Path, ray_session: None) -> None:
    pytest.importorskip("optuna", reason="Optuna is not installed: pip install -e '.[search]'")
    output = tmp_path / "sweep"
    settings = {**SETTINGS, "methods": "random,distill_cf", "budgets": "0.5", "models": "ease,mf", "seeds": 1}
    given = {"mf.epochs": 4, "mf.dim": 8, "mf.dropout": 0.1, "distill_cf.steps": 10, "distill_cf.validate_every": 5}
    result = das.sweep(data=data.uri, output=str(output), **settings, set=given, search=4)
    assert (result.failed, result.left, sorted(result.searched)) == (0, 0, ["distill_cf", "mf"])
    assert sorted(result.searched["mf"]) == ["learning_rate"]  # what is given is not searched
    for owner, most in (("mf", 4), ("distill_cf", 3)):
        found = json.loads((output / "searched" / f"{owner}.json").read_text())
        rounds = [trial["rounds"] for trial in found["trials"]]
        assert len(rounds) == 4
        assert max(rounds) == most
        assert found["best"] == max(trial["metric"] for trial in found["trials"])
        assert found["default"] is not None
    rate = result.searched["mf"]["learning_rate"]
    das.fit(
        data=data.uri,
        model="mf",
        set={"learning_rate": rate, "epochs": 4, "dim": 8, "dropout": 0.1},
        output=str(tmp_path / "mf"),
    )
    alone = das.evaluate(data=data.uri, model=str(tmp_path / "mf")).metrics["ndcg@10"]
    _, trials = read_trials(str(output))
    (row,) = trials.filter(method=FULL, model="mf").to_dicts()
    assert row["ndcg@10"] == pytest.approx(alone, rel=1e-4)

    again = das.sweep(data=data.uri, output=str(output), **settings, set=given, search=4)
    assert again.searched == result.searched
    assert not list(output.rglob("*.pkl"))


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
    done = undisturbed.run([])
    # On everything, models in closed form are the same for both seeds.
    assert json.loads(done.stdout.splitlines()[-1])["fits"] == 2 + 2 * 2 * 2 * 2
    _, found = read_trials(str(killed.folder / "sweep"))
    _, whole = read_trials(str(undisturbed.folder / "sweep"))
    assert keys(found) == keys(whole) == expected_keys(data, (0.5, 0.2), ("popularity", "ease"), seeds=2)
    measured = [*KEY, "status", "rows", "share", "ndcg@10", "hr@100", "auc"]
    assert found.select(measured).sort(KEY).equals(whole.select(measured).sort(KEY))


_ON_GPU = """
import sys
import ray
import distill_at_scale as das
data, output = sys.argv[1:]
ray.init(num_cpus=2, num_gpus=1, include_dashboard=False, log_to_driver=False)
class Holder:
    def here(self):
        return True
holder = ray.remote(num_gpus=1)(Holder).remote()
ray.get(holder.here.remote())
asked = dict(data=data, output=output, methods="random", budgets="0.5", models="popularity,mf", set={"mf.epochs": 1})
held = das.sweep(**asked, gpu=True, time_budget="100s")
ray.kill(holder)
free = das.sweep(**asked, gpu=True)
print([[found.done, found.failed, found.left] for found in (held, free)])
"""


@pytest.mark.slow
def test_models_trained_by_gradients_wait_for_a_gpu(data: das.Dataset, tmp_path: Path) -> None:
    """Ray is told that the machine has one, which somebody else holds at first."""
    arguments = [sys.executable, "-c", _ON_GPU, data.uri, str(tmp_path / "sweep")]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[[2, 0, 2], [4, 0, 0]]"
