"""Plans of what samplers learn before they score: memory and time that grow with the items."""

from __future__ import annotations

import inspect

from distill_at_scale.data.dataset import Dataset
from distill_at_scale.pipelines.planning.cluster import Cluster
from distill_at_scale.pipelines.planning.plan import Step, step
from distill_at_scale.pipelines.runtime.map_reduce import ROWS_AN_ITEM
from distill_at_scale.pipelines.runtime.rates import MeasuredRun, Rates, StageRate
from distill_at_scale.samplers.embedding.vectors import MOST_COLUMNS, EmbeddingPasses
from distill_at_scale.samplers.sampler import Sampler

# Of a column of an embedding, and of an item of the other map-reduce samplers: jobs/results/catalogue.json.
_COLUMN_BYTES = 860
_ITEM_BYTES = 80
# Of a column in a shard's part of a pass.
_COLUMN_CPU_S = 0.2e-6
# Of a parameter in a step, all of which Adam changes in each.
_PARAMETER_CPU_S = 3e-9
# Of a step of a proxy, whatever its rows; the measured log has batches of the smallest size.
_STEP_CPU_S = 2.2e-3


def learned_step(sampler: Sampler, dataset: Dataset, cluster: Cluster, by_rows: Step) -> Step:
    """Passes over the shards.

    Args:
        by_rows: The step as its rows alone would have it, named as "learn density, 6 passes".
    """
    made, n_items, cpu_s = sampler.map_reduce, dataset.n_items, by_rows.cpu_s
    more = float(_ITEM_BYTES * n_items)
    if inspect.isclass(made) and issubclass(made, EmbeddingPasses):
        columns = min(n_items, MOST_COLUMNS)
        more = float(_COLUMN_BYTES * columns)
        if cpu_s is not None:
            passes = int(by_rows.name.split()[-2])
            visits = min(len(dataset.shards), max(by_rows.tasks, dataset.n_rows // (ROWS_AN_ITEM * columns)))
            cpu_s += _COLUMN_CPU_S * columns * visits * passes
    return step(by_rows.name, cluster, by_rows.tasks, by_rows.task_bytes + more, cpu_s)


def proxy_step(
    sampler: Sampler, dataset: Dataset, cluster: Cluster, measured: Rates, epochs: int, rate: StageRate
) -> Step:
    """The training of an SVP sampler's proxy by one worker.

    Args:
        rate: The measured training of a proxy for a small catalogue.
    """
    from distill_at_scale.samplers.svp.proxies import BATCH, proxy_model

    assert sampler.proxy is not None
    n_rows = dataset.manifest.splits["train"]
    model = proxy_model(sampler.proxy, "implicit", n_rows, dataset.n_items, 0, epochs)

    def counted(run: MeasuredRun) -> float:
        return model.memory_needed(run.users, run.items, -(-run.rows // max(run.shards, 1)), model.config)

    needed = model.memory_needed(dataset.n_users, dataset.n_items, model.rows_held(dataset, 1), model.config)
    parameters = model.parameters_needed(dataset.n_users, dataset.n_items, model.config)
    steps = -(-n_rows // model.config.batch_size)
    row_s = max(rate.row_cpu_s - _STEP_CPU_S / BATCH, 0.0)
    cpu_s = epochs * (row_s * dataset.n_rows + (_STEP_CPU_S + _PARAMETER_CPU_S * parameters) * steps)
    bytes_ = measured.base_bytes("sample/svp_bias_users", counted) + needed
    return step(f"train {sampler.proxy} proxy", cluster, 1, bytes_, cpu_s)
