"""Verbs with a model, a sampler and a distiller from outside the package, on workers that import them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from plugins_kit import DAMPENED, MEANS, OLDEST, forget
from prepare_kit import inline_prepare, random_rows, write_logs

import distill_at_scale as das
from distill_at_scale.distillation.synthetic import SyntheticDataset
from distill_at_scale.errors import ClusterError
from distill_at_scale.genie.trials import read_trials

pytestmark = pytest.mark.usefixtures("outside", "ray_session")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> das.Dataset:
    folder = tmp_path_factory.mktemp("plugins")
    logs = write_logs(folder, random_rows(5, 1500, 80, 30), 2)
    return inline_prepare(input=logs, output=str(folder / "data"), shards=2, min_user=4)


@pytest.mark.slow
def test_a_sweep_of_things_from_outside(data: das.Dataset, tmp_path: Path) -> None:
    output = str(tmp_path / "sweep")
    asked = {"methods": [OLDEST, MEANS], "models": [DAMPENED, "ease"], "budgets": "0.5"}
    found = das.sweep(data=data.uri, output=output, set={f"{MEANS}.scale": 2.0, f"{DAMPENED}.power": 1.0}, **asked)
    assert found.ok, found.failures
    assert found.done == 6
    described, trials = read_trials(output)
    assert set(trials["model"]) == {DAMPENED, "ease"}
    assert described.units == {OLDEST: "train rows", MEANS: "users"}
    made = SyntheticDataset.open(str(tmp_path / "sweep" / "data" / "seed-0" / "outside.distiller.Means-0.5"))
    assert made.manifest.method == MEANS
    assert made.manifest.config["scale"] == 2.0
    forget()
    # Whoever reads a sweep imports nothing of it.
    told = das.recommend(data=data.uri, sweep=output)
    assert {option.unit for option in told.options} == {"train rows", "users"}
    (command,) = [option.command for option in told.options if option.method == MEANS]
    assert f"das distill --data {data.uri} --method {MEANS} --users {round(data.n_users / 2)} " in command


@pytest.mark.slow
def test_two_workers_distill_as_one(data: das.Dataset, tmp_path: Path) -> None:
    one, two = (
        das.distill(data=data.uri, method=MEANS, users=5, output=str(tmp_path / str(n)), workers=n) for n in (1, 2)
    )
    rows = [SyntheticDataset.open(made.uri).rows() for made in (one, two)]
    np.testing.assert_array_equal(*rows)
    assert rows[0].shape == (5, data.n_items)


def test_a_fitted_model_is_evaluated_and_loaded(data: das.Dataset, tmp_path: Path) -> None:
    fitted = das.fit(data=data.uri, model=DAMPENED, output=str(tmp_path / "model"))
    popular = das.fit(data=data.uri, model="popularity", output=str(tmp_path / "popular"))
    measured, expected = (das.evaluate(data=data.uri, model=model.uri).metrics for model in (fitted, popular))
    assert measured["hr@10"] == pytest.approx(expected["hr@10"], abs=0.1)
    assert das.load_model(fitted.uri).name == "dampened"


def test_a_node_that_lacks_a_plugin_is_named(
    data: das.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "only_here.py").write_text("from outside.model import Dampened as Model\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(
        ClusterError,
        match=r"^Node \d+\.\d+\.\d+\.\d+ \(.*\): 'only_here:Model': module 'only_here' is missing; .*py_modules",
    ):
        das.fit(data=data.uri, model="only_here:Model", output=str(tmp_path / "model"))
    assert not (tmp_path / "model").exists()
