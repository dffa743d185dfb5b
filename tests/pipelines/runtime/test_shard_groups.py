"""Groups of shards: how many there are, how large, and that results do not depend on them."""

from __future__ import annotations

import itertools
import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import distill_at_scale as das
from distill_at_scale.data.dataset import Dataset
from distill_at_scale.errors import DasError
from distill_at_scale.pipelines import evaluate as evaluate_verb
from distill_at_scale.pipelines.runtime import map_reduce, resources
from distill_at_scale.pipelines.runtime.map_reduce import learn, read_learned
from distill_at_scale.pipelines.runtime.run_record import RunRecord
from distill_at_scale.pipelines.runtime.shard_groups import ROWS_PER_TASK, shard_groups
from distill_at_scale.pipelines.runtime.tasks import run_merged
from distill_at_scale.samplers.embedding.density import DENSITY
from distill_at_scale.samplers.map_reduce import Task

sys.path.insert(0, str(Path(__file__).parents[2] / "data"))
from dataset_kit import write_dataset

N_SHARDS = 66


def is_division(groups: list[list[int]], n_shards: int) -> bool:
    return [shard for group in groups for shard in group] == list(range(n_shards)) and all(groups)


def test_groups_grow_with_the_rows_and_not_only_with_the_cluster() -> None:
    rows = [1 << 20] * 16_384
    few_cpus = shard_groups(rows, 2)
    assert is_division(few_cpus, len(rows))
    assert len(few_cpus) == 16_384 * (1 << 20) // ROWS_PER_TASK > 64
    many_cpus = shard_groups(rows, 8 * 1000)
    assert is_division(many_cpus, len(rows))
    assert 8000 <= len(many_cpus) <= 16_384


@pytest.mark.parametrize("tasks", [0, 1, 7, 64, 99, 100, 500])
def test_no_group_of_several_shards_has_too_many_rows(tasks: int) -> None:
    rows = np.random.default_rng(tasks).integers(0, 2000, 100).tolist()
    rows[17] = 30_000
    groups = shard_groups(rows, tasks, rows_per_task=5000)
    assert is_division(groups, 100)
    assert all(len(group) == 1 or sum(rows[shard] for shard in group) <= 5000 for group in groups)
    if tasks >= 100:
        assert len(groups) == 100


def test_groups_of_shards_that_hardly_differ_have_as_many_shards() -> None:
    """One more for some than for others would be a round more for all of them."""
    rows = np.random.default_rng(0).integers(950, 1050, 64).tolist()
    groups = shard_groups(rows, 16)
    assert is_division(groups, 64)
    assert [len(group) for group in groups] == [4] * 16


def test_a_dataset_without_rows_is_one_group() -> None:
    assert shard_groups([0, 0, 0], 0) == [[0, 1, 2]]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """66 shards of two users with six rows each, of which the last is a test row."""
    rng = np.random.default_rng(0)
    users = [rng.choice(30, 6, replace=False) for _ in range(2 * N_SHARDS)]
    rows = [
        [(u, int(item), float(rng.integers(1, 6)), time, 2 * (time == 5)) for time, item in enumerate(items)]
        for u, items in enumerate(users)
    ]
    shards = [first + second for first, second in zip(rows[::2], rows[1::2])]
    return write_dataset(tmp_path_factory.mktemp("groups"), shards, [2] * N_SHARDS, 30)


def measured(dataset: Dataset, tmp_path: Path) -> tuple[int, dict[str, Any]]:
    """Number of tasks, and what was measured."""
    output = tmp_path / "evaluation.json"
    found = das.evaluate(dataset, das.models.Popularity().fit(dataset), resample=True, output=output)
    (stage,) = json.loads(output.read_text())["run"]["stages"]
    return stage["tasks"], found.model_dump(exclude={"wall_s", "cpu_s"})


def test_an_evaluation_has_more_than_64_tasks_and_the_same_result_with_few(
    ray_session: None, dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resources, "cpus", lambda: 16)
    n_tasks, many = measured(dataset, tmp_path)
    assert n_tasks == N_SHARDS > 64
    monkeypatch.setattr(resources, "cpus", lambda: 1)
    monkeypatch.setattr(evaluate_verb, "_TASKS", 1)
    n_tasks, few = measured(dataset, tmp_path)
    assert 1 < n_tasks < 16
    assert few == many


def test_a_sampler_learns_in_more_than_64_tasks_and_the_same_in_few(
    ray_session: None, dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert DENSITY.map_reduce is not None
    make = partial(DENSITY.map_reduce, Task(dataset.n_items, dataset.manifest.splits["train"], 100, seed=1))
    tasks, learned = [], []
    for cpus in (40, 2):
        monkeypatch.setattr(resources, "cpus", lambda cpus=cpus: cpus)
        run, work = RunRecord("sample", {}), str(tmp_path / str(cpus))
        learn(run, "learn", make, dataset, work)
        passes = int(run.stages[0].stage.split()[-2])
        tasks.append(run.stages[0].tasks / passes)
        learned.append(read_learned(work, 65)[1])
    assert tasks[0] == N_SHARDS
    assert tasks[1] < 8
    assert learned[0].keys() == learned[1].keys() != set()
    assert all(np.array_equal(learned[0][name], learned[1][name]) for name in learned[0])


def test_shards_are_visited_at_once_up_to_four_rows_an_item(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, group = dataset.shards.rows.tolist(), list(range(3, 60, 2))
    assert dataset.n_items * map_reduce.ROWS_AN_ITEM > 3 * max(rows)
    for most in (map_reduce.ROWS_AN_ITEM, 2 * max(rows) // dataset.n_items + 1, 0):
        monkeypatch.setattr(map_reduce, "ROWS_AN_ITEM", most)
        runs = map_reduce.visited_at_once(dataset, group)
        assert [shard for run in runs for shard in run] == group
        assert all(len(run) == 1 or sum(rows[shard] for shard in run) <= most * dataset.n_items for run in runs)
        for one, other in itertools.pairwise(runs):
            assert sum(rows[shard] for shard in one) + rows[other[0]] > most * dataset.n_items
        assert (len(runs) == len(group)) == (most == 0)


def test_what_a_part_that_is_merged_fails_with_is_told_as_it_is(ray_session: None) -> None:
    def work(item: int) -> int:
        if item == 3:
            raise DasError("no good")
        return item

    run = RunRecord("test", {})
    assert run_merged(run, "add", work, range(4, 60), sum) == sum(range(4, 60))
    assert run.stages[0].tasks == 56
    with pytest.raises(DasError, match=r"^no good$"):
        run_merged(RunRecord("test", {}), "add", work, range(60), sum)
