"""forget: a dataset, a sample or a synthetic dataset without some users, and what of it depends on them.

    (read the ids) ─► count who stays, a task a shard ─► write the shards without them ─► items, manifest
    of synthetic data: what depends on them ─► the log without them, as above ─► distill again

A run that was killed goes on where it was when the same command runs again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from typing import Any, Literal

import numpy as np
import polars as pl
import ray
from pydantic import BaseModel

from distill_at_scale.config import ForgetConfig
from distill_at_scale.config.values import worker_range
from distill_at_scale.data import recorded, remaining, storage
from distill_at_scale.data.columns import Columns
from distill_at_scale.data.dataset import Dataset
from distill_at_scale.data.given_ids import SHOWN, read_ids
from distill_at_scale.data.manifest import NAME, WORK, Manifest
from distill_at_scale.data.preparation import restartable
from distill_at_scale.data.remaining import RemainingShard, Stayers
from distill_at_scale.data.shard_records import ShardRecords
from distill_at_scale.distillation.synthetic_manifest import is_synthetic
from distill_at_scale.errors import DasError, OutputExistsError, SettingError
from distill_at_scale.models.memory import require_memory
from distill_at_scale.models.recommendations import missing_sentence
from distill_at_scale.pipelines.runtime import output_folder, run_record, session
from distill_at_scale.pipelines.runtime.tasks import compute, load, run_alone, run_stage
from distill_at_scale.pipelines.runtime.verb import verb
from distill_at_scale.registry import DISTILLERS

log = logging.getLogger(__name__)

_COUNTED, _SHARDS = "counted", "remaining"
_MOST = 10


class Dependence(BaseModel):
    """A synthetic row or sequence, and the share of it that the users explain."""

    row: int
    share: float


class ForgetResult(BaseModel):
    """What depended on the users, and the result without them."""

    uri: str | None
    """The result; None if nothing was to be written."""
    kind: Literal["dataset", "rows", "sequences"]
    users: int
    """Number of the users that were found."""
    missing: int
    """Number of ids in the file that no user has."""
    rows: int
    """Train rows of these users."""
    share: float
    """Their share of all train rows."""
    explained: float | None
    """Mean share of a synthetic row or sequence that these users explain by their rows; None for a dataset."""
    most: list[Dependence]
    """Synthetic rows or sequences with the largest shares."""
    remaining: str | None
    """The log without the users that synthetic data were distilled again from."""
    notes: list[str]
    wall_s: float


@verb(ForgetConfig, "data", "users")
def forget(config: ForgetConfig) -> ForgetResult:
    """Removes users from a dataset; see :class:`~distill_at_scale.config.ForgetConfig` for the settings.

    Raises:
        DasError: The dataset is missing, or it has none of the users or only them.
        SettingError: A setting is wrong.
        OutputExistsError: The output exists.
    """
    return (_Synthetic(config) if is_synthetic(storage.normalise(config.data)) else _Log(config)).run()


class _Forget:
    """One run.

    Attributes:
        dataset: Dataset that holds the users' rows.
        place: Where it is written without them.
    """

    dataset: Dataset
    place: str

    def __init__(self, config: ForgetConfig) -> None:
        # Nothing is written to it in a dry run, which may have none.
        self.config, self.output = config, storage.normalise(config.output or "")
        self.file = storage.normalise(config.users)
        self.record = run_record.RunRecord("forget", config.model_dump(mode="json", exclude={"address", "overwrite"}))

    def _count(self, asked: ray.ObjectRef[Any]) -> tuple[list[Stayers], int]:
        """Counts who stays in each shard, and the ids that no user has.

        Raises:
            DasError: None of the users is there, or no other users are.
        """
        dataset = self.dataset

        def count(shard: int, ids: pl.Series) -> Stayers:
            return remaining.count_stayers(dataset, shard, ids)

        shards = list(range(len(dataset.shards)))
        counted = run_stage(self.record, "count users", count, shards, [asked], light=True)
        n, found = compute(len, asked), sum(one.gone for one in counted)
        place = storage.redact(dataset.uri)
        if found < n:
            first = compute(lambda ids: _first_missing(dataset, ids), asked)
            said = missing_sentence(n - found, n, first, "users", f"in {place}")
            if not found:
                raise DasError(f"{storage.redact(self.file)}: {said}.")
            log.warning("%s.", said)
        if not any(one.users for one in counted):
            raise DasError(f"{storage.redact(self.file)} names all users of {place}; nothing would be left.")
        return counted, n - found

    def _begin(self, counted: list[Stayers]) -> bool:
        """Makes the place this run's; returns whether the dataset is there already, from a run that was killed later.

        Raises:
            OutputExistsError: The place holds something else.
        """
        place, work = self.place, storage.join(self.place, WORK)
        plan = {"data": self.dataset.manifest.fingerprint, "users": storage.sha256(self.file)}
        digest = hashlib.sha256(json.dumps(plan, sort_keys=True).encode()).hexdigest()
        plan_uri = storage.join(work, output_folder.PLAN)
        if output_folder.planned(plan_uri) == digest:
            return False
        storage.check_writable(plan_uri)
        if self._is_there(counted):
            return True
        output_folder.check(place, self.config.overwrite)
        if storage.exists(storage.join(place, NAME)) and not self.config.overwrite:
            raise output_folder.holds_dataset(place)
        storage.remove(work)
        recorded.write_json(plan_uri, {"digest": None})
        output_folder.clear(place)
        recorded.write_json(plan_uri, {"digest": digest})
        return False

    def _is_there(self, counted: list[Stayers]) -> bool:
        """Whether the place holds the dataset without as many users of each shard; their ids are recorded nowhere."""
        return False

    def _write(self, asked: ray.ObjectRef[Any], counted: list[Stayers]) -> Manifest:
        """Writes the dataset without the users."""
        dataset, place, work = self.dataset, self.place, storage.join(self.place, WORK)
        first = np.cumsum([0, *(one.users for one in counted)]).tolist()

        def write(shard: int, ids: pl.Series) -> RemainingShard:
            return restartable.once(
                restartable.part(storage.join(work, _SHARDS), shard, ".json"),
                RemainingShard,
                lambda: remaining.write_shard(dataset, shard, ids, first[shard], place, _counts_uri(work, shard)),
            )

        shards = list(range(len(counted)))
        written = run_stage(self.record, "write without them", write, shards, [asked])
        counts = [_counts_uri(work, shard) for shard in shards]
        items = run_stage(
            self.record,
            "write items",
            lambda out: remaining.write_items(dataset, counts, out),
            [place],
            shown=False,
            light=True,
        )[0]
        records = ShardRecords.of(one.shard for one in written if one.shard is not None)
        m = self.dataset.manifest
        kept = {"item_space", "id_types", "has_ratings", "rating_meaning", "has_timestamps", "timestamp_unit"}
        kept |= {"weight_meaning"}
        manifest = Manifest(
            **m.model_dump(include={*kept, "n_items", "split_rule", "source"}),
            n_users=int(records.n_users.sum()),
            n_rows=int(records.rows.sum()),
            splits=records.rows_of_splits(),
            items=items,
            shards=records,
            dropped={**m.dropped, "forget": m.dropped.get("forget", 0) + m.n_rows - int(records.rows.sum())},
            config={**m.config, "forgotten": self._forgotten(counted)},
            parent=m.parent,
            made_with=run_record.made_with(),
        )
        self.record.write(place)
        output_folder.remove_strays(place, manifest)
        manifest.write(place)
        for name in (_COUNTED, _SHARDS):
            storage.remove(storage.join(work, name))
        output_folder.remove_work(place)
        return manifest

    def _forgotten(self, counted: list[Stayers]) -> dict[str, Any]:
        """The record of what was removed, without the ids."""
        return remaining.forgotten_record(self.dataset.manifest, sum(one.gone for one in counted))

    def _result(self, counted: list[Stayers], missing: int, **other: Any) -> ForgetResult:
        rows, config = sum(one.gone_train for one in counted), self.config
        fields: dict[str, Any] = {"explained": None, "most": [], "remaining": None, **other}
        notes = fields.pop("notes")
        if not config.dry_run:
            notes.append(
                "Models, lists, exports and other samples made of it before still depend on these users; make them "
                "again, and remove the old ones."
            )
        return ForgetResult(
            uri=None if config.dry_run else self.output,
            users=sum(one.gone for one in counted),
            missing=missing,
            rows=rows,
            share=round(rows / max(self.dataset.manifest.splits.get("train", 0), 1), 6),
            notes=notes,
            wall_s=round(time.time() - self.record.started, 3),
            **fields,
        )

    def _ids(self) -> ray.ObjectRef[Any]:
        file, kind = self.file, self.dataset.manifest.id_types[Columns.USER_ID]
        return load(lambda: read_ids(file, kind, Columns.USER_ID))


class _Log(_Forget):
    """Forgetting in a dataset or a sample."""

    def __init__(self, config: ForgetConfig) -> None:
        super().__init__(config)
        self.dataset, self.place = Dataset.open(config.data), self.output
        of_synthetic = ("log", "remaining", "quick", "gpu", "workers")
        if foreign := [name for name in of_synthetic if name in config.model_fields_set]:
            raise SettingError(
                f"--{foreign[0]} is for synthetic data; {storage.redact(self.dataset.uri)} is a dataset."
            )
        if not config.dry_run:
            output_folder.check_outside(self.output, self.dataset.uri, "the dataset itself")

    def run(self) -> ForgetResult:
        with session.ensure(self.config.address):
            asked = self._ids()
            counted, missing = self._count(asked)
            if not self.config.dry_run:
                self._begin(counted)
                self._write(asked, counted)
        note = "Exact: no row, id or number of these users is in it; the other users have new numbers."
        return self._result(counted, missing, kind="dataset", notes=[] if self.config.dry_run else [note])


class _Synthetic(_Forget):
    """Forgetting in a synthetic dataset; loads torch, which takes seconds, where forgetting in a dataset does not."""

    def __init__(self, config: ForgetConfig) -> None:
        from distill_at_scale.distillation.synthetic import SyntheticDataset
        from distill_at_scale.pipelines.distilling.distilled_again import parent_of

        super().__init__(config)
        self.made = SyntheticDataset.open(config.data)
        m = self.made.manifest
        self.dataset = parent_of(self.made, config.log)
        place = f"{self.output.rstrip('/')}-log" if config.remaining is None else config.remaining
        self.place = storage.normalise(place)
        if config.quick and not DISTILLERS.find(m.method).continues:
            raise SettingError(f"--quick: {m.method} does not start from an earlier result; leave --quick out.")
        if not config.dry_run:
            self._check_places()
            self._check_distilling()

    def _check_places(self) -> None:
        """Refuses places that lie in one another or hold something."""
        for one in (self.output, self.place):
            output_folder.check_apart(one, self.dataset.uri)
            output_folder.check_apart(one, self.made.uri)
        output_folder.check_apart(self.output, self.place)
        if storage.exists(storage.join(self.output, NAME)) and not self.config.overwrite:
            raise OutputExistsError(str(output_folder.holds_already(self.output, "a dataset")))

    def _check_distilling(self) -> None:
        """Refuses what the distillation would refuse, before anything is written."""
        from distill_at_scale.pipelines.distill import distiller_of
        from distill_at_scale.pipelines.distilling.distilled_again import settings_again

        earlier = self.made if self.config.quick else None
        try:
            asked = settings_again(self.made, self.config, self.place, self.output)
            distiller = distiller_of(asked, earlier)
            distiller.earlier = earlier
            distiller.check(self.dataset, worker_range(asked.workers)[1])
        except DasError as error:
            raise type(error)(str(error).replace("--from", "--quick")) from None

    def run(self) -> ForgetResult:
        from distill_at_scale.distillation.dependence import memory_needed
        from distill_at_scale.pipelines.distill import distill
        from distill_at_scale.pipelines.distilling.distilled_again import check_left, how_exact, settings_again

        config, m = self.config, self.made.manifest
        with session.ensure(config.address):
            asked = self._ids()
            counted, missing = self._count(asked)
            if not config.dry_run:
                check_left(self.made, self.dataset, sum(one.users for one in counted), self.file)
            require_memory("forget", memory_needed(m.parent.n_rows, m.parent.n_users, m.n_items, m.n_users), None, _FIX)
            shares = run_alone(
                self.record, "what depends on them", _explained, self.made.uri, self.dataset.uri, ray.get(asked)
            )
            notes = []
            if not config.dry_run:
                if not self._begin(counted):
                    self._write(asked, counted)
                notes = distill(settings_again(self.made, config, self.place, self.output)).notes
        order = np.argsort(-shares, kind="stable")[:_MOST].tolist()
        what = "sequence" if m.kind == "sequences" else "row"
        said = (
            f"A share describes a {what} and proves nothing: each {what} was learned from all users, also from those "
            "with a share of 0."
        )
        notes = [said, *([] if config.dry_run else how_exact(self.made, config.quick)), *notes]
        return self._result(
            counted,
            missing,
            kind=m.kind,
            explained=round(float(shares.mean()), 6),
            most=[Dependence(row=k, share=round(float(shares[k]), 6)) for k in order],
            remaining=None if config.dry_run else self.place,
            notes=notes,
        )

    def _is_there(self, counted: list[Stayers]) -> bool:
        if self.config.overwrite or is_synthetic(self.place) or not storage.exists(storage.join(self.place, NAME)):
            return False
        found = Dataset.open(self.place).manifest
        users = [one.users for one in counted if one.users]
        return (
            found.config.get("forgotten") == self._forgotten(counted)
            and found.shards.n_users.tolist() == users
            and found.splits.get("train") == self.dataset.manifest.splits.get("train", 0) - _gone_rows(counted)
        )


_FIX = "take a machine with more memory"


def _explained(made: str, data: str, ids: pl.Series) -> np.ndarray:
    from distill_at_scale.distillation.dependence import shares_of
    from distill_at_scale.distillation.synthetic import SyntheticDataset

    dataset = Dataset.open(data)
    shards = range(len(dataset.shards))
    gone = np.concatenate([~remaining.stays(dataset, shard, ids) for shard in shards])
    return shares_of(SyntheticDataset.open(made), dataset.to_csr("train"), gone)


def _gone_rows(counted: list[Stayers]) -> int:
    return sum(one.gone_train for one in counted)


def _counts_uri(work: str, shard: int) -> str:
    return restartable.part(storage.join(work, _COUNTED), shard, ".arrow")


def _first_missing(dataset: Dataset, ids: pl.Series) -> list[Any]:
    """Returns the first ids that no user has, in the given order."""
    for shard in range(len(dataset.shards)):
        ids = ids.filter(~ids.is_in(dataset.users(shard)[Columns.USER_ID].implode()))
    return ids.head(SHOWN).to_list()
