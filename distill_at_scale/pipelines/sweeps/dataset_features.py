"""Features of a dataset for Data-Genie, in one pass over its shards."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

from distill_at_scale.data.dataset import Dataset
from distill_at_scale.genie.features import ShardFeatures, dataset_features
from distill_at_scale.pipelines.runtime import run_record, session
from distill_at_scale.pipelines.runtime.shard_groups import shard_groups
from distill_at_scale.pipelines.runtime.tasks import run_merged

# Least number of tasks, if there are as many shards. Their number grows with the rows only, not with the cluster, since
# the features are sums of floating-point numbers.
TASKS = 64


def features(dataset: Dataset, address: str | None = None) -> dict[str, float]:
    """Computes the features of a dataset's train rows, by name; see :mod:`distill_at_scale.genie.features`.

    Args:
        dataset: Dataset of any size; the driver receives only counts and the rows of a few thousand users.
        address: Address of a Ray cluster (default: the current session, else this machine).

    Raises:
        DasError: The dataset has no train rows.
    """
    groups = shard_groups(dataset.shards.rows.tolist(), TASKS)
    if len(groups) == 1:
        # A single task takes less time in this process than a start of Ray.
        return dataset_features(dataset, groups[0]).result(dataset.train_counts())

    def measure(group: list[int]) -> ShardFeatures:
        return dataset_features(dataset, group)

    record = run_record.RunRecord("features", {"data": dataset.uri})
    with session.ensure(address):
        total: ShardFeatures = run_merged(record, "measure features", measure, groups, _merge)
    return total.result(dataset.train_counts())


def _merge(parts: Sequence[ShardFeatures]) -> ShardFeatures:
    return reduce(ShardFeatures.merge, parts)
