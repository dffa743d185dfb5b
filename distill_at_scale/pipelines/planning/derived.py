"""Plans of attribute, forget, export and recommend."""

from __future__ import annotations

from typing import Any

from distill_at_scale.config import AttributeConfig, ExportConfig, FitConfig, ForgetConfig, RecommendConfig
from distill_at_scale.data import storage
from distill_at_scale.data.columns import SPLITS, Columns
from distill_at_scale.data.dataset import Dataset
from distill_at_scale.data.export_formats import FORMATS
from distill_at_scale.data.given_ids import read_ids
from distill_at_scale.distillation.synthetic_manifest import is_synthetic
from distill_at_scale.facts import count_of
from distill_at_scale.models import find_model
from distill_at_scale.pipelines.planning.cluster import Cluster
from distill_at_scale.pipelines.planning.datasets import other_bytes, row_bytes, stage_step
from distill_at_scale.pipelines.planning.models import distill_step, fit_step
from distill_at_scale.pipelines.planning.plan import Plan, Step, plan_of, step
from distill_at_scale.pipelines.runtime.rates import Rates
from distill_at_scale.pipelines.runtime.resources import SHARE_OF_MEMORY
from distill_at_scale.pipelines.runtime.shard_groups import shard_groups
from distill_at_scale.pipelines.sweeps.dataset_features import TASKS

# Bytes of a row of a file of values in compressed Parquet: two ids, and a value that hardly compresses.
_VALUE_ROW_BYTES = 10
# Bytes of a row of an export, and of these the rating's.
_EXPORT_ROW_BYTES = {"parquet": 8.0, "hf": 8.0, "csv": 28.0, "recbole": 32.0}
_RATING_BYTES = {"parquet": 0.5, "hf": 0.5, "csv": 4.0, "recbole": 4.0}


def plan_attribute(config: AttributeConfig, cluster: Cluster, measured: Rates) -> Plan:
    """The plan of `attribute`: one task with all CPUs of a node."""
    dataset = Dataset.open(config.data)
    users = dataset.n_users if config.users is None else min(config.users, dataset.n_users)
    train_rows = round(dataset.manifest.splits["train"] * users / dataset.n_users)
    valued = _valuing_step(config, dataset, users, train_rows, cluster, measured)
    steps = [valued]
    if users < dataset.n_users:
        rate = measured.seconds_a_row("attribute/rater")
        cpu_s = None if rate is None else rate * dataset.manifest.splits["train"]
        steps.append(step("score all rows by a rater", cluster, 1, valued.task_bytes, cpu_s))
    what = f"{config.model} through {train_rows:,} train rows of {users:,} users"
    result = _VALUE_ROW_BYTES * float(dataset.manifest.splits["train"])
    return plan_of("attribute", what, cluster, dataset.n_rows, steps, result_bytes=result, start_s=measured.start_s)


def _valuing_step(
    config: AttributeConfig, dataset: Dataset, users: int, train_rows: int, cluster: Cluster, measured: Rates
) -> Step:
    from distill_at_scale.distillation.attribution import CLOSED_FORM
    from distill_at_scale.distillation.attribution.closed_form import memory_needed, work_needed
    from distill_at_scale.distillation.attribution.learners import settings_of, steps_of
    from distill_at_scale.distillation.attribution.training import affordable

    name, kind, items = config.model, find_model(config.model), dataset.n_items
    judged = min(users, dataset.manifest.splits.get("validation", 0))
    if name in CLOSED_FORM:
        settings = dict(config.set)
        needed = memory_needed(name, users, judged, items)
    else:
        settings = settings_of(name, config.set)
        own = kind.parse_config(settings)
        free = int(SHARE_OF_MEMORY * cluster.largest_memory)
        needed = affordable(kind, own, steps_of(name, own, users, train_rows), train_rows, users, items, free)[1]

    def work(n_users: int, n_items: int, n_rows: int, own: Any) -> float:
        if name in CLOSED_FORM:
            return work_needed(name, n_users, n_items)
        return float(kind.fit_work(n_users, n_items, n_rows, own))

    key = f"attribute/{name}"
    wanted = work(users, items, train_rows, kind.parse_config(settings))
    cpu_s = measured.scaled(
        key, lambda run: work(run.users, run.items, run.train_rows, kind.parse_config(run.settings)), wanted
    )
    if name in CLOSED_FORM and settings.get("lam") is None and cpu_s is not None:
        asked = FitConfig.model_validate({"data": dataset.uri, "model": name, "output": "unused", "set": settings})
        selected = fit_step(asked, dataset, cluster, measured, users / dataset.n_users).cpu_s
        cpu_s = None if selected is None else cpu_s + selected
    cpus = cluster.capacity.largest()
    bytes_, parallel = measured.torch_bytes + needed, measured.parallel_share(key)
    return step(f"attribute to {name}", cluster, 1, bytes_, cpu_s, cpus, measured.load_s, parallel)


