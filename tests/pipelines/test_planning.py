"""Plans: the tasks and memory that the verbs themselves would use, without starting anything."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import polars as pl
import pytest
from prepare_kit import without_ray

from distill_at_scale.config import (
    DistillConfig,
    EvaluateConfig,
    ExpandConfig,
    FitConfig,
    PredictConfig,
    PrepareConfig,
    SampleConfig,
    SweepConfig,
)
from distill_at_scale.data.dataset import Dataset
from distill_at_scale.data.preparation import exchange
from distill_at_scale.data.preparation.exchange import Exchange
from distill_at_scale.distillation import distill_cf_config
from distill_at_scale.distillation.distill_cf_config import DistillCFConfig
from distill_at_scale.errors import DasError, SettingError, StorageError
from distill_at_scale.models import als as als_module
from distill_at_scale.models import create_model, find_model
from distill_at_scale.models.training import alternating
from distill_at_scale.pipelines import prepare as prepare_module
from distill_at_scale.pipelines.distill import distiller_of
from distill_at_scale.pipelines.evaluate import groups_of
from distill_at_scale.pipelines.expand import parts_of, rates_of
from distill_at_scale.pipelines.planning import factored_rows, learned_samplers, row_values
from distill_at_scale.pipelines.planning import models as planned_models
from distill_at_scale.pipelines.planning.cluster import Cluster
from distill_at_scale.pipelines.planning.datasets import sample_steps
from distill_at_scale.pipelines.planning.plan import plan_of, step
from distill_at_scale.pipelines.planning.verbs import make_plan
from distill_at_scale.pipelines.predict import blocks_of
from distill_at_scale.pipelines.preparing.disk import require_space
from distill_at_scale.pipelines.runtime import dealt_values
from distill_at_scale.pipelines.runtime.rates import Rates, StageRate, rates
from distill_at_scale.samplers import find_sampler
from distill_at_scale.samplers.svp.proxies import proxy_model

sys.path.insert(0, str(Path(__file__).parents[1] / "data"))
from dataset_kit import write_dataset


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    rows = [[(user, item, 1.0, item, item % 3) for user in range(k, k + 3) for item in range(9)] for k in (0, 3)]
    return write_dataset(tmp_path_factory.mktemp("plans") / "data", rows, [3, 3], 9)


def test_nodes_and_what_runs_on_them_at_the_same_time() -> None:
    cluster = Cluster.named("2x8x32,1x4x64")
    assert (cluster.nodes, cluster.capacity.cpus) == (3, 20)
    assert cluster.at_once(1, 2**20) == 20
    # A node gives .7 of its memory away: 22 GiB hold two tasks of 10, 44 GiB four.
    assert cluster.at_once(1, 10 * 2**30) == 2 * 2 + 4
    assert cluster.at_once(8, 0) == 2
    # One alone may have more.
    assert cluster.at_once(1, 50 * 2**30) == 1
    assert cluster.at_once(1, 60 * 2**30) == 0


@pytest.mark.parametrize("wrong", ["8x16", "0x16x64", "8x16x0", "many", "8x16x64,"])
def test_other_nodes_are_refused(wrong: str) -> None:
    with pytest.raises(SettingError, match="--plan-nodes"):
        Cluster.named(wrong)
    with pytest.raises(SettingError, match="name the nodes"):
        Cluster.named(None, "ray://head:10001")


def test_time_is_that_of_the_rounds_of_tasks() -> None:
    cluster = Cluster.named("1x4x64")
    # 6 tasks of 10 s on 4 slots take two rounds; two CPUs each halve a task and the slots.
    assert step("a", cluster, 6, 0, 60.0).wall_s == 20.0
    assert step("a", cluster, 6, 0, 60.0, cpus=2).wall_s == 15.0
    # What all CPUs do is divided among them, the rest is not.
    assert step("a", cluster, 2, 0, 60.0, cpus=2, parallel=0.5).wall_s == 22.5
    huge = step("b", cluster, 1, 2**40, 1.0)
    assert (huge.at_once, huge.wall_s) == (0, None)
    plan = plan_of("fit", "", cluster, 1, [step("a", cluster, 6, 2**30, 60.0), huge], result_bytes=5)
    assert plan.wall_s is None
    assert "b needs 1.0 TiB for a task" in plan.notes[0]
    unknown = plan_of("fit", "", cluster, 1, [step("c", cluster, 1, 0, None)], result_bytes=5, start_s=2)
    assert unknown.wall_s is None
    assert "The time of c was not measured" in unknown.notes[0]
    known = plan_of("fit", "", cluster, 1, [step("a", cluster, 6, 2**30, 60.0)], result_bytes=5, start_s=2)
    assert (known.wall_s, known.cpu_s, known.node_bytes) == (22.0, 60.0, 4 * 2**30)


def test_plans_use_the_verbs_own_numbers(dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distill_cf_config, "SIZES", (2, 3, 1))
    out = str(tmp_path / "out")
    fit = FitConfig.model_validate({"data": dataset.uri, "model": "mf", "output": out, "workers": 2})
    kind = find_model("mf")
    held = kind.rows_held(dataset, 2)
    needed = kind.memory_needed(dataset.n_users, dataset.n_items, held, kind.parse_config({}))
    (made,) = make_plan("fit", fit, "1x4x64").steps
    assert made.tasks == 2
    # To what the verb counts comes what a process of such a fit takes beside it.
    beside = made.task_bytes - needed
    assert beside >= rates().process_bytes - 1
    twice = FitConfig.model_validate({"data": dataset.uri, "model": "mf", "output": out, "set": {"dim": 100_000}})
    more = kind.memory_needed(
        dataset.n_users, dataset.n_items, kind.rows_held(dataset, 1), kind.parse_config(twice.set)
    )
    assert make_plan("fit", twice, "1x4x64").steps[0].task_bytes == pytest.approx(beside + more, abs=2)

    distill = DistillConfig.model_validate({"data": dataset.uri, "method": "distill_cf", "users": 2, "output": out})
    (made,) = make_plan("distill", distill, "1x4x64").steps
    beside = rates().torch_bytes
    assert made.task_bytes == round(beside + distiller_of(distill).memory(dataset, 1))
    tried = DistillConfig.model_validate({"data": dataset.uri, "method": "distill_cf", "output": out})
    three = make_plan("distill", tried, "1x4x64")
    each = [make_plan("distill", distill.model_copy(update={"users": n}), "1x4x64").steps[0].cpu_s for n in (2, 3, 1)]
    assert three.steps[0].cpu_s == pytest.approx(sum(each), abs=0.2)
    assert three.result_bytes == 4 * 3 * dataset.n_items
    assert "The best of 2, 3 and 1 users is kept; bytes are those of 3." in three.notes
    fewer = make_plan("distill", distill.model_copy(update={"set": {"rank": 1}}), "1x4x64")
    assert fewer.result_bytes == 4 * (2 + dataset.n_items)

    create_model("popularity").fit(dataset).save(str(tmp_path / "model"))
    of = EvaluateConfig.model_validate({"data": dataset.uri, "model": str(tmp_path / "model")})
    assert make_plan("evaluate", of, "1x4x64").steps[0].tasks == len(groups_of(dataset, 4))

    predict = PredictConfig.model_validate(
        {"data": dataset.uri, "model": str(tmp_path / "model"), "output": out, "k": 3, "similar_items": True}
    )
    blocks = list(blocks_of(dataset, True, True))
    assert make_plan("predict", predict, "1x4x64").steps[0].tasks == len(blocks) == 3
    expand = ExpandConfig.model_validate({"data": dataset.uri, "by": "2x3", "output": out})
    grown = make_plan("expand", expand, "1x4x64")
    keep = rates_of(dataset.uri, (2, 3), 0)
    assert (grown.rows, grown.steps[-1].tasks) == (int(keep.sum() * dataset.n_rows), len(list(parts_of(dataset, keep))))

    sample = SampleConfig.model_validate({"data": dataset.uri, "sampler": "random", "budget": ["0.5"], "output": out})
    assert make_plan("sample", sample, "1x4x64").steps[0].name == "score"
    sweep = SweepConfig.model_validate(
        {"data": dataset.uri, "methods": ["random", "distill_cf"], "budgets": ["0.5"], "models": ["ease", "mf"],
         "output": out, "seeds": 2}
    )  # fmt: skip
    names = {one.name: one.tasks for one in make_plan("sweep", sweep, "1x4x64").steps}
    # mf learns from samples, not from rows of synthetic users: full and random against full, random and distill_cf.
    learns = 3 if find_model("mf").learns_from_rows else 2
    assert names["fit and evaluate ease"] == 2 * 3
    assert names["fit and evaluate mf"] == 2 * learns
    assert not Path(out).exists()


def test_learned_samplers_need_memory_and_time_for_the_items(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster, by_rows = Cluster.named("1x4x64"), step("learn it, 3 passes", Cluster.named("1x4x64"), 2, 100.0, 1.0)
    monkeypatch.setattr(learned_samplers, "MOST_COLUMNS", 7)
    embedded = learned_samplers.learned_step(find_sampler("density"), dataset, cluster, by_rows)
    assert embedded.task_bytes == 100 + 7 * learned_samplers._COLUMN_BYTES
    walked = learned_samplers.learned_step(find_sampler("centrality"), dataset, cluster, by_rows)
    assert walked.task_bytes == 100 + dataset.n_items * learned_samplers._ITEM_BYTES

    rate = StageRate("train bias proxy", 0.5, 0.0)
    found = learned_samplers.proxy_step(find_sampler("svp_mf"), dataset, cluster, rates(), 3, rate)
    assert found.name == "train mf proxy"
    model = proxy_model("mf", "implicit", dataset.manifest.splits["train"], dataset.n_items, 0, 3)
    held = model.rows_held(dataset, 1)
    larger = dataset.n_users + 10**6
    needed = [model.memory_needed(users, dataset.n_items, held, model.config) for users in (dataset.n_users, larger)]
    monkeypatch.setattr(type(dataset), "n_users", larger)
    more = learned_samplers.proxy_step(find_sampler("svp_mf"), dataset, cluster, rates(), 3, rate)
    assert more.task_bytes - found.task_bytes == needed[1] - needed[0]
    assert found.cpu_s == pytest.approx(3 * 0.5 * dataset.n_rows, abs=0.1)
    assert more.cpu_s == pytest.approx(found.cpu_s + 3 * learned_samplers._PARAMETER_CPU_S * 11 * 10**6, abs=0.1)


@pytest.mark.parametrize(("name", "like"), [("sensitivity", "density"), ("forest_fire", "centrality")])
def test_what_was_not_measured_costs_as_what_learns_alike(name: str, like: str, dataset: Dataset) -> None:
    steps, notes = sample_steps(name, dataset, Cluster.named("1x4x64"), rates(), 1)
    assert notes == [f"{name} was not measured; its stages are those of {like}."]
    assert f"learn {name}" in steps[0].name


def test_factors_cost_by_rows_and_rank_and_by_what_is_judged(dataset: Dataset) -> None:
    train, n_items = dataset.manifest.splits["train"], dataset.n_items

    def cpu_s(steps: int = 10, number: int = 2, **settings: int) -> float:
        return factored_rows.factored_cpu_s(DistillCFConfig(rank=4, **settings), dataset, [number], [steps])

    # The three parts, each seen alone: the start by the rows that are read, the steps, and the evaluations.
    start = cpu_s() - cpu_s(real_rows=train // 2)
    assert start == pytest.approx(
        factored_rows._START_ENTRY_S * (train - train // 2) * (4 + distill_cf_config.OVERSAMPLE)
    )
    assert cpu_s(real_rows=100 * train) == cpu_s()
    one_judged = (cpu_s() - cpu_s(validation_users=3)) / (dataset.n_users - 3)
    a_score = factored_rows._SCORE_S * (0.5 + 0.5 * 4 / factored_rows._USUAL_RANK)
    assert one_judged == pytest.approx((25 + 10 / 25 + 1) * n_items * a_score)
    step_s = (cpu_s(steps=35) - cpu_s(steps=10)) / 25 - dataset.n_users * n_items * a_score / 25
    pairs = 2 * (2 + 512) * factored_rows._STEP_PAIR_S
    assert step_s == pytest.approx(factored_rows._STEP_ENTRY_S * train * 4 + pairs)
    both = factored_rows.factored_cpu_s(DistillCFConfig(rank=4), dataset, [2, 3], [10, 20])
    read_s = factored_rows._READ_ROW_S * dataset.n_rows
    assert both == pytest.approx(cpu_s() + cpu_s(steps=20, number=3) - read_s)


def test_numbers_from_outside_are_dealt_where_there_are_many_shards(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = tmp_path / "scores.parquet"
    pl.DataFrame({"user_id": [1] * 20, "item_id": range(20), "q": [0.5] * 20}).write_parquet(scores, row_group_size=10)
    settings = {"data": dataset.uri, "sampler": "column=q", "scores": str(scores), "budget": [0.5], "output": "out"}
    config = SampleConfig.model_validate(settings)
    few = make_plan("sample", config)
    monkeypatch.setattr(dealt_values, "FEW_SHARDS", 1)
    many = make_plan("sample", config)
    assert [one.name for one in many.steps] == ["deal q by user", *(one.name for one in few.steps)]
    assert (many.steps[0].tasks, many.disk_bytes - few.disk_bytes) == (1, 20 * row_values._DISK_BYTES)


def test_prepare_has_a_task_for_each_fragment_and_shard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "log"
    log.mkdir()
    for k in range(3):
        pl.DataFrame({"user_id": [1, 2], "item_id": [3, k], "timestamp": [1_600_000_000, 1_600_000_001]}).write_parquet(
            log / f"{k}.parquet"
        )
    config = PrepareConfig.model_validate({"input": [str(log)], "output": str(tmp_path / "data"), "shards": 4})
    plan = make_plan("prepare", config, "1x2x8", price=3.0)
    tasks = {one.name: one.tasks for one in plan.steps}
    assert (tasks["read the log"], tasks["sort by user"], tasks["number, split, write"]) == (3, 4, 4)
    assert (plan.rows, plan.disk_bytes > plan.result_bytes) == (6, True)
    assert plan.wall_s is not None
    assert plan.money == round(plan.wall_s / 3600 * 3.0, 2)
    # Positions in a line take less than times.
    lines = tmp_path / "lines.txt"
    lines.write_text("u1 3 1\nu2 3 2 1\nu3 4\n")
    counted = PrepareConfig.model_validate({"input": [str(lines)], "output": "out", "shards": 4})
    of_lines = make_plan("prepare", counted, "1x2x8")
    assert of_lines.rows == 6
    assert of_lines.result_bytes < 0.6 * plan.result_bytes
    other = pl.DataFrame({"visitor": [5], "item_id": [6], "timestamp": [1_600_000_002]})
    with without_ray():
        old = prepare_module.prepare(config, output=str(tmp_path / "old"), split="20_percent_hist")
    # An append reads the new files only, and is refused where the run would be.
    appended = PrepareConfig.model_validate({"input": [str(log)], "output": str(tmp_path / "data"), "append": old.uri})
    with pytest.raises(DasError, match=r"is in .* already; name only new files"):
        make_plan("prepare", appended, "1x2x8")
    other.write_parquet(log / "3.parquet")
    with pytest.raises(DasError, match="rename the new files' columns to those of"):
        make_plan("prepare", appended, "1x2x8")
    other.rename({"visitor": "user_id"}).write_parquet(log / "3.parquet")
    plan = make_plan("prepare", appended, "1x2x8")
    assert ({one.name: one.tasks for one in plan.steps}["read the log"], plan.rows) == (1, 7)
    apart = make_plan("prepare", config, "1x2x8").steps[0]
    monkeypatch.setattr(exchange, "ONE_LEVEL", 0)
    monkeypatch.setattr(exchange, "_GROUPS", 2)
    together = make_plan("prepare", config, "1x2x8").steps[0]
    # Four fragments, two in a task that holds their rows.
    assert (apart.tasks, together.tasks) == (4, 2)
    assert together.task_bytes - apart.task_bytes == pytest.approx(28 * 7 / 2, abs=2)
    monkeypatch.setattr(exchange, "TOGETHER", 0)
    names = [one.name for one in make_plan("prepare", config, "1x2x8").steps]
    assert names[:4] == ["read the log", "collect item ids", "deal by user", "sort by user"]
    assert "deal by user" not in tasks
    assert not (tmp_path / "data").exists()


def test_a_model_of_other_items_is_refused_as_by_the_verb(dataset: Dataset, tmp_path: Path) -> None:
    model = str(tmp_path / "model")
    other = write_dataset(tmp_path / "other", [[(0, 0, 1.0, 0, 0)]], [1], 1, item_space="other")
    create_model("popularity").fit(other).save(model)
    settings = {"data": dataset.uri, "model": model}
    with pytest.raises(DasError, match="was fitted on another item numbering"):
        make_plan("evaluate", EvaluateConfig.model_validate(settings))
    with pytest.raises(DasError, match="was fitted on another item numbering"):
        make_plan("predict", PredictConfig.model_validate(settings | {"output": str(tmp_path / "lists")}))


def test_no_ray_is_started_and_the_options_are_the_command_lines(tmp_path: Path) -> None:
    log = tmp_path / "log.csv"
    log.write_text("user_id,item_id,timestamp\n1,2,1600000003\n1,3,1600000004\n")

    def das(*words: str) -> tuple[int, str]:
        code = (
            "import sys; from distill_at_scale.cli import main\n"
            "try: main()\n"
            "finally: print('started', 'ray' in sys.modules and sys.modules['ray'].is_initialized(), file=sys.stderr)"
        )
        run = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)
        assert "started False" in run.stderr, run.stderr
        return run.returncode, run.stdout

    code, said = das("prepare", "--input", str(log), "--output", str(tmp_path / "d"), "--plan", "--json")
    assert (code, json.loads(said)["rows"]) == (0, 2)
    assert not (tmp_path / "d").exists()


def test_wrong_options_of_a_plan_are_refused() -> None:
    from distill_at_scale.cli import planning

    with pytest.raises(SettingError, match="--price is for --plan"):
        planning.asked({"plan": False, "price": "3", "plan_nodes": None})
    with pytest.raises(SettingError, match="not a number"):
        planning.planned("fit", FitConfig, {"price": "dear", "plan_nodes": None})  # type: ignore[arg-type]
    for price in (-1.0, float("nan"), float("inf")):
        with pytest.raises(SettingError, match=r"--price \S+ is not a number of at least 0"):
            make_plan("fit", FitConfig, price=price)  # type: ignore[arg-type]
    with pytest.raises(SettingError, match="--plan is of prepare"):
        make_plan("doctor", FitConfig)  # type: ignore[arg-type]


def test_costs_are_those_of_the_line_through_two_sizes() -> None:
    stage = {"stage": "fit", "tasks": 1, "reused": 0, "wall_s": 1.0, "peak_mib": 1.0}
    runs = {key: {"rows": rows, "users": users, "stages": [{**stage, "cpu_s": cpu_s}]} for key, rows, users, cpu_s in
            (("fit/a", 10, 2, 3.0), ("fit/a/larger", 20, 2, 4.0), ("fit/a/judged", 10, 4, 3.4),
             ("fit/b", 10, 2, 3.0))}  # fmt: skip
    made = Rates({"machine": "", "start_s": 1.0, "load_s": 1.0, **runs})
    work = lambda run: float(run.rows)  # noqa: E731
    users = lambda run: float(run.users)  # noqa: E731
    assert made.scaled("fit/a", work, 100, (users, 12)) == pytest.approx(2.0 + 10.0 + 2.0)
    assert made.scaled("fit/a", work, 100, (users, 12), times=3) == pytest.approx(3 * 1.6 + 10.0 + 2.4)
    assert made.scaled("fit/b", work, 100, (users, 12)) == pytest.approx(30.0)
    assert made.scaled("fit/a", work, 100) == pytest.approx(2.0 + 10.0)
    assert made.scaled("fit/b", work, 100) == pytest.approx(30.0)
    assert made.scaled("fit/c", work, 100) is None
    # Of 3 and 4 seconds 1 and 1.5 were other work.
    other = lambda run: run.rows / 20 + 0.5  # noqa: E731
    assert made.scaled("fit/a", work, 100, without=other) == pytest.approx(1.5 + 5.0)


def test_what_is_selected_costs_its_evaluations(tmp_path: Path) -> None:
    rows = [(user, item, 1.0, item, item % 3) for user in range(40) for item in range(9)]
    many = write_dataset(tmp_path / "data", [rows], [40], 9)

    def cpu_s(model: str, **settings: object) -> float:
        fit = {"data": many.uri, "model": model, "output": "out", "set": settings}
        return make_plan("fit", FitConfig.model_validate(fit), "1x2x8").steps[0].cpu_s or 0

    kind = find_model("svd_ae")
    one = planned_models._judging_cpu_s(kind, 40, 9, rates())
    assert one is not None
    tried = [planned_models._selecting_cpu_s(kind, kind.parse_config(of), 40, 9, rates()) for of in ({}, {"rank": 4})]
    assert tried == [pytest.approx(len(kind.parse_config({}).grid) * one), 0]
    assert cpu_s("svd_ae", grid=[2, 3, 4, 5] * 50) > cpu_s("svd_ae", grid=[2]) > 0
    mf = find_model("mf")
    epochs = [planned_models._selecting_cpu_s(mf, mf.parse_config({"epochs": n}), 40, 9, rates()) for n in (1, 3)]
    assert epochs[1] == pytest.approx(3 * epochs[0])
    few = planned_models._selecting_cpu_s(mf, mf.parse_config({"epochs": 1, "validation_users": 4}), 40, 9, rates())
    assert few == pytest.approx(planned_models._judging_cpu_s(mf, 4, 9, rates()) or 0)


def test_als_holds_all_rows_of_a_small_log_and_never_counts_less_than_it_holds(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    als, shard = find_model("als"), int(dataset.shards.rows.max())
    assert als.rows_held(dataset) == dataset.n_rows
    two = als.rows_held(dataset, 2)
    assert not alternating.holds_all(als.parse_config({}), dataset.n_users, two)
    assert als.rows_held(dataset, 1, als.parse_config({"block": 2})) == shard
    settings = als.parse_config({"dim": 4})
    whole = als.memory_needed(dataset.n_users, dataset.n_items, dataset.n_rows, settings)
    # One row more than is held at once: the sums of all items come to it, though no more rows are held.
    for module in (alternating, als_module):
        monkeypatch.setattr(module, "FEW", dataset.n_rows + dataset.n_users * 4 - 1)
    held = als.rows_held(dataset, 1, settings)
    assert held == dataset.n_rows
    streamed = als.memory_needed(dataset.n_users, dataset.n_items, held, settings)
    assert streamed - whole == 4 * dataset.n_items * (4 * 7 // 2)


def test_what_all_cores_did_is_told_by_seconds_and_cpu_seconds() -> None:
    stage = {"stage": "fit", "tasks": 1, "reused": 0, "peak_mib": 1.0}
    runs = {key: {"stages": [{**stage, "wall_s": wall_s, "cpu_s": 8.0}]} for key, wall_s in
            (("a", 8.0), ("b", 2.0), ("c", 5.0), ("d", 9.0), ("d/larger", 2.0), ("e", 0.0))}  # fmt: skip
    made = Rates({"machine": "", "cores": 4, "start_s": 1.0, "load_s": 1.0, **runs})
    found = {key: made.parallel_share(key) for key in ("a", "b", "c", "d", "e", "f")}
    assert found == {"a": 0.0, "b": 1.0, "c": 0.5, "d": 1.0, "e": 1.0, "f": 1.0}


def test_a_disk_that_is_too_small_is_refused_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", ["total", "used", "free"])
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage(1 << 40, 0, 1 << 20))
    few, many = Exchange.plan(1, 1), Exchange.plan(10_000, 65_536)
    require_space(str(tmp_path / "a" / "b"), 1000, few)
    require_space("s3://bucket/data", 10**12, many)
    with pytest.raises(StorageError, match=r"1,000,000 rows fills about .* MiB at .*, but 1\.0 MiB are free there"):
        require_space(str(tmp_path), 1_000_000, few)
    log = tmp_path / "log.csv"
    log.write_text("user_id,item_id,timestamp\n" + "1,2,1600000003\n" * 200_000)
    with pytest.raises(StorageError, match="choose an --output with more space"):
        prepare_module.prepare(input=[str(log)], output=str(tmp_path / "d"))
