"""SyntheticDataset: what a distiller makes, as a folder on any storage that opens in one line.

<uri>/manifest.json      written last: a folder without it is no synthetic dataset
      data.safetensors   rows (float32, synthetic users × items) for Distill-CF
      items.parquet      the parent's: item · item_id · train_count
      run.json           how the run that made it went
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, Literal

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import safetensors.numpy
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from distill_at_scale.data import hashing, storage
from distill_at_scale.data.columns import Columns
from distill_at_scale.data.dataset import Dataset
from distill_at_scale.data.interactions import Interactions
from distill_at_scale.data.manifest import NAME, SYNTHETIC_FORMAT, WORK, FileRecord
from distill_at_scale.errors import DasError
from distill_at_scale.models.selection import Selection
from distill_at_scale.models.synthetic_rows import SyntheticRows

DATA, ITEMS = "data.safetensors", "items.parquet"

How = Literal["top_k", "sample"]

_DRAW = 31


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ParentRecord(_Record):
    """The dataset that was distilled."""

    uri: str
    fingerprint: str
    item_space: str
    n_users: int
    n_rows: int
    """its train rows, distinct pairs of user and item"""


class SyntheticManifest(_Record):
    """Everything about a SyntheticDataset but its numbers."""

    format: Literal["distill_at_scale/synthetic"] = "distill_at_scale/synthetic"
    version: Literal[1] = 1
    kind: Literal["rows", "sequences"]
    """rows: users × items; sequences: latent sequences and a decoder"""
    method: str
    """distill_cf or sketch"""
    family: str
    """which kind of rows, and of which family"""
    config: dict[str, Any]
    """all settings of the method"""
    parent: ParentRecord
    n_users: int
    """synthetic users"""
    n_items: int
    curve: list[dict[str, float]] = Field(default_factory=list)
    """validations on the way: step, metric, λ"""
    chosen: dict[str, Selection] = Field(default_factory=dict)
    """settings of models, chosen on the parent's validation rows"""
    settings: dict[str, dict[str, float]] = Field(default_factory=dict)
    """what a fit takes of them, by model"""
    cost: dict[str, float] = Field(default_factory=dict)
    """cpu_s, wall_s and peak_mib of distilling"""
    data: FileRecord
    items: FileRecord
    made_with: dict[str, str]
    """versions"""


class SyntheticDataset:
    """Distilled users that can be opened anywhere.

    Attributes:
        uri: where they lie.
        manifest: what they are.
    """

    def __init__(self, uri: str, manifest: SyntheticManifest) -> None:
        self.uri, self.manifest = uri, manifest

    @classmethod
    def open(cls, uri: str) -> SyntheticDataset:
        """Opens the synthetic dataset at ``uri`` (reads the manifest only).

        Raises:
            DasError: when there is none, or it is damaged.
        """
        uri = storage.normalise(uri)
        place = storage.redact(uri)
        try:
            content = storage.read_bytes(storage.join(uri, NAME))
        except FileNotFoundError:
            begun = storage.exists(storage.join(uri, WORK))
            mend = "run the same das distill again to finish it" if begun else "das distill makes one"
            raise DasError(f"{place} is no synthetic dataset: it has no {NAME}; {mend}.") from None
        try:
            return cls(uri, SyntheticManifest.model_validate_json(content))
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(str(part) for part in first["loc"]) or "the file"
            raise DasError(
                f"{storage.join(place, NAME)} is no synthetic dataset's, damaged or of another version: "
                f"{field}: {first['msg']}."
            ) from None

    def __repr__(self) -> str:
        m = self.manifest
        return f"SyntheticDataset({self.uri!r}, method={m.method}, users={m.n_users:,}, items={m.n_items:,})"

    @property
    def n_users(self) -> int:
        """Synthetic users."""
        return self.manifest.n_users

    @property
    def n_items(self) -> int:
        """Items, numbered as the parent's."""
        return self.manifest.n_items

    def rows(self) -> np.ndarray:
        """The synthetic users, float32 [n_users, n_items]; real numbers of any sign.

        Raises:
            DasError: when the file is missing or altered, or these are sequences.
        """
        found = safetensors.numpy.load(self._content(self.manifest.data))
        if "rows" not in found:
            raise DasError(f"{storage.redact(self.uri)} holds {self.manifest.kind}, not rows of users.")
        if found["rows"].shape != (self.n_users, self.n_items):
            raise DasError(
                f"{self._place(DATA)}: rows of shape {found['rows'].shape}, but the manifest says "
                f"{(self.n_users, self.n_items)}; distill again."
            )
        return found["rows"]

    def for_models(self) -> SyntheticRows:
        """The rows with what a model needs to know beside them."""
        m = self.manifest
        return SyntheticRows(self.rows(), m.parent.n_users, m.parent.n_rows, m.parent.item_space, m.settings)

    def items(self) -> pl.DataFrame:
        """item (Int32) · item_id · train_count (Int64) of the parent."""
        return pl.DataFrame(pl.from_arrow(pq.read_table(pa.BufferReader(self._content(self.manifest.items)))))

    def draw(self, how: How = "top_k", seed: int = 0) -> Interactions:
        """Plain users for outside trainers: every row becomes a set of items, without ratings and times.

        A row keeps as many items as its numbers in [0, 1] add up to, scaled so that users have on average as many
        as the parent's. Loses quality (thresholds are coarse): see the binary family for rows made to be plain.

        Args:
            how: ``top_k`` takes the largest, ``sample`` draws without replacement in proportion to the numbers.
            seed: of the draws.
        """
        return discrete_users(self.rows(), self.manifest.parent.n_rows / self.manifest.parent.n_users, how, seed)

    def check_parent(self, dataset: Dataset) -> None:
        """Makes sure that item numbers mean here what they mean in ``dataset``.

        Raises:
            DasError: when the item spaces differ.
        """
        if self.manifest.parent.item_space != dataset.manifest.item_space:
            raise DasError(
                f"{storage.redact(self.uri)} was distilled from another item numbering than that of "
                f"{storage.redact(dataset.uri)}; distill that dataset."
            )

    def verify(self) -> None:
        """Compares every file with its checksum.

        Raises:
            DasError: naming the first file that is missing or differs.
        """
        for record in (self.manifest.data, self.manifest.items):
            self._content(record)

    def _content(self, record: FileRecord) -> bytes:
        try:
            content = storage.read_bytes(storage.join(self.uri, record.path))
        except FileNotFoundError:
            raise DasError(f"{self._place(record.path)} is missing; distill again.") from None
        if hashlib.sha256(content).hexdigest() != record.sha256:
            raise DasError(f"{self._place(record.path)} differs from its checksum; distill again.")
        return content

    def _place(self, path: str) -> str:
        return storage.join(storage.redact(self.uri), path)