def plan_forget(config: ForgetConfig, cluster: Cluster, measured: Rates) -> Plan:
    """The plan of `forget`; of synthetic data: of what distils it again, too."""
    if is_synthetic(storage.normalise(config.data)):
        return _plan_forget_synthetic(config, cluster, measured)
    dataset = Dataset.open(config.data)
    steps = _forget_steps(dataset, config.dry_run, cluster, measured)
    result = 0.0 if config.dry_run else row_bytes(dataset) * dataset.n_rows + other_bytes(dataset)
    asked = count_of(_users_to_forget(config, dataset), "id")
    what = f"{asked} of users of {dataset.n_rows:,} rows in {count_of(len(dataset.shards), 'shard')}"
    return plan_of("forget", what, cluster, dataset.n_rows, steps, result_bytes=result, start_s=measured.start_s)


def _users_to_forget(config: ForgetConfig, dataset: Dataset) -> int:
    """Number of ids in the file of users; reads it, so that a wrong file is refused as by the verb."""
    return len(read_ids(storage.normalise(config.users), dataset.manifest.id_types[Columns.USER_ID], Columns.USER_ID))


def _forget_steps(dataset: Dataset, only_count: bool, cluster: Cluster, measured: Rates) -> list[Step]:
    shards, found = len(dataset.shards), []
    for one in measured.stages("forget/big") or []:
        if one.name == "count users" or not only_count:
            tasks = 1 if one.name == "write items" else shards
            found.append(stage_step(cluster, measured, dataset.n_rows, tasks, one, dataset=dataset))
    return found


def _plan_forget_synthetic(config: ForgetConfig, cluster: Cluster, measured: Rates) -> Plan:
    from distill_at_scale.distillation.dependence import memory_needed
    from distill_at_scale.distillation.synthetic import SyntheticDataset
    from distill_at_scale.pipelines.distilling.distilled_again import parent_of, settings_again

    made = SyntheticDataset.open(config.data)
    dataset, m = parent_of(made, config.log), made.manifest
    needed = memory_needed(m.parent.n_rows, m.parent.n_users, m.n_items, m.n_users)
    counted, *written = _forget_steps(dataset, config.dry_run, cluster, measured)
    steps = [counted, step("what depends on them", cluster, 1, measured.torch_bytes + needed, None), *written]
    result = 0.0
    if not config.dry_run:
        assert config.output is not None
        again = settings_again(made, config, dataset.uri, config.output)
        steps.append(distill_step(again, dataset, cluster, measured))
        result = row_bytes(dataset) * dataset.n_rows + other_bytes(dataset) + m.data.bytes
    asked = count_of(_users_to_forget(config, dataset), "id")
    what = f"{asked} of users of {dataset.n_rows:,} rows and of {m.n_users:,} {m.kind} made of them"
    return plan_of("forget", what, cluster, dataset.n_rows, steps, result_bytes=result, start_s=measured.start_s)


def plan_export(config: ExportConfig, cluster: Cluster, measured: Rates) -> Plan:
    """The plan of `export`: a task for each file, which reads one shard at a time."""
    known, form = measured.stages(f"export/{config.format}") or [], FORMATS[config.format]
    if is_synthetic(config.data):
        from distill_at_scale.distillation.synthetic import SyntheticDataset

        drawn = SyntheticDataset.open(config.data)
        m = drawn.manifest
        rows, shards, splits, dataset = round(m.n_users * m.parent.rows_a_user), 1, dict[str, int](), None
    else:
        dataset = Dataset.open(config.data)
        splits = {split: n for split in SPLITS if (n := dataset.manifest.splits.get(split, 0))}
        if config.splits or dataset.manifest.parent:
            splits = {split: n for split, n in splits.items() if split in (config.splits or ["train"])}
        rows, shards = sum(splits.values()), len(dataset.shards)
    tasks = len(form.files("export", shards, list(splits)))
    steps = [stage_step(cluster, measured, rows, max(tasks, 1), one, dataset=dataset) for one in known]
    what = f"{rows:,} rows as {config.format} in {tasks:,} files"
    rated = dataset is not None and dataset.manifest.has_ratings
    result = (_EXPORT_ROW_BYTES[config.format] - (0 if rated else _RATING_BYTES[config.format])) * rows
    start_s = measured.start_s if tasks > 1 else 0.0
    return plan_of("export", what, cluster, rows, steps, result_bytes=result, start_s=start_s)


def plan_recommend(config: RecommendConfig, cluster: Cluster, measured: Rates) -> Plan:
    """The plan of `recommend`: the dataset's features, unless a sweep is given."""
    dataset = Dataset.open(config.data)
    steps = []
    if config.sweep is None:
        rate = measured.seconds_a_row("features/big")
        train = dataset.manifest.splits["train"]
        cpu_s = None if rate is None else rate * train
        tasks = len(shard_groups(dataset.shards.rows.tolist(), TASKS))
        steps.append(step("measure features", cluster, tasks, measured.process_bytes, cpu_s))
    what = f"a method and a budget for {dataset.n_rows:,} rows"
    # A single task is done without Ray.
    start_s = measured.start_s if steps and steps[0].tasks > 1 else 0.0
    return plan_of("recommend", what, cluster, dataset.n_rows, steps, result_bytes=0, start_s=start_s)
