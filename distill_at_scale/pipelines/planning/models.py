"""Plans of the verbs that fit and use models: fit, distill, evaluate and predict."""

from __future__ import annotations

from typing import Any

from distill_at_scale.config import DistillConfig, EvaluateConfig, FitConfig, PredictConfig
from distill_at_scale.config.values import worker_range
from distill_at_scale.data import storage
from distill_at_scale.data.dataset import Dataset
from distill_at_scale.evaluation.item_blocks import ranking_memory
from distill_at_scale.models import find_model
from distill_at_scale.models.infinite_ae import InfiniteAE
from distill_at_scale.models.kernel.solvers import choose_solver
from distill_at_scale.models.kernel.solvers import plan as plan_solver
from distill_at_scale.models.saved import read_description
from distill_at_scale.pipelines.distill import distiller_of
from distill_at_scale.pipelines.evaluate import groups_of, propensity_files
from distill_at_scale.pipelines.planning.cluster import Cluster
from distill_at_scale.pipelines.planning.factored_rows import factored_cpu_s
from distill_at_scale.pipelines.planning.plan import Plan, Step, plan_of, step
from distill_at_scale.pipelines.planning.row_values import plan_values
from distill_at_scale.pipelines.predict import blocks_of
from distill_at_scale.pipelines.runtime import used_model
from distill_at_scale.pipelines.runtime.rates import MeasuredRun, Rates
from distill_at_scale.pipelines.runtime.resources import SHARE_OF_MEMORY

# Bytes of a row of a list in compressed Parquet: an item, its rank and a score of 32 bits that hardly compresses.
_LIST_ROW_BYTES = 8
# Bytes of a row of the shard that is evaluated.
_SHARD_ROW_BYTES = 24.0


def plan_fit(config: FitConfig, cluster: Cluster, measured: Rates) -> Plan:
    dataset = Dataset.open(config.data)
    found = fit_step(config, dataset, cluster, measured)
    train_rows = dataset.manifest.splits["train"]
    what = f"{config.model} on {train_rows:,} train rows of {dataset.n_users:,} users and {dataset.n_items:,} items"
    return plan_of(
        "fit",
        what,
        cluster,
        dataset.n_rows,
        [found],
        result_bytes=model_bytes(config, dataset),
        start_s=measured.start_s,
    )


def fit_step(
    config: FitConfig,
    dataset: Dataset,
    cluster: Cluster,
    measured: Rates,
    share: float = 1.0,
    threads: int | None = None,
) -> Step:
    """The fit on a share of a dataset's users."""
    kind = find_model(config.model)
    settings = kind.parse_config(config.set)
    users, items = max(1, round(share * dataset.n_users)), dataset.n_items
    train_rows = round(share * dataset.manifest.splits["train"])
    _, workers = worker_range(config.workers)
    # One worker gets the CPUs of a node, several share them.
    cpus = threads or (cluster.capacity.largest() if workers == 1 else 1)
    name = f"fit {config.model}"
    if issubclass(kind, InfiniteAE):
        size = kind.size(users, items, train_rows, settings, workers)
        free = int(SHARE_OF_MEMORY * cluster.largest_memory)
        chosen = (
            choose_solver(size, free, free, measured.speed)
            if settings.solver == "auto"
            else plan_solver(settings.solver, size, measured.speed)
        )
        bytes_ = measured.torch_bytes + chosen.bytes
        return step(f"{name} by {chosen.solver}", cluster, workers, bytes_, chosen.seconds * workers, 1)
    base = measured.base_bytes(
        f"fit/{config.model}",
        lambda run: kind.memory_needed(run.users, run.items, run.rows, kind.parse_config(run.settings)),
    )
    needed = kind.memory_needed(users, items, round(share * kind.rows_held(dataset, workers, settings)), settings)
    return step(
        name,
        cluster,
        workers,
        base + needed,
        _fit_cpu_s(config, settings, users, train_rows, items, measured),
        cpus,
        measured.load_s if kind.by_gradients or kind.by_passes else 0.0,
        measured.parallel_share(f"fit/{config.model}"),
    )


def _fit_cpu_s(
    config: FitConfig, settings: Any, users: int, train_rows: int, items: int, measured: Rates
) -> float | None:
    """Scales the measured fits by the model's own unit of work."""
    kind = find_model(config.model)

    def work(run: MeasuredRun) -> float:
        return kind.fit_work(run.users, run.items, run.train_rows, kind.parse_config(run.settings))

    return measured.scaled(f"fit/{config.model}", work, kind.fit_work(users, items, train_rows, settings))


def model_bytes(config: FitConfig, dataset: Dataset) -> float:
    """Bytes of a saved model, from the sizes of its settings."""
    kind = find_model(config.model)
    return kind.stored_bytes(dataset.n_users, dataset.n_items, kind.parse_config(config.set))


def plan_distill(config: DistillConfig, cluster: Cluster, measured: Rates) -> Plan:
    distiller = distiller_of(config)
    dataset = Dataset.open(config.data)
    distiller.check(dataset, worker_range(config.workers)[1])
    found = distill_step(config, dataset, cluster, measured)
    number = max(numbers := distiller.numbers(dataset.n_users))
    stored = distiller.bytes_of(number, dataset.n_items)
    rank = getattr(distiller.config, "rank", None)
    if rank is not None:
        stored = 4.0 * rank * (number + dataset.n_items)
    notes = [] if stored is not None else ["The bytes of the sequences are not known beforehand."]
    if len(numbers) > 1:
        tried = f"{', '.join(f'{each:,}' for each in numbers[:-1])} and {numbers[-1]:,}"
        notes.append(f"The best of {tried} {distiller.size()} is kept; bytes are those of {number:,}.")
    what = f"{config.method} into {number:,} {distiller.size()} of {dataset.n_items:,} items"
    checkpoints = 4.0 * (stored or 0) * config.keep_checkpoints
    return plan_of(
        "distill", what, cluster, dataset.n_rows, [found],
        result_bytes=stored or 0, disk_bytes=(stored or 0) + checkpoints, start_s=measured.start_s, notes=notes,
    )  # fmt: skip


