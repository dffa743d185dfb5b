"""First stage of `sample`: what a sampler learns or trains beforehand, and the scores of every shard."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import ray

from distill_at_scale.config import SampleConfig
from distill_at_scale.data import storage
from distill_at_scale.data.dataset import Dataset
from distill_at_scale.data.preparation import restartable
from distill_at_scale.data.preparation.part_record import PartRecord
from distill_at_scale.data.row_values import ValueFiles, ValueSource
from distill_at_scale.errors import DamagedFileError
from distill_at_scale.pipelines.runtime import run_record
from distill_at_scale.pipelines.runtime.dealt_values import deal_values
from distill_at_scale.pipelines.runtime.map_reduce import learn, read_learned
from distill_at_scale.pipelines.runtime.tasks import load, run_stage
from distill_at_scale.samplers import find_sampler, thresholds, writer
from distill_at_scale.samplers.column import read_column
from distill_at_scale.samplers.map_reduce import MapReduce, Task
from distill_at_scale.samplers.sampler import Sampler
from distill_at_scale.samplers.scores import Scores, read_scores
from distill_at_scale.samplers.svp import Proxy, row_scores
from distill_at_scale.samplers.thresholds import Histogram, Span
from distill_at_scale.samplers.train_rows import read_train_rows

if TYPE_CHECKING:
    from distill_at_scale.pipelines.training.svp_row_scores import Hardness

log = logging.getLogger(__name__)

# Shards of one task at most: each takes a fraction of a second.
TOGETHER = 8


@dataclass(frozen=True)
class ScoreRecord(PartRecord):
    """A shard that was scored."""

    users: int
    """Users with train rows."""


@dataclass(frozen=True)
class ShardScores(PartRecord):
    """A scored shard, as a task reports it."""

    users: int
    histogram: Histogram
    """Its rows by key, over the whole range of keys."""


def score_shards(
    record: run_record.RunRecord,
    config: SampleConfig,
    dataset: Dataset,
    work: str,
    target: int,
    column: ValueFiles | None = None,
) -> list[ShardScores]:
    """Scores every shard of a dataset. Needs a Ray session.

    Args:
        record: is told time and memory.
        config: Settings of the run.
        dataset: Dataset to sample from.
        work: Folder of the run's unfinished work; receives the scores.
        target: Number of train rows that the largest budget keeps.
        column: Files of the scores from outside, for ``column=NAME``; None for others, and for the dataset's own.

    Raises:
        DasError: as the sampler, and as the training of its proxy.
    """
    # What travels is the name: workers import the sampler for themselves.
    seed, name = config.seed, config.sampler
    sampler: Sampler = find_sampler(name)
    shared: list[ray.ObjectRef[Any]] = []
    if sampler.map_reduce:
        task = Task(dataset.n_items, dataset.manifest.splits["train"], target, seed)
        learn(record, f"learn {sampler.name}", partial(_map_reduce, name, task), dataset, work)
    if sampler.proxy:
        from distill_at_scale.pipelines.training.svp_row_scores import load_hardness

        home = _score_rows(record, config, dataset, sampler.proxy)
        shared = [load(load_hardness, home, dataset.uri, sampler.prop)]

    values = None if column is None else deal_values(record, dataset, column, work)

    def score(shard: int, hardness: Hardness | None = None) -> ShardScores:
        return _score_shard(dataset, work, shard, find_sampler(name), seed, hardness, values)

    shards = list(range(len(dataset.shards)))
    return run_stage(record, "score", score, shards, shared, light=not shared, together=TOGETHER)


def scores_uri(work: str, shard: int) -> str:
    """Address of a shard's scores."""
    return restartable.part(storage.join(work, writer.SCORES), shard, ".arrow")


def _score_rows(record: run_record.RunRecord, config: SampleConfig, dataset: Dataset, proxy: Proxy) -> str:
    """Where the proxy's row scores lie, made now unless another run has left them."""
    from distill_at_scale.pipelines.training.svp_row_scores import score_rows

    home = row_scores.home(storage.normalise(config.output), proxy, config.objective, config.seed)
    score_rows(
        record,
        dataset,
        home,
        proxy=proxy,
        objective=config.objective,
        seed=config.seed,
        epochs=config.proxy_epochs,
        workers=config.workers,
        gpu=config.gpu,
        overwrite=config.overwrite,
    )
    return home


def _map_reduce(sampler: str, task: Task) -> MapReduce:
    """What a sampler learns by passes over the shards."""
    made = find_sampler(sampler).map_reduce
    assert made is not None
    return made(task)


def _score_shard(
    dataset: Dataset,
    work: str,
    shard: int,
    sampler: Sampler,
    seed: int,
    hardness: Hardness | None,
    values: ValueSource | None = None,
) -> ShardScores:
    """Scores a shard once, and counts its scores over the whole range of keys."""
    place = scores_uri(work, shard)
    made: list[Scores] = []

    def build() -> ScoreRecord:
        rows = read_train_rows(dataset, shard, timestamps=sampler.timestamps)
        learned: tuple[Any, ...] = read_learned(work, shard) if sampler.map_reduce else ()
        if hardness is not None:
            learned = hardness.of_shard(shard, rows)
        if sampler.column is not None:
            learned = (read_column(dataset, shard, rows, sampler.column, values),)
        made.append(sampler.score(rows, seed, *learned))
        made[0].write(place)
        return ScoreRecord(users=int((rows.counts > 0).sum()))

    record_uri = restartable.part(storage.join(work, writer.SCORES), shard, ".json")
    record = restartable.once(record_uri, ScoreRecord, build)
    try:
        scores = made[0] if made else read_scores(place)
    except DamagedFileError:
        log.warning("%s is damaged; the shard is scored again.", storage.redact(place))
        record, scores = restartable.once(record_uri, ScoreRecord, build), made[0]
    return ShardScores(record.users, thresholds.histogram(scores, Span()), reused=record.reused)
