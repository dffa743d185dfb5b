"""SyntheticDataset: what a distiller makes, as a folder on any storage that opens in one line.

<uri>/manifest.json          written last: a folder without it is not a synthetic dataset
      data.safetensors       rows (float32, synthetic users × items) for Distill-CF
      data.safetensors.zst   latent sequences and their decoder, 8 bits a number, for Farzi
      items.parquet          the parent's: item · item_id · train_count
      run.json               how the run that made it went
"""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import safetensors.numpy

from distill_at_scale.data import recorded, storage
from distill_at_scale.data.columns import Columns
from distill_at_scale.data.dataset import Dataset
from distill_at_scale.data.interactions import Interactions
from distill_at_scale.data.manifest import DATASET_FORMAT, NAME, WORK
from distill_at_scale.data.manifest import FIX as PARENT_FIX
from distill_at_scale.data.recorded import FileRecord
from distill_at_scale.distillation.discretise import How, discrete_sequences, discrete_users
from distill_at_scale.distillation.farzi.latent import LatentSequences
from distill_at_scale.distillation.farzi.quantisation import dequantise, quantise
from distill_at_scale.distillation.synthetic_manifest import ParentRecord, SyntheticManifest
from distill_at_scale.errors import DamagedFileError, DasError
from distill_at_scale.facts import facts_html
from distill_at_scale.models.base import Recommender
from distill_at_scale.models.selection import Progress
from distill_at_scale.models.synthetic_rows import SyntheticRows

FIX = "distill again"
"""Remedy for damage, as the end of a sentence."""
ROWS, SEQUENCES, ITEMS = "data.safetensors", "data.safetensors.zst", "items.parquet"


