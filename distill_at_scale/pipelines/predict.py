"""predict: the top items of every user by a fitted model, one block of users per task.

    (read or draw the users) ─► each block of users: histories ─► scores ─► top k ─► predictions/part-00042.parquet
                                each block of items, if requested              ─► similar_items/part-00042.parquet

<output>/predictions/*.parquet     user_id · item_id · rank (from 1) · score
         similar_items/*.parquet   item_id · similar_item_id · rank · score
         run.json                  record of the run
         predictions.json          description, written last

Blocks depend only on the dataset and each is computed by one thread, so the files are the same on any cluster.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import ray

from distill_at_scale.config import PredictConfig
from distill_at_scale.data import chosen_users, storage
from distill_at_scale.data.columns import Columns
from distill_at_scale.data.dataset import Dataset
from distill_at_scale.data.dataset_ref import DatasetRef
from distill_at_scale.data.given_ids import SHOWN, read_ids
from distill_at_scale.data.preparation.part_record import PartRecord
from distill_at_scale.data.recorded import FileRecord
from distill_at_scale.errors import DasError
from distill_at_scale.evaluation.item_blocks import default_batch_users
from distill_at_scale.models import Recommender
from distill_at_scale.models.recommendations import missing_sentence, recommend_shard, short_lists, similar_to
from distill_at_scale.pipelines.runtime import output_folder, resources, run_record, session, used_model
from distill_at_scale.pipelines.runtime.parts_output import PartsOutput, PartsResult, parquet_bytes
from distill_at_scale.pipelines.runtime.tasks import compute, load, run_stage
from distill_at_scale.pipelines.runtime.used_model import ModelRef
from distill_at_scale.pipelines.runtime.verb import verb

log = logging.getLogger(__name__)

MANIFEST = "predictions.json"
LISTS, SIMILAR = "predictions", "similar_items"
_OWNED = rf"(?:{LISTS}|{SIMILAR})/part-\d{{5,}}\.parquet"

# Users of a block: this many batches, so that reading their shard does not cost more than scoring them.
_BATCHES, _LEAST_USERS = 4, 4096


class Predictions(PartsResult):
    """Result of predict: recommendation lists, in ``<uri>/predictions/*.parquet``, and how they were made."""

    k: int
    history: str
    users: int
    """Number of users with a list."""
    rows: int
    missing: int
    """Number of requested users who are not in the dataset."""
    similar_rows: int | None
    """Number of rows of similar items; None if not requested."""
    model: ModelRef
    data: DatasetRef


@dataclass(frozen=True)
class Block:
    """A block of users of a shard, or of items if ``shard`` is None: positions start … stop - 1."""

    part: int
    shard: int | None
    start: int
    stop: int


@dataclass(frozen=True)
class _PartLists(PartRecord):
    """Lists of the users, or items, of a block."""

    kind: str
    file: FileRecord | None
    """None where no user of the block is asked for."""
    rows: int
    users: int
    """Users, or items, who have a list."""


@dataclass(frozen=True)
class _Asked:
    """Which users: all, those whose draw is at most ``draw``, or those with these ids."""

    draw: int | None = None
    ids: pl.Series | None = None
    seed: int = 0

    def positions(self, dataset: Dataset, block: Block) -> np.ndarray:
        """Returns the requested users of the block as positions in the shard, int64, ascending."""
        assert block.shard is not None
        found = np.arange(block.start, block.stop)
        if self.draw is not None:
            numbers = found + dataset.shards[block.shard].first_user
            return found[chosen_users.draws(numbers, self.seed) <= np.uint64(self.draw)]
        if self.ids is not None:
            ids = dataset.users(block.shard)[Columns.USER_ID].slice(block.start, len(found))
            return found[ids.is_in(self.ids.implode()).to_numpy()]
        return found


@verb(PredictConfig, "data", "model", objects=("model",))
def predict(config: PredictConfig, model: Recommender | None = None) -> Predictions:
    """Recommends items to users; see :class:`~distill_at_scale.config.PredictConfig` for the settings.

        das.predict(dataset, "s3://bucket/ease", k=10, output="s3://bucket/lists")

    Lists are ranked exactly as in `evaluate`, including ties. A user without history gets the model's list for unknown
    users. After a killed run, the same command reuses the finished parts.

    Raises:
        DasError: The dataset or model does not exist, the model has another item numbering, or none of the requested
            ids is in the dataset.
        OutputExistsError: The output exists.
    """
    return _Predict(config, model).run()


def blocks_of(dataset: Dataset, lists: bool, similar_items: bool) -> Iterator[Block]:
    """Yields the blocks of users, if there are lists to make, and of items, if similar ones are asked for."""
    n_items, part = dataset.n_items, 0
    step = default_batch_users(n_items)
    size = step * max(_BATCHES, -(-_LEAST_USERS // step))
    sizes: list[tuple[int | None, int]] = []
    if lists:
        sizes += [(shard, record.n_users) for shard, record in enumerate(dataset.shards)]
    if similar_items:
        sizes.append((None, n_items))
    for shard, n in sizes:
        for start in range(0, n, size):
            yield Block(part, shard, start, min(start + size, n))
            part += 1


class _Predict:
    """One run of predict: the state that all stages share."""

    def __init__(self, config: PredictConfig, model: Recommender | None) -> None:
        self.config, self.model, self.started = config, model, time.time()
        self.output = PartsOutput(storage.normalise(config.output), MANIFEST, "predictions", _OWNED)
        output_folder.check_outside(self.output.uri, storage.normalise(config.data), "the dataset predicted for")
        self.output.check(config.overwrite)
        self.dataset = Dataset.open(config.data)
        self.of = used_model.described(config.model) if model is None else used_model.in_memory(model)
        self.of.check_items(self.dataset)
        self.record = run_record.RunRecord("predict", config.model_dump(mode="json", exclude={"address", "overwrite"}))
        users = config.users.strip()
        self.wanted = int(users) if users.isdecimal() else None
        self.file = None if self.wanted is not None or users.casefold() == "all" else storage.normalise(users)

    def run(self) -> Predictions:
        config, dataset = self.config, self.dataset
        if config.k > dataset.n_items:
            log.warning("%s", short_lists(config.k, dataset.n_items))
        for note in self.of.strangers_note(dataset):
            log.warning("%s", note)
        with session.ensure(config.address):
            asked, n_asked = self._asked()
            self.output.begin(self._plan())
            uri, output, k, history = dataset.uri, self.output, config.k, config.history
            include_seen = config.include_seen

            def work(block: Block, model: Recommender, item_ids: pl.Series, asked: _Asked) -> _PartLists:
                resources.use_threads(1)

                def build() -> _PartLists:
                    if block.shard is None:
                        items = np.arange(block.start, block.stop)
                        return _written(output, SIMILAR, block, similar_to(model, items, item_ids, k), len(items))
                    model.check_item_space(dataset.n_items, dataset.manifest.item_space)
                    positions = asked.positions(dataset, block)
                    if not len(positions):
                        return _PartLists(LISTS, None, 0, 0)
                    lists = recommend_shard(model, dataset, block.shard, positions, item_ids, k, history, include_seen)
                    return _written(output, LISTS, block, lists, len(positions))

                return output.once(block.part, _PartLists, build)

            shared = [self.of.shared(self.model, dataset), load(_item_ids, uri), asked]
            parts = run_stage(self.record, "predict", work, list(self._blocks()), shared, light=True)
            lists = [part for part in parts if part.kind == LISTS]
            missing = self._missing(n_asked, sum(part.users for part in lists), asked)
        return self._finish(parts, lists, missing)

    # -- who ------------------------------------------------------------------------------------------------

    def _asked(self) -> tuple[ray.ObjectRef[Any], int | None]:
        """Puts the requested users on the cluster; returns a reference and the number of ids, which the driver never
        reads."""
        dataset, seed = self.dataset, self.config.seed
        if self.file is not None:
            file, kind = self.file, dataset.manifest.id_types["user_id"]
            asked = load(lambda: _Asked(ids=read_ids(file, kind, Columns.USER_ID)))
            return asked, compute(lambda of: len(of.ids), asked)
        if self.wanted is None or self.wanted >= dataset.n_users:
            if self.wanted is not None and self.wanted > dataset.n_users:
                log.warning("%s has %s users; all get a list.", storage.redact(dataset.uri), f"{dataset.n_users:,}")
            return ray.put(_Asked()), None
        n_users, wanted = dataset.n_users, self.wanted
        if not wanted:
            return ray.put(_Asked()), None
        return load(lambda: _Asked(draw=chosen_users.threshold(n_users, wanted, seed), seed=seed)), None

    def _missing(self, n_asked: int | None, found: int, asked: ray.ObjectRef[Any]) -> int:
        """Returns the number of ids of the file that are not in the dataset, and logs the first of them.

        Raises:
            DasError: None of the ids is in the dataset.
        """
        if n_asked is None or found == n_asked:
            return 0
        n, uri = n_asked - found, self.dataset.uri
        first = compute(lambda of: _first_missing(Dataset.open(uri), of.ids), asked)
        said = missing_sentence(n, n_asked, first, "users", f"in {storage.redact(uri)}")
        if not found:
            raise DasError(f"{storage.redact(self.file or '')}: {said}.")
        log.warning("%s.", said)
        return n

    # -- what -----------------------------------------------------------------------------------------------

    def _blocks(self) -> Iterator[Block]:
        return blocks_of(self.dataset, self.wanted != 0, self.config.similar_items)

    def _plan(self) -> dict[str, Any]:
        """Returns everything on which the content of the files depends."""
        config = self.config
        return {
            "data": self.dataset.manifest.fingerprint,
            "model": self._weights(),
            "users": storage.sha256(self.file) if self.file else config.users.strip().casefold(),
            **config.model_dump(include={"k", "history", "include_seen", "similar_items", "seed"}),
        }

    def _weights(self) -> list[Any]:
        """Returns the identity of the model: name, settings and weights."""
        weights = self.of.weights
        if self.model is not None:
            digest = hashlib.sha256()
            for name, values in sorted(self.model._weights().items()):
                digest.update(name.encode() + np.ascontiguousarray(values).tobytes())
            weights = digest.hexdigest()
        return [self.of.name, self.of.settings, weights]

    def _finish(self, parts: list[_PartLists], lists: list[_PartLists], missing: int) -> Predictions:
        config = self.config
        files = [part.file for part in parts if part.file]
        similar = [part.rows for part in parts if part.kind == SIMILAR]
        stage = self.record.stages[-1]
        made = Predictions(
            uri=self.output.uri,
            k=config.k,
            history=config.history,
            users=sum(part.users for part in lists),
            rows=sum(part.rows for part in lists),
            missing=missing,
            similar_rows=sum(similar) if config.similar_items else None,
            model=self.of.ref(),
            data=DatasetRef.of(self.dataset),
            bytes=sum(file.bytes for file in files),
            reused_parts=stage.reused,
            wall_s=round(time.time() - self.started, 3),
            cpu_s=stage.cpu_s,
            peak_mib=stage.peak_mib,
        )
        described = {"k", "history", "users", "rows", "missing", "similar_rows", "model", "data"}
        manifest = {
            "format": "distill_at_scale/predictions",
            "version": 1,
            **made.model_dump(mode="json", include=described),
            "files": [file.model_dump() for file in files],
        }
        self.output.finish(self.record, manifest, [file.path for file in files])
        return made


def _written(output: PartsOutput, kind: str, block: Block, frame: pl.DataFrame, n: int) -> _PartLists:
    path = f"{kind}/part-{block.part:05d}.parquet"
    file = output.write(path, parquet_bytes(frame))
    return _PartLists(kind, file, frame.height, n)


def _item_ids(uri: str) -> pl.Series:
    return Dataset.open(uri).item_ids()


def _first_missing(dataset: Dataset, ids: pl.Series) -> list[Any]:
    """Returns the first ids that belong to no user, in the given order."""
    for shard in range(len(dataset.shards)):
        ids = ids.filter(~ids.is_in(dataset.users(shard)[Columns.USER_ID].implode()))
    return ids.head(SHOWN).to_list()
