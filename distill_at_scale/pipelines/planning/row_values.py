"""Plan of the stage that deals numbers from outside, such as scores and propensities, by user."""

from __future__ import annotations

from distill_at_scale.data.dataset import Dataset
from distill_at_scale.data.readers.tables import BATCH_ROWS
from distill_at_scale.data.row_values import DealtValues, ValueFiles
from distill_at_scale.pipelines.planning.cluster import Cluster
from distill_at_scale.pipelines.planning.plan import Step, step
from distill_at_scale.pipelines.runtime.dealt_values import are_dealt, stage_of
from distill_at_scale.pipelines.runtime.rates import Rates

# Of a row: jobs/results/values.json.
_CPU_S = 0.6e-6
_TASK_BYTES = 200
# Of an item: its id and number, and a table to look them up.
_ITEM_BYTES = 60
_DISK_BYTES = 19


def plan_values(
    files: ValueFiles | None, dataset: Dataset, cluster: Cluster, measured: Rates
) -> tuple[list[Step], float]:
    """Returns the step, if there is one, and the bytes of the dealt numbers.

    Args:
        files: Files of the numbers; None: there are none.
    """
    if files is None or not are_dealt(files, dataset):
        return [], 0.0
    rows = [piece.rows for piece in files.pieces]
    task_bytes = measured.process_bytes + _TASK_BYTES * min(max(rows), BATCH_ROWS)
    if files.with_items:
        task_bytes += _ITEM_BYTES * dataset.n_items
    tasks = DealtValues.plan(files, dataset, "").tasks
    return [step(stage_of(files), cluster, tasks, task_bytes, _CPU_S * sum(rows))], float(_DISK_BYTES * sum(rows))
