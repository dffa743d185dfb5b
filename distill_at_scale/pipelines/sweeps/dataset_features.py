"""Features of a dataset for Data-Genie, in one pass over its shards."""

from __future__ import annotations

from typing import Any

from distill_at_scale.data.dataset import Dataset
from distill_at_scale.genie.features import ShardFeatures, dataset_features
from distill_at_scale.pipelines.runtime import run_record, session
from distill_at_scale.pipelines.runtime.tasks import run_stage

# A task sends back a histogram and its share of the sampled users' rows; at most this many of them reach the driver.
_MAX_GROUPS = 64


def features(dataset: Dataset, address: str | None = None) -> dict[str, float]:
    """Computes the features of a dataset's train rows, by name; see :mod:`distill_at_scale.genie.features`.

    Args:
        dataset: Dataset of any size; the driver receives only counts and the rows of a few thousand users.
        address: Address of a Ray cluster (default: the current session, else this machine).

    Raises:
        DasError: The dataset has no train rows.
    """
    n, uri = len(dataset.shards), dataset.uri
    size = -(-n // min(n, _MAX_GROUPS))
    groups = [list(range(start, min(start + size, n))) for start in range(0, n, size)]
    if len(groups) == 1:
        # A single task takes less time in this process than a start of Ray.
        return dataset_features(dataset, groups[0]).result(dataset.train_counts())

    def measure(group: list[int]) -> dict[str, Any]:
        return {"features": dataset_features(Dataset.open(uri), list(group))}

    record = run_record.RunRecord("features", {"data": uri})
    with session.ensure(address):
        found = run_stage(record, "measure features", measure, groups)
    total = ShardFeatures()
    for one in found:
        total = total.merge(one["features"])
    return total.result(dataset.train_counts())