def distill_step(config: DistillConfig, dataset: Dataset, cluster: Cluster, measured: Rates) -> Step:
    distiller = distiller_of(config)
    own, (_, workers) = distiller.config, worker_range(config.workers)
    width = distiller.planned_width(dataset.n_items)
    numbers = distiller.numbers(dataset.n_users)
    steps = [distiller.planned_steps(number) for number in numbers]
    work = sum(float(number) * n_steps for number, n_steps in zip(numbers, steps))
    judged = len(numbers) * _judged(own, dataset)
    # λ is selected on the validation users for the rows of each number and what they are compared with.
    pairs, key = float(judged * width), f"distill/{config.method}"
    if "steps" in type(own).model_fields:
        cpu_s = measured.scaled(key, _steps_of, work * width, (_judged_of, pairs), len(numbers))
    else:
        cpu_s = measured.scaled(key, _judged_of, pairs)
    if getattr(own, "rank", None) is not None and own.privacy is None:
        cpu_s = factored_cpu_s(own, dataset, numbers, steps)
    bytes_ = measured.torch_bytes + distiller.memory(dataset, workers)
    cpus = cluster.capacity.largest() if workers == 1 else 1
    parallel = measured.parallel_share(key)
    return step(f"distill by {config.method}", cluster, workers, bytes_, cpu_s, cpus, measured.load_s, parallel)


def _steps_of(run: MeasuredRun) -> float:
    return float(run.number) * run.items * run.settings.get("steps", 1)


def _judged_of(run: MeasuredRun) -> float:
    return float(min(run.settings.get("validation_users", 3000), run.users) * run.items)


def _judged(settings: Any, dataset: Dataset) -> int:
    """Number of validation users of a distiller."""
    return min(getattr(settings, "validation_users", dataset.n_users), dataset.n_users)


def plan_evaluate(config: EvaluateConfig, cluster: Cluster, measured: Rates) -> Plan:
    dataset = Dataset.open(config.data)
    described = read_description(storage.normalise(config.model))
    used_model.described(config.model).check_items(dataset)
    weights = float(described.weights.bytes)
    users = min(config.users or dataset.n_users, dataset.n_users)
    found = evaluate_step(described.model, dataset, cluster, measured, users, weights)
    what = f"{described.model} on {users:,} users and {dataset.n_items:,} items"
    dealt, dealt_bytes = plan_values(propensity_files(config, dataset), dataset, cluster, measured)
    return plan_of(
        "evaluate", what, cluster, dataset.n_rows, [*dealt, found], disk_bytes=dealt_bytes + (1 << 16),
        result_bytes=1 << 16, object_store_bytes=weights + 8 * dataset.n_items, start_s=measured.start_s,
    )  # fmt: skip


def evaluate_step(
    model: str,
    dataset: Dataset,
    cluster: Cluster,
    measured: Rates,
    users: int,
    weights: float,
    tasks: int | None = None,
) -> Step:
    # What was measured: a model of embeddings, and one whose scores are sums over the history's items.
    kind = find_model(model)
    key = "evaluate/mf" if kind.by_gradients or kind.by_passes else "evaluate/ease"
    cpu_s = measured.scaled(key, lambda run: float(run.users) * run.items, float(users) * dataset.n_items)
    groups = tasks or len(groups_of(dataset, cluster.capacity.cpus))
    largest = int(dataset.shards.rows.max())
    needed = weights + _SHARD_ROW_BYTES * largest + ranking_memory(dataset.n_items, kind.by_blocks)
    by_blocks = key == "evaluate/mf"

    def counted(run: MeasuredRun) -> float:
        return _SHARD_ROW_BYTES * run.rows / run.shards + ranking_memory(run.items, by_blocks)

    load_s = measured.load_s if by_blocks else 0.0
    return step("evaluate", cluster, groups, measured.base_bytes(key, counted) + needed, cpu_s, start_s=load_s)


def plan_predict(config: PredictConfig, cluster: Cluster, measured: Rates) -> Plan:
    """The plan of `predict`."""
    dataset = Dataset.open(config.data)
    described = read_description(storage.normalise(config.model))
    used_model.described(config.model).check_items(dataset)
    weights = float(described.weights.bytes)
    asked = config.users.strip()
    users = min(int(asked), dataset.n_users) if asked.isdecimal() else dataset.n_users
    tasks = len(list(blocks_of(dataset, users > 0, config.similar_items)))
    lists = users + (dataset.n_items if config.similar_items else 0)
    found = evaluate_step(described.model, dataset, cluster, measured, lists, weights, tasks)
    notes = (
        [] if asked.isdecimal() or asked.casefold() == "all" else ["The users of the file are counted as all users."]
    )
    return plan_of(
        "predict",
        f"lists of {config.k:,} items for {users:,} users of {dataset.n_items:,} items",
        cluster,
        dataset.n_rows,
        [found.model_copy(update={"name": "predict"})],
        result_bytes=_LIST_ROW_BYTES * lists * min(config.k, dataset.n_items),
        object_store_bytes=weights + 8 * dataset.n_items,
        start_s=measured.start_s,
        notes=notes,
    )