class SyntheticDataset:
    """Distilled users or sequences that can be opened anywhere.

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
            fix = "run the same das distill again to finish it" if begun else "das distill makes one"
            raise DasError(f"{place} is not a synthetic dataset: it has no {NAME}; {fix}.") from None
        file = storage.join(uri, NAME)
        if recorded.parse_json(content, file, FIX)[0].get("format") == DATASET_FORMAT:
            raise DasError(
                f"{place} holds a dataset, not synthetic users or sequences; `das distill` makes them of it."
            )
        return cls(uri, recorded.read_manifest(SyntheticManifest, content, file, FIX, SyntheticManifest.contradiction))

    def __repr__(self) -> str:
        m = self.manifest
        what = "users" if m.kind == "rows" else "sequences"
        return f"SyntheticDataset({self.uri!r}, method={m.method}, {what}={m.n_users:,}, items={m.n_items:,})"

    def _repr_html_(self) -> str:
        m = self.manifest
        what = "synthetic users" if m.kind == "rows" else "sequences"
        facts = [("method", m.method), (what, f"{m.n_users:,}"), ("of users", f"{m.parent.n_users:,}")]
        return facts_html(f"SyntheticDataset {storage.redact(self.uri)}", [*facts, ("items", f"{m.n_items:,}")])

    @property
    def n_users(self) -> int:
        """Synthetic users, or sequences."""
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
        self._expect("rows", "real-valued rows of users")
        content = self._content(self.manifest.data)
        with recorded.parsing(storage.join(self.uri, self.manifest.data.path), FIX):
            found = safetensors.numpy.load(content)["rows"]
        if found.shape != (self.n_users, self.n_items):
            raise DamagedFileError(
                f"{self._place(ROWS)}: rows of shape {found.shape}, but the manifest says "
                f"{(self.n_users, self.n_items)}; distill again."
            )
        return found

    def sequences(self) -> LatentSequences:
        """The latent sequences, on the CPU; each number has 8 bits.

        Raises:
            DasError: when the file is missing or altered, or these are rows.
        """
        self._expect("sequences", "latent sequences")
        content = self._content(self.manifest.data)
        with recorded.parsing(storage.join(self.uri, self.manifest.data.path), FIX):
            found = dequantise(content)
        if (len(found), found.n_items) != (self.n_users, self.n_items):
            raise DamagedFileError(
                f"{self._place(SEQUENCES)}: {len(found)} sequences of {found.n_items} items, but the manifest says "
                f"{self.n_users} of {self.n_items}; distill again."
            )
        return found

    def for_models(self) -> SyntheticRows:
        """The rows with what a model needs to know beside them."""
        m = self.manifest
        return SyntheticRows(self.rows(), m.parent.n_users, m.parent.n_rows, m.parent.item_space, m.settings)

    def fit_into(self, model: Recommender, progress: Progress | None = None) -> None:
        """Fits a model, as ``model.fit(synthetic)`` does; settings that the model leaves open are those recorded here.

        Raises:
            DasError: a model that does not learn from what this holds; too little memory.
        """
        made, space = self.manifest.sequences, self.manifest.parent.item_space
        if made is None:
            model.refuse_rows()
            model.fit_rows(self.for_models(), progress)
        else:
            from distill_at_scale.distillation.farzi.fitting import fit_sequences, settings_for

            given = settings_for(model.name, model.config.model_dump(exclude_unset=True), made.settings)
            fitted = fit_sequences(self.sequences(), model.name, given, shuffled=made.shuffled, item_space=space)
            vars(model).update(vars(fitted))
        model.item_ids = self.items()[Columns.ITEM_ID]

    def items(self) -> pl.DataFrame:
        """item (Int32) · item_id · train_count (Int64) of the parent."""
        return pl.DataFrame(pl.from_arrow(recorded.read_parquet(self.uri, self.manifest.items, FIX, rows=self.n_items)))

    def draw(self, how: How = "top_k", seed: int = 0) -> Interactions:
        """Plain users for outside trainers.

        Rows become sets of items, without ratings and times: each keeps as many items as its numbers in [0, 1] add up
        to, scaled so that users have on average as many as the parent's. Sequences become users with one item a
        place, in the order of their times 0, 1, … Both lose quality. Rows of zeros and ones (rows=binary) are
        plain users already and come out as they are.

        Args:
            how: For rows, ``top_k`` takes the largest, ``sample`` draws without replacement in proportion to the
                numbers; of a place's soft token, the likeliest item or a drawn one.
            seed: Seed of the draws.
        """
        if self.manifest.kind == "sequences":
            return discrete_sequences(self.sequences(), how, seed)
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

    def _expect(self, kind: str, what: str) -> None:
        if self.manifest.kind != kind:
            raise DasError(f"{storage.redact(self.uri)} holds {self.manifest.kind}, not {what}.")

    def _content(self, record: FileRecord) -> bytes:
        content: bytes = recorded.read_recorded(self.uri, record, FIX).to_pybytes()
        return content

    def _place(self, path: str) -> str:
        return storage.join(storage.redact(self.uri), path)


def write(uri: str, data: np.ndarray | LatentSequences, parent: Dataset, described: dict[str, Any]) -> SyntheticDataset:
    """Writes synthetic users or sequences; the manifest goes last, and an old one is taken away first.

    Args:
        uri: Address of the folder.
        data: rows, float32 [n_users, n_items], or latent sequences.
        parent: the dataset that they were distilled from; its items come along.
        described: the manifest's fields that are not about files or the parent, and ``n_rows``, the parent's
            distinct train rows.
    """
    fields = dict(described)
    m = parent.manifest
    if isinstance(data, LatentSequences):
        name, content, n_items = SEQUENCES, quantise(data), data.n_items
    else:
        name, n_items = ROWS, data.shape[1]
        content = safetensors.numpy.save({"rows": np.ascontiguousarray(data, dtype=np.float32)})
    items = recorded.read_recorded(parent.uri, m.items, PARENT_FIX).to_pybytes()
    for old in (NAME, ROWS, SEQUENCES):
        storage.remove(storage.join(uri, old))
    records = {}
    for path, part in ((name, content), (ITEMS, items)):
        storage.write_bytes(storage.join(uri, path), part)
        records[path] = recorded.record_of(path, part)
    manifest = SyntheticManifest(
        kind="rows" if name == ROWS else "sequences",
        parent=ParentRecord(
            uri=storage.redact(parent.uri),
            fingerprint=m.fingerprint,
            item_space=m.item_space,
            n_users=m.n_users,
            n_rows=fields.pop("n_rows"),
        ),
        n_users=len(data),
        n_items=n_items,
        data=records[name],
        items=records[ITEMS],
        **fields,
    )
    recorded.write_json(storage.join(uri, NAME), manifest.model_dump(mode="json"))
    return SyntheticDataset(uri, manifest)
