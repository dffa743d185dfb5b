"""Plans of the verbs that make datasets and logs: prepare, sample and expand."""

from __future__ import annotations

import inspect
import math

from distill_at_scale.config import ExpandConfig, PrepareConfig, SampleConfig
from distill_at_scale.data import storage
from distill_at_scale.data.dataset import Dataset
from distill_at_scale.data.preparation.dealt import HELD_BYTES, HELD_ROWS, MERGE_ROWS
from distill_at_scale.facts import count_of
from distill_at_scale.pipelines.expand import ROW_BYTES, check_blocks, parts_of, rates_of
from distill_at_scale.pipelines.planning.cluster import Cluster
from distill_at_scale.pipelines.planning.learned_samplers import learned_step, proxy_step
from distill_at_scale.pipelines.planning.plan import Plan, Step, plan_of, step
from distill_at_scale.pipelines.planning.row_values import plan_values
from distill_at_scale.pipelines.preparing.disk import disk_needed
from distill_at_scale.pipelines.preparing.job import PrepareJob
from distill_at_scale.pipelines.runtime.own_settings import refuse_proxy_settings
from distill_at_scale.pipelines.runtime.rates import Rates, StageRate
from distill_at_scale.pipelines.sampling.shard_scores import TOGETHER
from distill_at_scale.samplers import find_sampler
from distill_at_scale.samplers.column import find_column
from distill_at_scale.samplers.embedding.vectors import EmbeddingPasses
from distill_at_scale.samplers.sampler import Sampler

# Of a row, when the log is dealt in two levels: jobs/results/large-logs.json; rows of a range are in memory about five
# times while they are dealt, those of a group that is held once, with item numbers for ids.
_READ_CPU_S, _DEAL_CPU_S, _DEAL_HELD_CPU_S = 0.12e-6, 0.65e-6, 0.5e-6
_DEAL_ROW_BYTES = 5 * 36
_HELD_ROW_BYTES = 28
# Bytes of a row of an expansion, relative to a row of the dataset: .7 to 1.4 on four logs.
_EXPANDED = 1.1


