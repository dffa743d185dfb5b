"""export: a dataset, a sample or synthetic data as a plain log, for programs that know nothing of this project.

<output>/interactions/part-00042.parquet    parquet and csv: a file a shard, with the split of each row
         NAME.train.inter …                 recbole: a file a split, NAME being the folder's
         data/train-00042-of-00064.parquet  hf: a file a shard and split; README.md and croissant.json describe them
         run.json, export.json              how the run went; what it wrote, written last

Synthetic data, which are small, go into one file (interactions.parquet or .csv, NAME.inter). Files are written whole,
each by one task; what a killed run had done is kept.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import IO, Any

import numpy as np
import polars as pl
from pydantic import BaseModel

from distill_at_scale.config import ExportConfig
from distill_at_scale.data import storage
from distill_at_scale.data.columns import SPLITS, Columns
from distill_at_scale.data.dataset import Dataset
from distill_at_scale.data.dataset_card import CARD, CROISSANT, Described, card, croissant
from distill_at_scale.data.digests import Digest
from distill_at_scale.data.export_formats import FORMATS, OWNED, ExportFile
from distill_at_scale.data.formulas import users_without_formulas, without_formulas
from distill_at_scale.data.preparation.part_record import PartRecord
from distill_at_scale.data.recorded import FileRecord
from distill_at_scale.distillation.synthetic_manifest import is_synthetic
from distill_at_scale.errors import SettingError
from distill_at_scale.facts import count_of
from distill_at_scale.finite_json import dumps
from distill_at_scale.pipelines.runtime import output_folder, run_record, session
from distill_at_scale.pipelines.runtime.own_settings import refuse_useless
from distill_at_scale.pipelines.runtime.parts_output import PartsOutput
from distill_at_scale.pipelines.runtime.tasks import run_stage
from distill_at_scale.pipelines.runtime.verb import verb

MANIFEST = "export.json"


class ExportResult(BaseModel):
    """A log and how large it is."""

    uri: str
    """Address of the file, or of the folder of several files."""
    format: str
    rows: int
    splits: dict[str, int]
    """Rows of each split; synthetic data have none."""
    users: int
    items: int
    escaped: int = 0
    """Ids that were changed, as --escape-formulas asks for."""
    files: int
    bytes: int
    wall_s: float


@dataclass(frozen=True)
class _Source:
    """Rows to export, shard by shard; picklable.

    Attributes:
        uri: Address of the dataset, or of the synthetic data.
        synthetic: how they are drawn, if they are: how, seed.
        escape: whether ids are escaped.
        say_split: whether rows say their split.
    """

    uri: str
    synthetic: tuple[Any, int] | None
    escape: bool
    say_split: bool

    def rows(self, file: ExportFile) -> Iterator[pl.DataFrame]:
        """The rows of a file, shard by shard."""
        if self.synthetic is not None:
            yield self._drawn()
            return
        dataset = Dataset.open(self.uri)
        for shard in file.shards:
            frame = dataset.rows(shard, *file.splits)
            if not self.say_split:
                frame = frame.drop(Columns.SPLIT)
            yield self._escaped(frame, dataset, shard) if self.escape else frame

    def _drawn(self) -> pl.DataFrame:
        from distill_at_scale.distillation.discretise import as_log
        from distill_at_scale.distillation.synthetic import SyntheticDataset

        assert self.synthetic is not None
        dataset = SyntheticDataset.open(self.uri)
        items = dataset.items()
        if self.escape:
            items = items.with_columns(without_formulas(items[Columns.ITEM_ID]))
        return as_log(dataset.draw(*self.synthetic), items)

    @staticmethod
    def _escaped(frame: pl.DataFrame, dataset: Dataset, shard: int) -> pl.DataFrame:
        known = {
            Columns.USER_ID: (ids := dataset.users(shard)[Columns.USER_ID], users_without_formulas(ids)),
            Columns.ITEM_ID: (ids := dataset.item_ids(), without_formulas(ids)),
        }
        for name, (before, after) in known.items():
            if before.dtype == pl.String:
                frame = frame.with_columns(pl.col(name).replace_strict(before, after))
        return frame


@dataclass(frozen=True)
class _Exported(PartRecord):
    """A file of the export."""

    file: FileRecord
    rows: int
    columns: dict[str, str]
    """Type of each column."""


@dataclass(frozen=True)
class _Counts:
    """Users of a shard with exported rows, and how many ids were changed."""

    users: int
    escaped: int


@verb(ExportConfig, "data")
def export(config: ExportConfig) -> ExportResult:
    """Writes a dataset, a sample or synthetic data as a plain log; see
    :class:`~distill_at_scale.config.ExportConfig` for the settings.

    Users and items have the ids of the log, synthetic users are numbered from 0, and so are the times of sequences;
    ``das prepare`` reads what is written, too.

    Raises:
        SettingError: a split without rows, or one of synthetic data, which have none.
        DasError: no dataset, a file of it that is missing or altered, an output that exists, ids or times that the
            format cannot hold.
    """
    return _Export(config).run()


class _Export:
    """One run."""

    def __init__(self, config: ExportConfig) -> None:
        self.config, self.started = config, time.time()
        self.output = PartsOutput(storage.normalise(config.output), MANIFEST, "an export", OWNED)
        output_folder.check_outside(self.output.uri, storage.normalise(config.data), "the data exported")
        self.output.check(config.overwrite)
        self.format = FORMATS[config.format]
        self.synthetic = is_synthetic(config.data)
        self.dataset = None if self.synthetic else Dataset.open(config.data)
        if not self.synthetic:
            refuse_useless(config, ("how", "seed"), "is of synthetic data, whose items are drawn, not of a log's rows")
        self.splits = self._splits()
        self.record = run_record.RunRecord("export", config.model_dump(mode="json", exclude={"address", "overwrite"}))
        drawn = (config.how, config.seed) if self.synthetic else None
        uri = storage.normalise(config.data)
        self.source = _Source(uri, drawn, config.escape_formulas, not self.format.by_split)
        self.name = self.output.uri.rsplit("/", 1)[-1]
        n_shards = 1 if self.dataset is None else len(self.dataset.shards)
        self.files = self.format.files(self.name, n_shards, list(self.splits))

    def _splits(self) -> dict[str, int]:
        """Rows of each split that is exported, {} of synthetic data; a sample's own rows are its train rows."""
        asked = self.config.splits
        if self.dataset is None:
            if asked:
                raise SettingError("--splits is not of synthetic data, which have none; leave it out.")
            return {}
        there = {split: n for split in SPLITS if (n := self.dataset.manifest.splits.get(split, 0))}
        if asked:
            if missing := [split for split in asked if split not in there]:
                raise SettingError(
                    f"{storage.redact(self.dataset.uri)} has no {missing[0]} rows; leave it out of --splits."
                )
            return {split: n for split, n in there.items() if split in asked}
        return {"train": there["train"]} if self.dataset.manifest.parent and "train" in there else there

    def run(self) -> ExportResult:
        self.output.begin(self._plan())
        source, output, write = self.source, self.output, self.format.write

        def work(item: tuple[int, ExportFile]) -> _Exported:
            part, file = item

            def build() -> _Exported:
                with storage.open_output(output.place(file.path)) as raw:
                    sink, rows = _Recorded(raw), _Counted(source.rows(file))
                    write(sink, rows)  # type: ignore[arg-type]
                return _Exported(sink.record(file.path), rows.n, rows.columns)

            return output.once(part, _Exported, build)

        items = list(enumerate(self.files))
        if len(items) == 1:
            # Not worth a cluster.
            started, cpu = time.monotonic(), time.process_time()
            parts = [work(items[0])]
            cost = replace(run_record.TaskCost.since(cpu), reused=parts[0].reused)
            self.record.add("export", time.monotonic() - started, [cost])
            users, n_items, escaped = self._counts()
        else:
            with session.ensure(self.config.address):
                parts = run_stage(self.record, "export", work, items, light=True)
                users, n_items, escaped = self._counts()
        return self._finish(parts, users, n_items, escaped)

    def _plan(self) -> dict[str, Any]:
        """What the files' content depends on."""
        if self.dataset is not None:
            content = self.dataset.manifest.fingerprint
        else:
            from distill_at_scale.distillation.synthetic import SyntheticDataset

            content = SyntheticDataset.open(self.config.data).manifest.data.sha256
        settings = self.config.model_dump(include={"format", "how", "seed", "escape_formulas"})
        return {"data": content, "splits": list(self.splits), "name": self.name, **settings}

    def _counts(self) -> tuple[int, int, int]:
        """Users and items of the exported rows, and how many ids were changed."""
        escape = self.config.escape_formulas
        if self.dataset is None:
            from distill_at_scale.distillation.synthetic import SyntheticDataset

            made = SyntheticDataset.open(self.config.data)
            drawn = made.draw(self.config.how, self.config.seed)
            used = made.item_ids().filter(pl.Series(drawn.item_counts() > 0))
            changed = int((without_formulas(used) != used).sum()) if escape else 0
            return len(drawn), len(used), changed
        dataset, splits, shards = self.dataset, list(self.splits), list(range(len(self.dataset.shards)))

        def count(shard: int) -> _Counts:
            users = dataset.users(shard)
            ids = users[Columns.USER_ID].filter(users.select(pl.sum_horizontal(splits) > 0).to_series())
            return _Counts(len(ids), int((users_without_formulas(ids) != ids).sum()) if escape else 0)

        alone = len(self.files) == 1 and len(shards) == 1
        # Of a whole dataset every user has rows.
        known = len(splits) == len([n for n in self.dataset.manifest.splits.values() if n]) and not escape
        if known and self.dataset.manifest.parent is None:
            found = [_Counts(self.dataset.n_users, 0)]
        elif alone:
            found = [count(0)]
        else:
            with session.ensure(self.config.address):
                found = run_stage(self.record, "count users", count, shards, shown=False, light=True)
        items = self.dataset.items()
        if splits == ["train"]:
            items = items.filter(pl.col(Columns.TRAIN_COUNT) > 0)
        ids = items[Columns.ITEM_ID]
        escaped = int((without_formulas(ids) != ids).sum()) if escape else 0
        return sum(one.users for one in found), len(ids), escaped + sum(one.escaped for one in found)

    def _finish(self, parts: list[_Exported], users: int, n_items: int, escaped: int) -> ExportResult:
        files = [part.file for part in parts]
        rows = sum(part.rows for part in parts)
        if self.config.format == "hf":
            about = Described(
                self.name, self.splits or {"train": rows}, users, n_items, parts[0].columns, self._made(),
                self.synthetic, self._guarantee(),
            )  # fmt: skip
            content = {CARD: card(about), CROISSANT: dumps(croissant(about, files), indent=2) + "\n"}
            files += [self.output.write(path, text.encode()) for path, text in content.items()]
        about_all: dict[str, Any] = {
            "rows": rows,
            "splits": self.splits,
            "users": users,
            "items": n_items,
            "escaped": escaped,
        }
        manifest = {
            "format": "distill_at_scale/export",
            "version": 1,
            "written_as": self.config.format,
            **about_all,
            "files": [file.model_dump() for file in files],
        }
        self.output.finish(self.record, manifest, [file.path for file in files])
        alone = len(files) == 1 and self.synthetic
        return ExportResult(
            uri=self.output.place(files[0].path) if alone else self.output.uri,
            format=self.config.format,
            **about_all,
            files=len(files),
            bytes=sum(file.bytes for file in files),
            wall_s=round(time.time() - self.started, 3),
        )

    def _guarantee(self) -> str:
        """What differential privacy guarantees, as sentences."""
        if self.dataset is not None:
            return ""
        from distill_at_scale.distillation.synthetic import SyntheticDataset

        privacy = SyntheticDataset.open(self.config.data).manifest.privacy
        return "" if privacy is None else f"{privacy.sentence} {privacy.protected} {privacy.public}"

    def _made(self) -> list[str]:
        """How the data came about, as sentences."""
        if self.dataset is None:
            from distill_at_scale.distillation.synthetic import SyntheticDataset

            made = SyntheticDataset.open(self.config.data).manifest
            drawn = count_of(made.n_users, f"synthetic {'user' if made.kind == 'rows' else 'sequence'}")
            return [
                f"{drawn}, learned from {count_of(made.parent.n_users, 'real user')} by {made.method} of "
                f"distill_at_scale and drawn as plain rows ({self.config.how}).",
                *made.notes,
            ]
        m = self.dataset.manifest
        rule = f"The split rule is {m.split_rule['name']}."
        if m.parent is None:
            return [f"A log of {m.source.get('rows', 0):,} rows, cleaned and split by distill_at_scale.", rule]
        sampler, budget = m.config.get("sampler"), m.config.get("budget")
        return [f"A sample of a larger log by distill_at_scale (sampler {sampler}, budget {budget}).", rule]


class _Counted:
    """Frames as they pass, counted."""

    def __init__(self, frames: Iterator[pl.DataFrame]) -> None:
        self._frames, self.n, self.columns = frames, 0, dict[str, str]()

    def __iter__(self) -> Iterator[pl.DataFrame]:
        for frame in self._frames:
            self.n += frame.height
            self.columns = {name: str(kind).lower() for name, kind in frame.schema.items()}
            yield frame


class _Recorded:
    """A file that is digested while it is written."""

    closed = False

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._sha256, self._digest = file, hashlib.sha256(), Digest()

    def write(self, content: Any) -> int:
        data = np.frombuffer(content, dtype=np.uint8).tobytes() if not isinstance(content, bytes) else content
        self._sha256.update(data)
        self._digest.update(data)
        self._file.write(data)
        return len(data)

    def flush(self) -> None:
        """Nothing is held back here."""

    def tell(self) -> int:
        return self._digest.length

    def close(self) -> None:
        """The file is closed by who opened it."""

    def record(self, path: str) -> FileRecord:
        return FileRecord(
            path=path,
            bytes=self._digest.length,
            sha256=self._sha256.hexdigest(),
            digest=self._digest.value().hex(),
        )
