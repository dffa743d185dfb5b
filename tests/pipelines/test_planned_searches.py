"""Plans of verbs that fit many models, and of those that value, remove or hand over rows."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from forget_kit import distilled, file_of, users_of
from pydantic import BaseModel

from distill_at_scale.cli.verbs import VERBS
from distill_at_scale.config import DistillConfig
from distill_at_scale.data.dataset import Dataset
from distill_at_scale.distillation.attribution import closed_form
from distill_at_scale.distillation.attribution.learners import create_learner, steps_of
from distill_at_scale.distillation.attribution.learners import settings_of as settings_of_training
from distill_at_scale.errors import DasError, SettingError
from distill_at_scale.models import find_model
from distill_at_scale.pipelines.planning import searches
from distill_at_scale.pipelines.planning.plan import Plan, Step
from distill_at_scale.pipelines.planning.verbs import PLANS, make_plan
from distill_at_scale.pipelines.runtime.rates import rates

sys.path.insert(0, str(Path(__file__).parents[1] / "data"))
from dataset_kit import write_dataset

NODES = "1x4x64"
N_USERS, N_ITEMS = 1200, 9


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """1,200 users in three shards, each with six train rows, one validation row and one test row."""
    splits = [0] * 6 + [1, 2]
    shards, size = [], N_USERS // 3
    for first in range(0, N_USERS, size):
        users = range(first, first + size)
        shards.append([(u, (u + k) % N_ITEMS, 1.0, k, split) for u in users for k, split in enumerate(splits)])
    return write_dataset(tmp_path_factory.mktemp("plans") / "data", shards, [size] * 3, N_ITEMS)


def plan(verb: str, dataset: Dataset, nodes: str = NODES, **given: Any) -> Plan:
    kind: type[BaseModel] = VERBS[verb].model
    fields = {"data": dataset.uri} | ({"output": "unused"} if "output" in kind.model_fields else {})
    return make_plan(verb, kind.model_validate({**fields, **given}), nodes)


def step_of(made: Plan, name: str) -> Step:
    return next(one for one in made.steps if one.name == name)


def test_every_verb_that_works_on_a_cluster_has_a_plan() -> None:
    assert {name for name, verb in VERBS.items() if verb.plans} == set(PLANS)
    alone = {"quickstart", "fetch", "inspect", "report", "genie train", "settings", "submit", "doctor"}
    assert set(VERBS) - set(PLANS) == alone
    assert not Path("unused").exists()


def test_a_forecast_has_a_step_for_each_rung(dataset: Dataset) -> None:
    made = plan("forecast", dataset, models=["popularity", "ease", "mf"], up_to=0.4, seeds=2)
    # With two fifths of two fifths the smallest has 30 users.
    assert [one.name for one in made.steps] == [
        "make random_users",
        *(f"fit and evaluate on {share} %" for share in ("2.56", "6.4", "40", "100")),
    ]
    # Of the 100 % only the model that needs no rows.
    assert [one.tasks for one in made.steps[1:]] == [6, 6, 6, 1]
    assert made.result_bytes > 0
    with pytest.raises(DasError, match=r"too few for 3 rungs up to 0\.01"):
        plan("forecast", dataset, up_to=0.01)


def test_later_rungs_select_around_a_value() -> None:
    grid = find_model("als").parse_config({}).grid
    assert searches._around("als", {"dim": 4}, 0) == {"dim": 4}
    assert searches._around("als", {"dim": 4}, 1) == {"grid": grid[:3], "dim": 4}
    assert searches._around("als", {"grid": [1.0]}, 1) == {"grid": [1.0]}
    assert searches._around("mf", {}, 1) == {}


def test_a_small_sample_costs_ease_little() -> None:
    ease = find_model("ease")
    one, all_ = ease.parse_config({"lam": 3}), ease.parse_config({})
    assert ease.fit_work(501, 1000, 9000, one) == 1000**3
    assert ease.fit_work(100, 1000, 900, one) == 2 * 1000 * (100**2 + 900)
    values = len(all_.grid)
    assert ease.fit_work(100, 1000, 900, all_) == 2 * 1000 * (values * 100**2 + 900)
    assert ease.fit_work(501, 1000, 9000, all_) == values * 1000**3


def test_a_search_drops_candidates_until_four_are_left(dataset: Dataset) -> None:
    made = plan("tune", dataset, models=["ease", "mf"], search=12)
    # 1 % and 3 % have fewer than 100 users.
    names = ["make random_users", *(f"fit and evaluate on {share} %" for share in ("9", "27", "100"))]
    assert [one.name for one in made.steps] == names
    assert [one.tasks for one in made.steps[1:]] == [24, 8, 4]
    alone = plan("tune", dataset, models=["ease"], search=1)
    assert [(one.name, one.tasks) for one in alone.steps] == [("fit and evaluate on 100 %", 1)]
    few = plan("tune", dataset, models=["popularity"], search=5)
    assert few.what == "1 candidate of 1 model on 1 share"


def test_comparing_fits_each_model_on_each_dataset(dataset: Dataset) -> None:
    made = plan("compare", dataset, samples=[dataset.uri, dataset.uri], models=["ease", "mf"])
    assert [(one.name, one.tasks) for one in made.steps] == [("fit and evaluate ease", 3), ("fit and evaluate mf", 3)]
    with pytest.raises(SettingError, match="name what it is a setting of"):
        plan("compare", dataset, samples=[dataset.uri], models=["ease", "mf"], set={"lam": 3})


def test_settings_of_a_sweep_count(dataset: Dataset) -> None:
    def memory(**own: int) -> int:
        made = plan("sweep", dataset, methods=["random_users"], budgets=[0.5], models=["ease", "mf"], set=own)
        return step_of(made, "fit and evaluate mf").task_bytes

    more = memory(**{"mf.dim": 1000}) - memory(**{"mf.dim": 10})
    kind = find_model("mf")
    needed = [kind.memory_needed(N_USERS, N_ITEMS, kind.rows_held(dataset, 1), kind.parse_config({"dim": n}))
              for n in (1000, 10)]  # fmt: skip
    assert more == needed[0] - needed[1]


@pytest.mark.parametrize("model", ["ease", "infinite_ae"])
def test_values_in_closed_form_need_the_models_matrices(dataset: Dataset, model: str) -> None:
    (made,) = plan("attribute", dataset, model=model, set={"lam": 3}).steps
    needed = closed_form.memory_needed(model, N_USERS, N_USERS, N_ITEMS)
    assert made.task_bytes == round(rates().torch_bytes + needed)
    some = plan("attribute", dataset, model=model, users=300, set={"lam": 3})
    assert [one.name for one in some.steps] == [f"attribute to {model}", "score all rows by a rater"]
    needed = closed_form.memory_needed(model, 300, 300, N_ITEMS)
    assert some.steps[0].task_bytes == round(rates().torch_bytes + needed)


@pytest.mark.parametrize("model", ["mf", "sasrec", "gru4rec"])
def test_steps_of_a_training_are_known_beforehand(dataset: Dataset, model: str) -> None:
    settings = settings_of_training(model, {"epochs": 3, "batch_size": 70})
    train = dataset.interactions("train")
    learner = create_learner(model, settings, train)
    assert learner.n_steps == steps_of(model, learner.config, N_USERS, len(train.items))
    (made,) = plan("attribute", dataset, model=model, set={"epochs": 3}).steps
    assert made.task_bytes > rates().torch_bytes
    # A fit that selects λ comes first where none is given.
    closed, selected = (plan("attribute", dataset, model="ease", set=own).steps[0] for own in ({"lam": 3}, {}))
    assert closed.task_bytes == selected.task_bytes


def test_forgetting_reads_each_shard_and_distils_again(dataset: Dataset, tmp_path: Path) -> None:
    users = file_of(tmp_path, users_of(dataset)[:2].to_list())
    of_log = plan("forget", dataset, users=users)
    assert [(one.name, one.tasks) for one in of_log.steps] == [
        ("count users", 3), ("write without them", 3), ("write items", 1)
    ]  # fmt: skip
    assert plan("forget", dataset, users=users, dry_run=True).result_bytes == 0
    with pytest.raises(SettingError, match="no such file of ids"):
        plan("forget", dataset, users=str(tmp_path / "nobody.txt"))
    asked = {"data": dataset.uri, "method": "sketch", "users": 5, "output": str(tmp_path / "rows")}
    made = distilled(DistillConfig.model_validate(asked))
    again = plan("forget", dataset, users=users, data=made.uri, output=str(tmp_path / "again"))
    names = ["count users", "what depends on them", "write without them", "write items", "distill by sketch"]
    assert [one.name for one in again.steps] == names
    alone = make_plan("distill", DistillConfig.model_validate(asked), NODES)
    assert again.steps[-1] == alone.steps[0]
    assert again.result_bytes > of_log.result_bytes
    assert "The time of what depends on them was not measured and is not counted." in again.notes


def test_an_export_has_a_task_for_each_file(dataset: Dataset) -> None:
    every = {form: plan("export", dataset, format=form) for form in ("parquet", "csv", "recbole", "hf")}
    assert {form: made.steps[0].tasks for form, made in every.items()} == {
        "parquet": 3, "csv": 3, "recbole": 3, "hf": 9
    }  # fmt: skip
    assert every["csv"].rows == 8 * N_USERS
    assert plan("export", dataset, splits=["test"]).rows == N_USERS


def test_advice_needs_the_features_or_a_sweep(dataset: Dataset) -> None:
    made = plan("recommend", dataset)
    assert [one.name for one in made.steps] == ["measure features"]
    assert made.cpu_s == pytest.approx(6 * N_USERS * rates().seconds_a_row("features/big"), abs=0.1)  # type: ignore[operator]
    assert plan("recommend", dataset, sweep="somewhere").steps == []


def test_what_was_not_measured_is_said(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    measured = rates()
    kept = {key: run for key, run in measured._runs.items() if not key.startswith(("attribute", "fit/mf"))}
    monkeypatch.setattr(measured, "_runs", kept)
    made = plan("attribute", dataset, model="mf")
    assert made.wall_s is None
    assert "The time of attribute to mf was not measured and is not counted." in made.notes
    unknown = plan("tune", dataset, models=["mf", "ease"], search=3)
    assert unknown.wall_s is None
    assert unknown.notes[-2].startswith("The time of fit and evaluate on 9 %, ")


def test_the_solver_is_the_one_asked_for(dataset: Dataset) -> None:
    made = plan("fit", dataset, model="infinite_ae", solver="nystrom")
    assert [one.name for one in made.steps] == ["fit infinite_ae by nystrom"]
    with pytest.raises(SettingError, match="--solver is of infinite_ae"):
        plan("fit", dataset, model="ease", solver="nystrom")
