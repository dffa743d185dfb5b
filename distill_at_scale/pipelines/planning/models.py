"""Plans of the verbs that fit and use models: fit, distill, evaluate and predict."""

from __future__ import annotations

from typing import Any

from distill_at_scale.config import DistillConfig, EvaluateConfig, FitConfig, PredictConfig
from distill_at_scale.config.values import worker_range
from distill_at_scale.data import storage
from distill_at_scale.data.dataset import Dataset
from distill_at_scale.evaluation.item_blocks import ranking_memory
from distill_at_scale.facts import count_of
from distill_at_scale.models import find_model
from distill_at_scale.models.base import Recommender
from distill_at_scale.models.infinite_ae import InfiniteAE
from distill_at_scale.models.kernel.solvers import choose_solver
from distill_at_scale.models.kernel.solvers import plan as plan_solver
from distill_at_scale.models.saved import read_description
from distill_at_scale.models.search_space import values_tried
from distill_at_scale.models.selection import MOST_USERS
from distill_at_scale.pipelines.distill import distiller_of
from distill_at_scale.pipelines.evaluate import groups_of, propensity_files
from distill_at_scale.pipelines.fit import with_solver
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
# Bytes of the figures of an evaluation.
_RESULT_BYTES = 5 << 10
# Bytes of a row of the shard that is evaluated.
_SHARD_ROW_BYTES = 24.0


def plan_fit(config: FitConfig, cluster: Cluster, measured: Rates) -> Plan:
    config, dataset = with_solver(config), Dataset.open(config.data)
    found = fit_step(config, dataset, cluster, measured)
    train_rows = dataset.manifest.splits["train"]
    users, items = count_of(dataset.n_users, "user"), count_of(dataset.n_items, "item")
    what = f"{config.model} on {count_of(train_rows, 'train row')} of {users} and {items}"
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
    cpu_s = _fit_cpu_s(config, settings, users, train_rows, items, measured)
    if cpu_s is not None:
        cpu_s += _selecting_cpu_s(kind, settings, _validated(dataset, share), items, measured)
    return step(
        name,
        cluster,
        workers,
        base + needed,
        cpu_s,
        cpus,
        measured.load_s if kind.by_gradients or kind.by_passes else 0.0,
        measured.parallel_share(f"fit/{config.model}"),
    )


def _fit_cpu_s(
    config: FitConfig, settings: Any, users: int, train_rows: int, items: int, measured: Rates
) -> float | None:
    """Scales the measured fits by the model's own unit of work, without what they select on validation rows."""
    kind = find_model(config.model)

    def work(run: MeasuredRun) -> float:
        return kind.fit_work(run.users, run.items, run.train_rows, kind.parse_config(run.settings))

    def selecting(run: MeasuredRun) -> float:
        return _selecting_cpu_s(kind, kind.parse_config(run.settings), run.users, run.items, measured)

    wanted = kind.fit_work(users, items, train_rows, settings)
    return measured.scaled(f"fit/{config.model}", work, wanted, without=selecting)


def _selecting_cpu_s(kind: type[Recommender], settings: Any, users: int, items: int, measured: Rates) -> float:
    """CPU-seconds of judging values of a grid, or the model after each epoch, on the validation rows of ``users``."""
    if kind.by_gradients:
        times, most = settings.epochs, settings.validation_users
    else:
        times, most = values_tried(settings), MOST_USERS
    return times * (_judging_cpu_s(kind, min(users, most), items, measured) or 0.0)


def _validated(dataset: Dataset, share: float = 1.0) -> int:
    """Number of users with validation rows, in a share of the users; no more than there are such rows."""
    return round(share * min(dataset.n_users, dataset.manifest.splits.get("validation", 0)))


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
        "evaluate", what, cluster, dataset.n_rows, [*dealt, found], disk_bytes=dealt_bytes + _RESULT_BYTES,
        result_bytes=_RESULT_BYTES, object_store_bytes=weights + 8 * dataset.n_items, start_s=measured.start_s,
    )  # fmt: skip


def _judged_like(kind: type[Recommender]) -> str:
    """What was measured: a model of embeddings, and one whose scores are sums over the history's items."""
    return "evaluate/mf" if kind.by_gradients or kind.by_passes else "evaluate/ease"


def _judging_cpu_s(kind: type[Recommender], users: int, items: int, measured: Rates) -> float | None:
    """CPU-seconds of ranking all items for ``users``."""
    return measured.scaled(_judged_like(kind), lambda run: float(run.users) * run.items, float(users) * items)


def evaluate_step(
    model: str,
    dataset: Dataset,
    cluster: Cluster,
    measured: Rates,
    users: int,
    weights: float,
    tasks: int | None = None,
) -> Step:
    kind = find_model(model)
    key, cpu_s = _judged_like(kind), _judging_cpu_s(kind, users, dataset.n_items, measured)
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
