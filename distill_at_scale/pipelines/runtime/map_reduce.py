"""Passes over the shards for samplers that must learn before they can score.

A task visits a group of shards; another merges what the groups brought. What moves lies in Ray's object store
(vectors of items, short lists), the driver holds references and learns only whether it is done.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import ray
from safetensors.numpy import load as parse
from safetensors.numpy import save as dump

from distill_at_scale.data import recorded, sealed, storage
from distill_at_scale.data.dataset import Dataset
from distill_at_scale.data.preparation import restartable
from distill_at_scale.errors import DamagedFileError
from distill_at_scale.pipelines.runtime import progress, resources, run_record, waiting
from distill_at_scale.pipelines.runtime.shard_groups import ROWS_PER_TASK, shard_groups
from distill_at_scale.pipelines.runtime.task_answers import take
from distill_at_scale.pipelines.runtime.tasks import ANYWHERE, merged
from distill_at_scale.samplers.map_reduce import Arrays, MapReduce, merge
from distill_at_scale.samplers.train_rows import TrainRows, read_train_rows

FOLDER = "learned"
_DONE = "done.json"
# What a group brings is as large as what a shard does: no more groups than keep the cluster busy.
_TASKS_PER_CPU = 2
_STEPS = 100
# A group brings up to 128 bytes an item, however few its rows: of a billion rows and a million items 247 groups of 4 M
# rows moved 31 GB a pass, most of it by disk.
_GROUP_ROWS_AN_ITEM = 128
ROWS_AN_ITEM = 4
"""Rows for each item that are visited at once, of as many shards as have them. A visit costs time and memory for each
item, whatever its rows: shards of .8 M rows with a million items took four times as long one by one."""


def learn(record: run_record.RunRecord, name: str, make: Callable[[], MapReduce], dataset: Dataset, work: str) -> None:
    """Runs what ``make`` gives on a dataset and leaves what it learned in ``work``, unless it is there.

    Args:
        make: picklable; called in every process, so that each imports the algorithm for itself.

    Raises:
        DasError: the first one that a task raised.
    """
    folder = storage.join(work, FOLDER)
    done_uri = storage.join(folder, _DONE)
    if restartable.read_record(done_uri) is not None:
        return
    start = time.monotonic()
    costs: list[run_record.TaskCost] = []
    rows_per_task = max(ROWS_PER_TASK, _GROUP_ROWS_AN_ITEM * dataset.n_items)
    groups = shard_groups(dataset.shards.rows.tolist(), _TASKS_PER_CPU * resources.cpus(), rows_per_task)
    map_shards: Any = ray.remote(num_returns=3, scheduling_strategy=ANYWHERE)(_map)
    reduce_pass: Any = ray.remote(num_returns=2, scheduling_strategy=ANYWHERE)(_reduce)
    held, data = ray.put(make), ray.put(dataset)
    algorithm = make()
    join, shared = partial(merge, listed=algorithm.listed), ray.put(algorithm.begin())
    owns: list[ray.ObjectRef[Any]] = [ray.put([{} for _ in group]) for group in groups]
    done, passes = 0.0, 0
    with waiting.provided(resources.Need(1, 1)), progress.stage(name, _STEPS) as stage:
        while done < 1:
            visits = [map_shards.remote(held, data, group, own, shared) for group, own in zip(groups, owns)]
            owns = [own for own, _, _ in visits]
            shared, share = reduce_pass.remote(held, shared, merged([brought for _, brought, _ in visits], join))
            now = max(done, min(take(share), 1.0))
            stage.advance(int(now * _STEPS) - int(done * _STEPS))
            done = now
            costs += ray.get([cost for _, _, cost in visits])
            passes += 1
        keep = ray.remote(scheduling_strategy=ANYWHERE)(_keep)
        for ref in [keep.remote(folder, group, own) for group, own in zip(groups, owns)]:
            take(ref)
        take(ray.remote(scheduling_strategy=ANYWHERE)(_keep_shared).remote(folder, shared))
    recorded.write_json(done_uri, {"passes": passes})
    record.add(f"{name}, {passes} passes", time.monotonic() - start, costs)


def read_learned(work: str, shard: int) -> tuple[Arrays, Arrays]:
    """What a shard learned for itself, and what all share.

    Raises:
        DamagedFileError: The file is missing or altered; the next run computes it again.
    """
    folder = storage.join(work, FOLDER)
    files = (restartable.part(folder, shard, ".safetensors"), storage.join(folder, "shared.safetensors"))
    try:
        own, shared = (_parse(file) for file in files)
    except DamagedFileError:
        storage.remove(storage.join(folder, _DONE))
        raise
    return own, shared


def _parse(uri: str) -> Arrays:
    content = sealed.read(uri, restartable.FIX)
    with recorded.parsing(uri, restartable.FIX):
        return parse(content.to_pybytes())


def _map(
    make: Callable[[], MapReduce], dataset: Dataset, group: Sequence[int], owns: list[Arrays], shared: Arrays
) -> tuple[list[Arrays], Arrays, run_record.TaskCost]:
    cpu = time.process_time()
    algorithm, kept = make(), list[Arrays]()
    brought: list[Arrays] = []
    for run in visited_at_once(dataset, group) if algorithm.joins else [[shard] for shard in group]:
        parts = [read_train_rows(dataset, shard) for shard in run]
        rows = parts[0] if len(parts) == 1 else TrainRows.joined(parts)
        after, one = algorithm.map(rows, owns[len(kept)], shared)
        kept += [after] * len(run)
        # Merged as they come, so that a group needs no more than two at a time.
        brought = [merge([*brought, one], algorithm.listed)]
    return kept, brought[0], run_record.TaskCost.since(cpu)


def visited_at_once(dataset: Dataset, group: Sequence[int]) -> list[list[int]]:
    """Divides shards into runs of :data:`ROWS_AN_ITEM` rows for each item at most, or of one shard."""
    runs: list[list[int]] = []
    room = 0
    for shard, rows in zip(group, dataset.shards.rows[list(group)].tolist()):
        if not runs or rows > room:
            runs.append([])
            room = ROWS_AN_ITEM * dataset.n_items
        runs[-1].append(shard)
        room -= rows
    return runs


def _reduce(make: Callable[[], MapReduce], shared: Arrays, brought: Arrays) -> tuple[Arrays, float]:
    return make().reduce(shared, brought)


def _keep(folder: str, group: Sequence[int], owns: list[Arrays]) -> None:
    for shard, own in zip(group, owns):
        sealed.write(restartable.part(folder, shard, ".safetensors"), _dump(own))


def _keep_shared(folder: str, shared: Arrays) -> None:
    sealed.write(storage.join(folder, "shared.safetensors"), _dump(shared))


def _dump(arrays: Arrays) -> bytes:
    # safetensors writes memory as it lies, whatever the strides.
    return dump({name: np.ascontiguousarray(array) for name, array in arrays.items()})