def plan_prepare(config: PrepareConfig, cluster: Cluster, measured: Rates) -> Plan:
    job = PrepareJob.of(config)
    _, pieces, estimate = job.plan_log()
    # Rows of an earlier dataset are sorted and written again, not read from the log.
    rows = estimate.rows + job.earlier_reading.good
    shards = job.n_shards(rows)
    exchange = job.exchange(len(pieces), estimate)
    tasks = {"read the log": len(pieces), "sort by user": shards, "number, split, write": shards}
    steps = [
        stage_step(
            cluster,
            measured,
            estimate.rows if one.name == "read the log" else rows,
            tasks.get(one.name, max(1, shards // TOGETHER)),
            one,
        )
        for one in measured.stages("prepare/big") or []
    ]
    if exchange.together > 1:
        held = min(HELD_BYTES, _HELD_ROW_BYTES * estimate.rows / exchange.sources)
        bytes_ = steps[0].task_bytes + held
        steps[0] = step("read the log", cluster, exchange.sources, bytes_, steps[0].cpu_s)
    elif exchange.merges:
        steps[0] = step("read the log", cluster, len(pieces), steps[0].task_bytes, _READ_CPU_S * estimate.rows)
        # After the item ids, which it numbers.
        of_group = rows / len(exchange.groups)
        held = of_group if of_group <= HELD_ROWS else 0
        in_range = min(MERGE_ROWS, of_group / exchange.parts)
        deal_bytes = measured.process_bytes + _HELD_ROW_BYTES * held + _DEAL_ROW_BYTES * in_range
        cpu_s = (_DEAL_HELD_CPU_S if held else _DEAL_CPU_S) * rows
        steps.insert(2, step("deal by user", cluster, len(exchange.groups), deal_bytes, cpu_s))
    at_once = cluster.at_once(1, measured.process_bytes)
    work, result = disk_needed(rows, exchange, at_once, estimate.timed)
    read = f"{count_of(len(pieces), 'fragment')} of {count_of(estimate.files, 'file')}"
    what = f"{estimate.rows:,} rows in {read} into {count_of(shards, 'shard')}"
    if job.earlier is not None:
        what += f", with {job.earlier_reading.good:,} rows of {storage.redact(job.earlier.dataset.uri)}"
    notes = [] if estimate.exact else ["The number of rows is an estimate from the first lines of the files."]
    return plan_of(
        "prepare", what, cluster, rows, steps,
        result_bytes=result, disk_bytes=work + result, start_s=measured.start_s, notes=notes,
    )  # fmt: skip


def plan_sample(config: SampleConfig, cluster: Cluster, measured: Rates) -> Plan:
    dataset = Dataset.open(config.data)
    sampler = find_sampler(config.sampler)
    refuse_proxy_settings(config, config.sampler, sampler.proxy)
    sampler.check(dataset)
    steps, notes = sample_steps(config.sampler, dataset, cluster, measured, config.proxy_epochs)
    held_out = dataset.n_rows - dataset.manifest.splits["train"]
    kept = sum(share * dataset.manifest.splits["train"] + held_out for share in config.budgets)
    budgets = f"{len(config.budgets)} budget{'s' * (len(config.budgets) != 1)}"
    what = f"{config.sampler} at {budgets} of {dataset.n_rows:,} rows in {count_of(len(dataset.shards), 'shard')}"
    result = kept * row_bytes(dataset) + len(config.budgets) * other_bytes(dataset)
    scores = 8.0 * dataset.manifest.splits["train"]
    if sampler.column is not None:
        files = find_column(dataset, sampler.column, config.scores and storage.normalise(config.scores))
        dealt, dealt_bytes = plan_values(files, dataset, cluster, measured)
        steps, scores = [*dealt, *steps], scores + dealt_bytes
    return plan_of(
        "sample", what, cluster, dataset.n_rows, steps,
        result_bytes=result, disk_bytes=result + scores, start_s=measured.start_s, notes=notes,
    )  # fmt: skip


def sample_steps(
    name: str, dataset: Dataset, cluster: Cluster, measured: Rates, epochs: int
) -> tuple[list[Step], list[str]]:
    known, notes, like = measured.stages(f"sample/{name}"), [], name
    if known is None:
        own = find_sampler(name)
        like = "svp_bias_users" if own.proxy else _learned_alike(own) if own.map_reduce else "random_users"
        known = measured.stages(f"sample/{like}") or []
        notes.append(f"{name} was not measured; its stages are those of {like}.")
    steps = []
    for one in known:
        # A proxy is trained in one step, for all its epochs; the other steps are passes over the shards.
        if one.name.startswith("train"):
            steps.append(proxy_step(find_sampler(name), dataset, cluster, measured, epochs, one))
            continue
        tasks = math.ceil(len(dataset.shards) / TOGETHER)
        made = stage_step(cluster, measured, dataset.n_rows, tasks, one, dataset=dataset)
        learned = one.name.startswith("learn")
        if learned:
            made = learned_step(find_sampler(name), dataset, cluster, made)
            made = made.model_copy(update={"name": made.name.replace(f"learn {like}", f"learn {name}")})
        steps.append(made)
    return steps, notes


def _learned_alike(sampler: Sampler) -> str:
    """Returns the measured sampler that learns from the log in the same way."""
    made = sampler.map_reduce
    return "density" if inspect.isclass(made) and issubclass(made, EmbeddingPasses) else "centrality"


def plan_expand(config: ExpandConfig, cluster: Cluster, measured: Rates) -> Plan:
    """The plan of `expand`; reads as many shards as its keep rates need."""
    dataset = Dataset.open(config.data)
    check_blocks(config, dataset)
    keep = rates_of(dataset.uri, config.blocks, config.seed)
    rows, parts = int(keep.sum() * dataset.n_rows), list(parts_of(dataset, keep))
    known = measured.stages("expand/small")
    if known is None:
        task_bytes = measured.process_bytes + 64.0 * rows / len(parts)
        steps = [step("expand", cluster, len(parts), task_bytes, None)]
    else:
        steps = [stage_step(cluster, measured, rows, len(parts), one) for one in known]
    what = f"{dataset.n_rows:,} rows expanded by {config.by} to about {rows:,}"
    # Ids and times of the copies take about the bytes that those of the dataset take; its files may be small.
    of_row = min(_EXPANDED * int(dataset.shards.bytes("data").sum()) / max(dataset.n_rows, 1), ROW_BYTES)
    return plan_of("expand", what, cluster, rows, steps, result_bytes=of_row * rows, start_s=measured.start_s)


def stage_step(
    cluster: Cluster,
    measured: Rates,
    rows: int,
    tasks: int,
    rate: StageRate,
    times: float = 1.0,
    dataset: Dataset | None = None,
) -> Step:
    """A stage over rows, whose largest task has an equal part of them, or the largest shard."""
    largest = rows / tasks if dataset is None else int(dataset.shards.rows.max())
    task_bytes = measured.process_bytes + rate.row_bytes * largest
    return step(rate.name, cluster, tasks, task_bytes, rate.row_cpu_s * rows * times)


def other_bytes(dataset: Dataset) -> float:
    """Bytes of the files of users and items, which a sample has as well."""
    return int(dataset.shards.bytes("users").sum()) + dataset.manifest.items.bytes


def row_bytes(dataset: Dataset) -> float:
    return int(dataset.shards.bytes("data").sum()) / max(dataset.n_rows, 1)
