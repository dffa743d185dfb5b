"""Last stages of `sample`: the items' train rows, summed over the shards, and `items.parquet` of every sample."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from distill_at_scale.data import storage
from distill_at_scale.data.dataset import Dataset
from distill_at_scale.data.preparation import restartable
from distill_at_scale.data.preparation.part_record import PartRecord
from distill_at_scale.pipelines.runtime import run_record
from distill_at_scale.pipelines.runtime.tasks import run_stage
from distill_at_scale.samplers import writer
from distill_at_scale.samplers.writer import SampledItems

_FAN_IN = 32


@dataclass(frozen=True)
class _Sum:
    """Files of counts, and the file of their sum."""

    sources: list[str]
    target: str


def write_items(
    record: run_record.RunRecord, dataset: Dataset, work: str, outputs: Sequence[str]
) -> list[SampledItems]:
    """Sums the items' train rows over the shards, for all samples at once, and writes `items.parquet` of each.

    Args:
        record: is told time and memory.
        dataset: Dataset that was sampled.
        work: Folder of the counts, which :func:`writer.write_subsets` wrote.
        outputs: Folders of the samples.

    Raises:
        DamagedFileError: counts are missing or altered.
    """
    budgets = range(len(outputs))
    sources = [[writer.counts_uri(work, k, shard) for shard in range(len(dataset.shards))] for k in budgets]
    level = 0
    while len(sources[0]) > _FAN_IN:
        folder = storage.join(work, writer.COUNTS, f"level-{level}")
        sums = [
            _Sum(
                found[start : start + _FAN_IN],
                storage.join(folder, f"budget-{k:03d}-{start // _FAN_IN:05d}.arrow"),
            )
            for k, found in enumerate(sources)
            for start in range(0, len(found), _FAN_IN)
        ]
        run_stage(record, "sum item counts", _add_up, sums, light=True)
        each = len(sums) // len(sources)
        sources = [[one.target for one in sums[k * each : (k + 1) * each]] for k in budgets]
        level += 1

    def write(k: int) -> SampledItems:
        return writer.write_items(dataset, sources[k], outputs[k])

    return run_stage(record, "write items", write, list(budgets), shown=False, light=True)


def _add_up(item: _Sum) -> PartRecord:
    def build() -> PartRecord:
        restartable.sum_counts(item.sources, item.target)
        return PartRecord()

    return restartable.once(item.target + ".json", PartRecord, build)