def write(uri: str, rows: np.ndarray, parent: Dataset, described: dict[str, Any]) -> SyntheticDataset:
    """Writes synthetic users; the manifest goes last, and an old one is taken away first.

    Args:
        uri: of the folder.
        rows: float32 [n_users, n_items].
        parent: the dataset that they were distilled from; its items come along.
        described: the manifest's fields that are not about files or the parent, and ``n_rows``, the parent's
            distinct train rows.
    """
    fields = dict(described)
    m = parent.manifest
    content = safetensors.numpy.save({"rows": np.ascontiguousarray(rows, dtype=np.float32)})
    items = storage.read_bytes(storage.join(parent.uri, m.items.path))
    storage.remove(storage.join(uri, NAME))
    records = {}
    for name, part in ((DATA, content), (ITEMS, items)):
        storage.write_bytes(storage.join(uri, name), part)
        records[name] = FileRecord(path=name, bytes=len(part), sha256=hashlib.sha256(part).hexdigest())
    manifest = SyntheticManifest(
        kind="rows",
        parent=ParentRecord(
            uri=storage.redact(parent.uri),
            fingerprint=m.fingerprint,
            item_space=m.item_space,
            n_users=m.n_users,
            n_rows=fields.pop("n_rows"),
        ),
        n_users=len(rows),
        n_items=rows.shape[1],
        data=records[DATA],
        items=records[ITEMS],
        **fields,
    )
    storage.write_bytes(storage.join(uri, NAME), (manifest.model_dump_json(indent=1) + "\n").encode())
    return SyntheticDataset(uri, manifest)


def is_synthetic(uri: str) -> bool:
    """Whether a synthetic dataset, and no plain one, lies at ``uri``."""
    try:
        found = json.loads(storage.read_bytes(storage.join(uri, NAME)))
    except (FileNotFoundError, ValueError):
        return False
    return isinstance(found, dict) and found.get("format") == SYNTHETIC_FORMAT


def discrete_users(rows: np.ndarray, mean_count: float, how: How, seed: int) -> Interactions:
    """Sets of items out of real-valued rows; see :meth:`SyntheticDataset.draw`.

    Args:
        rows: [n_users, n_items].
        mean_count: items a user on average.
    """
    weights = rows.clip(0.0, 1.0).astype(np.float64)
    sums = weights.sum(1)
    wanted = np.rint(mean_count * sums / max(sums.mean(), 1e-12)).astype(np.int64)
    counts = np.clip(wanted, 1, np.maximum((weights > 0).sum(1), 1))
    keys = rows.astype(np.float64)
    if how == "sample":
        # Gumbel top-k: the k largest of log w + g are a draw of k without replacement (Kool et al., ICML 2019).
        places = np.arange(weights.size, dtype=np.uint64).reshape(weights.shape)
        uniform = (hashing.combine(seed, _DRAW, places) >> np.uint64(11)).astype(np.float64) * 2.0**-53 + 2.0**-54
        with np.errstate(divide="ignore"):
            keys = np.log(weights) - np.log(-np.log(uniform))
    ranked = np.argsort(-keys, axis=1, kind="stable")
    items = [np.sort(ranked[row, :count]) for row, count in enumerate(counts)]
    return Interactions(
        users=np.arange(len(rows), dtype=np.int64),
        offsets=np.concatenate(([0], np.cumsum(counts))).astype(np.int64),
        items=np.concatenate(items).astype(np.int32),
        n_items=rows.shape[1],
    )


def as_log(users: Interactions, items: pl.DataFrame) -> pl.DataFrame:
    """user_id · item_id of plain users, item ids as the parent's log has them."""
    owners = pl.Series(Columns.USER_ID, np.repeat(users.users, users.counts))
    return pl.DataFrame([owners, items[Columns.ITEM_ID].gather(users.items)])
