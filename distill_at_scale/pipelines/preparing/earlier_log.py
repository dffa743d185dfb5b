"""The dataset that `prepare --append` appends to: what is taken over from it, and which inputs do not fit it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from distill_at_scale.config import PrepareConfig
from distill_at_scale.data import storage
from distill_at_scale.data.columns import Columns
from distill_at_scale.data.dataset import Dataset
from distill_at_scale.data.filesystems import same_version
from distill_at_scale.data.log_record import LogRecord, read_log_record
from distill_at_scale.data.manifest import FIX
from distill_at_scale.data.preparation import restartable
from distill_at_scale.data.preparation.earlier import EarlierRows, EarlierShard, part_of
from distill_at_scale.data.preparation.item_ids import ItemIds
from distill_at_scale.data.readers import LogSchema
from distill_at_scale.data.readers.listing import list_inputs
from distill_at_scale.data.recorded import read_parquet
from distill_at_scale.data.shard_records import ShardRecord
from distill_at_scale.errors import DasError, SettingError

NUMBERING_OF = "numbering_of"
"""Setting in the manifest of a dataset that keeps another's numbers: the other's fingerprint."""


@dataclass(frozen=True)
class EarlierLog:
    """A dataset with the record of its log.

    Attributes:
        dataset: The dataset.
        log: What is known of its log.
        keeps_numbers: Whether users and items keep their numbers.
    """

    dataset: Dataset
    log: LogRecord
    keeps_numbers: bool

    @classmethod
    def open(cls, uri: str, keeps_numbers: bool) -> EarlierLog:
        """Opens the dataset at ``uri``.

        Raises:
            DasError: ``uri`` holds no dataset, or one to which rows cannot be appended.
        """
        dataset = Dataset.open(uri)
        if dataset.manifest.parent is not None:
            raise DasError(
                f"{storage.redact(uri)} is a sample of {dataset.manifest.parent.uri}, and not made from a log; append "
                "to that dataset, and sample from the result."
            )
        return cls(dataset, read_log_record(dataset.uri, dataset.manifest.fingerprint), keeps_numbers)

    @property
    def inputs(self) -> list[str]:
        """Inputs of the dataset."""
        return list(self.dataset.manifest.source["inputs"])

    @property
    def plan(self) -> dict[str, Any]:
        """What the result depends on."""
        return {"log": self.log.model_dump(mode="json"), "keeps_numbers": self.keeps_numbers}

    def settings(self, config: PrepareConfig, own: Collection[str]) -> PrepareConfig:
        """The settings of the dataset, with those of this run that do not determine the rows.

        Args:
            config: Settings of this run.
            own: Names of the settings that do not.

        Raises:
            SettingError: A given setting differs from the dataset's.
        """
        content = {k: v for k, v in self.dataset.manifest.config.items() if k not in ("input", NUMBERING_OF)}
        given = {name: getattr(config, name) for name in config.model_fields_set if name in own or name == "input"}
        merged = PrepareConfig.model_validate({**content, **given})
        for name in sorted(config.model_fields_set - {*given}):
            mine, old = getattr(config, name), getattr(merged, name)
            if mine != old:
                shown = f"--{name.replace('_', '-')}"
                remedy = f"and {self.column_remedy}" if name == "map" else "or prepare all files again"
                raise SettingError(
                    f"{shown} was {_shown(old)} for {storage.redact(self.dataset.uri)} and cannot be {_shown(mine)} "
                    f"for rows that are appended to it; leave {shown} out, {remedy}."
                )
        return merged

    @property
    def column_remedy(self) -> str:
        """What to do about new files with other column names, as the end of a sentence.

        One --map cannot read both the old files and them.
        """
        names = ", ".join(self.log.read_with.read.values())
        return f"rename the new files' columns to those of the log of {storage.redact(self.dataset.uri)} ({names})"

    def new_inputs(self, inputs: Sequence[str]) -> list[str]:
        """The inputs without files that the dataset holds already, as a folder may list them.

        Raises:
            DasError: A file was named that the dataset holds already, or one has changed since.
        """
        taken = {file.uri: file.version for file in self.log.reading.files}
        files, _ = list_inputs(inputs)
        known = [file for file in files if storage.redact(file.uri) in taken]
        place = storage.redact(self.dataset.uri)
        for file in known:
            name = storage.redact(file.uri)
            if not same_version(file.version, taken[name]):
                raise DasError(
                    f"{name} has changed since {place} was prepared from it, so its old rows cannot be told from its "
                    "new ones; prepare all files again, or give only the new rows, in another file."
                )
            if file.uri in inputs or len(known) == len(files):
                raise DasError(f"{name} is in {place} already; name only new files.")
        return list(inputs) if not known else [file.uri for file in files if file not in known]

    def fitted(self, schema: LogSchema) -> LogSchema:
        """The schema of new files, with the types that the dataset has.

        Raises:
            DasError: The files have other columns, ids or times.
        """
        old, place = self.log.read_with, storage.redact(self.dataset.uri)
        differ = f"the log that {place} was prepared from"
        if schema.columns != old.columns or schema.extra != old.extra:
            raise DasError(
                f"the new files are read from the columns {_listed(schema.read)}, but {differ} was read from "
                f"{_listed(old.read)}; give them the same columns, or prepare all files again."
            )
        types, text = dict(schema.id_types), dict(schema.text_types)
        for name, kind in old.id_types.items():
            if kind == "int64" and types[name] == "string":
                raise DasError(
                    f"{name} is text in the new files, and a whole number in {differ}; prepare all files again, "
                    "as text."
                )
            types[name] = kind
        if schema.has_timestamp and (schema.time_unit, schema.time_format) != (old.time_unit, old.time_format):
            raise DasError(
                f"times are read as {schema.time_format or schema.time_unit} in the new files, and as "
                f"{old.time_format or old.time_unit} in {differ}; write them the same way, or prepare all files again."
            )
        if set(schema.hex_ids) != set(old.hex_ids):
            raise DasError(f"ids hold bytes that are not text in only one of the new files and {differ}.")
        if old.time_checked and not schema.time_checked and schema.has_timestamp:
            raise DasError(f"the new files' times lie before 1990, unlike those of {differ}; prepare all files again.")
        checked = schema.time_checked and old.time_checked
        return schema.model_copy(update={"id_types": types, "text_types": text, "time_checked": checked})

    # -- on the cluster -------------------------------------------------------------------------------------------

    def shards(self) -> list[EarlierShard]:
        """The shards with the buckets of their users."""
        return [EarlierShard(part_of(shard) % self.log.buckets, shard) for shard in self.dataset.shards]

    def write_item_ids(self, target: str) -> None:
        """Writes the distinct item ids of all earlier rows, sorted."""
        ids = [self.dataset.item_ids()]
        for rest in self.log.rest:
            table = read_parquet(self.dataset.uri, rest.file, FIX, [Columns.ITEM_ID])
            ids.append(pl.DataFrame(pl.from_arrow(table))[Columns.ITEM_ID].unique())
        distinct = pl.concat(ids).unique().sort()
        restartable.write_arrow(target, restartable.to_table(pl.DataFrame({Columns.ITEM_ID: distinct})))

    def rows(self, item_ids: ItemIds) -> EarlierRows:
        """Where the rows are; ``item_ids``: all item ids."""
        ids = self.dataset.item_ids()
        return EarlierRows(
            uri=self.dataset.uri,
            buckets=self.log.buckets,
            shards=self.shards(),
            rest=self.log.rest,
            names=self.log.names,
            item_ids=ids,
            item_rank=item_ids.ranks(ids),
        )

    def numbers(self, item_ids: ItemIds) -> np.ndarray | None:
        """int32 [all item ids], the number that each keeps, −1 without one; None if none is kept."""
        if not self.keeps_numbers:
            return None
        given = np.full(len(item_ids.ids), -1, dtype=np.int32)
        given[item_ids.ranks(self.dataset.item_ids())] = np.arange(self.dataset.n_items, dtype=np.int32)
        return given

    def shards_of(self, bucket: int) -> tuple[ShardRecord, ...]:
        """The shards whose users belong to a bucket."""
        return tuple(shard.record for shard in self.shards() if shard.bucket == bucket)


def _shown(value: Any) -> str:
    return "not given" if value in (None, [], {}) else str(value)


def _listed(columns: dict[str, str]) -> str:
    return ", ".join(f"{name}={own}" for name, own in columns.items())
