"""SyntheticDataset: the result of a distiller, a folder on any storage.

<uri>/manifest.json          written last: a folder without it is not a synthetic dataset
      data.safetensors       rows (float32, synthetic users × items) for Distill-CF; with a rank, instead of "rows"
                             the factors "z" (synthetic users × rank) and "v" (items × rank): rows = z vᵀ
      data.safetensors.zst   latent sequences and their decoder, 8 bits per number or fewer, for Farzi
      items.parquet          items of the parent: item · item_id · train_count (with noise if the result is private)
      run.json               record of the run that made it: wall time, memory, versions
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

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
from distill_at_scale.data.remaining import forgotten_users
from distill_at_scale.data.stored_dataset import StoredDataset
from distill_at_scale.distillation.discretise import How, discrete_sequences, discrete_users
from distill_at_scale.distillation.distilled import Distilled
from distill_at_scale.distillation.farzi.latent import LatentSequences
from distill_at_scale.distillation.farzi.quantisation import BYTE, dequantise, quantise
from distill_at_scale.distillation.synthetic_manifest import EarlierRecord, ParentRecord, SyntheticManifest
from distill_at_scale.errors import DamagedFileError, DasError
from distill_at_scale.facts import facts_html
from distill_at_scale.models.base import Recommender
from distill_at_scale.models.selection import Progress
from distill_at_scale.models.synthetic_rows import FactoredRows, RowValues, SyntheticRows

T = TypeVar("T")

FIX = "distill again"
"""Remedy for damage, as the end of a sentence."""
ROWS, SEQUENCES, ITEMS = "data.safetensors", "data.safetensors.zst", "items.parquet"
LEARNED = "learned.safetensors"


class SyntheticDataset(StoredDataset[SyntheticManifest]):
    """Distilled users or sequences, readable from any storage.

    Attributes:
        uri: Address of the synthetic dataset.
        manifest: Description of its content.
    """

    fix = FIX

    @classmethod
    def open(cls, uri: str) -> SyntheticDataset:
        """Opens the synthetic dataset at ``uri``; reads only the manifest.

        Raises:
            DasError: ``uri`` holds no finished synthetic dataset.
            DamagedFileError: The manifest is damaged.
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
            raise DasError(f"{place} holds a dataset, not synthetic users or sequences; distill it with `das distill`.")
        return cls(uri, recorded.read_manifest(SyntheticManifest, content, file, FIX, SyntheticManifest.contradiction))

    def summary(self) -> dict[str, Any]:
        """Returns counts, measurements and origin as one JSON object."""
        content = self.manifest.model_dump(mode="json", exclude={"config", "format", "version", "curve", "chosen"})
        return {"uri": storage.redact(self.uri), **content}

    def __repr__(self) -> str:
        m = self.manifest
        what = "users" if m.kind == "rows" else "sequences"
        return f"SyntheticDataset({self.uri!r}, method={m.method}, {what}={m.n_users:,}, items={m.n_items:,})"

    def _repr_html_(self) -> str:
        m = self.manifest
        what = "synthetic users" if m.kind == "rows" else "sequences"
        facts = [("method", m.method), (what, f"{m.n_users:,}"), ("of users", f"{m.parent.n_users:,}")]
        return facts_html(f"SyntheticDataset {storage.redact(self.uri)}", [*facts, ("items", f"{m.n_items:,}")])

    def rows(self) -> np.ndarray:
        """Reads the synthetic users, float32 [n_users, n_items]; values may have any sign.

        Raises:
            DasError: The dataset holds sequences.
            DamagedFileError: The file is missing or damaged.
        """
        factors = self.factors()
        return self._dense(self.manifest.data) if factors is None else factors.dense()

    def learned_rows(self) -> np.ndarray:
        """Reads the rows from which a later distillation goes on, float32 [n_users, n_items]: :meth:`rows`, unless
        simpler ones were the result.

        Raises:
            DasError: The dataset holds sequences.
            DamagedFileError: The file is missing or damaged.
        """
        learned = self.manifest.learned
        return self.rows() if learned is None else self._dense(learned)

    def _dense(self, record: FileRecord) -> np.ndarray:
        found: np.ndarray = self._parsed(lambda content: safetensors.numpy.load(content)["rows"], record)
        if found.shape != (self.n_users, self.n_items):
            raise DamagedFileError(
                f"{self._place(record.path)} has rows of shape {found.shape}, but the manifest says "
                f"{(self.n_users, self.n_items)}; distill again."
            )
        return found

    def factors(self) -> FactoredRows | None:
        """Reads the synthetic users as factors, whose product is :meth:`rows`; None if they have no rank.

        Raises:
            DasError: The dataset holds sequences.
            DamagedFileError: The file is missing or damaged.
        """
        self._expect("rows", "real-valued rows of users")
        rank = self.manifest.rank
        if rank is None:
            return None
        found = self._parsed(safetensors.numpy.load, self.manifest.data)
        shapes = {name: found[name].shape if name in found else None for name in ("z", "v")}
        if shapes != {"z": (self.n_users, rank), "v": (self.n_items, rank)}:
            raise DamagedFileError(
                f"{self._place(ROWS)} has factors of shapes {shapes['z']} and {shapes['v']}, but the manifest "
                f"says {(self.n_users, rank)} and {(self.n_items, rank)}; distill again."
            )
        return FactoredRows(found["z"], found["v"])

    def sequences(self) -> LatentSequences:
        """Reads the latent sequences, on the CPU, dequantised from the bits in which they are stored.

        Raises:
            DasError: The dataset holds rows.
            DamagedFileError: The file is missing or damaged.
        """
        self._expect("sequences", "latent sequences")
        found = self._parsed(dequantise, self.manifest.data)
        if (len(found), found.n_items) != (self.n_users, self.n_items):
            raise DamagedFileError(
                f"{self._place(SEQUENCES)} has {len(found)} sequences over {found.n_items} items, but the manifest "
                f"says {self.n_users} over {self.n_items}; distill again."
            )
        return found

    def for_models(self) -> SyntheticRows:
        """Returns the rows with the metadata that a model's fit needs."""
        m = self.manifest
        factors = self.factors()
        values = self.rows() if factors is None else factors
        parent = m.parent
        return SyntheticRows(
            values, parent.n_users, parent.n_rows, parent.item_space, m.settings, n_filled=parent.n_filled
        )

    def fit_into(self, model: Recommender, progress: Progress | None = None) -> None:
        """Fits a model, as ``model.fit(synthetic)`` does; settings that were not set default to the recorded ones.

        Raises:
            DasError: The model cannot be trained on this kind of data.
            NotEnoughMemoryError: The fit needs more memory than there is.
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
        model.item_ids = self.item_ids()

    def draw(self, how: How = "top_k", seed: int = 0) -> Interactions:
        """Converts to discrete users for other trainers.

        Rows become sets of items without ratings and times. The number of items of a row is the sum of its values
        clipped to [0, 1], scaled so that users have on average as many items as the parent's with train rows. Sequences
        become users with one item per position, at the times 0, 1, … Both conversions lose quality. Binary rows
        (rows=binary) are returned unchanged.

        Args:
            how: For rows: ``top_k`` takes the largest values, ``sample`` draws without replacement in proportion to
                them. For sequences: the most likely item of each soft token, or a drawn one.
            seed: Random seed.
        """
        if self.manifest.kind == "sequences":
            return discrete_sequences(self.sequences(), how, seed)
        return discrete_users(self.rows(), self.manifest.parent.rows_a_user, how, seed)

    def check_parent(self, dataset: Dataset) -> None:
        """Checks that the items are numbered as in ``dataset``.

        Raises:
            DasError: The item numberings differ.
        """
        if self.manifest.parent.item_space != dataset.manifest.item_space:
            raise DasError(
                f"{storage.redact(self.uri)} was distilled from another item numbering than that of "
                f"{storage.redact(dataset.uri)}; distill that dataset."
            )

    def verify(self) -> None:
        """Compares every file with its checksum.

        Raises:
            DamagedFileError: A file is missing or differs; the message names the first one.
        """
        learned = self.manifest.learned
        for record in (self.manifest.data, self.manifest.items, *([] if learned is None else [learned])):
            self._content(record)

    def _expect(self, kind: str, what: str) -> None:
        if self.manifest.kind != kind:
            raise DasError(f"{storage.redact(self.uri)} holds {self.manifest.kind}, not {what}.")

    def _content(self, record: FileRecord) -> bytes:
        content: bytes = recorded.read_recorded(self.uri, record, FIX).to_pybytes()
        return content

    def _parsed(self, parse: Callable[[bytes], T], record: FileRecord) -> T:
        """Returns what a file of rows or sequences holds; what a parser raises on it is damage."""
        content = self._content(record)
        with recorded.parsing(storage.join(self.uri, record.path), FIX):
            return parse(content)

    def _place(self, path: str) -> str:
        return storage.join(storage.redact(self.uri), path)


def _saved(rows: RowValues) -> bytes:
    parts = {"rows": rows} if isinstance(rows, np.ndarray) else {"z": rows.z, "v": rows.v}
    return safetensors.numpy.save({name: np.ascontiguousarray(part, np.float32) for name, part in parts.items()})


def write(
    uri: str,
    made: Distilled,
    parent: Dataset,
    *,
    method: str,
    config: Mapping[str, Any],
    cost: Mapping[str, float],
    made_with: Mapping[str, str],
    earlier: SyntheticDataset | None = None,
) -> SyntheticDataset:
    """Writes what a distiller made; an old manifest is removed first, and the new one is written last.

    Args:
        uri: Address of the folder.
        made: Result; with ``item_counts``, these replace the parent's.
        parent: Dataset that was distilled; its items are copied.
        method: Name or spec of the distiller.
        config: All its settings.
        cost: CPU-seconds and further costs of the run, by name.
        made_with: Versions of the software.
        earlier: Earlier result that the run started from.

    Returns:
        The written synthetic dataset.
    """
    data, m = made.data, parent.manifest
    form: dict[str, int | None] = {}
    if isinstance(data, LatentSequences):
        name, content, n_items = SEQUENCES, quantise(data), data.n_items
        if data.items is not None or data.bits != BYTE:
            form["version"] = 3
    else:
        name, content, n_items = ROWS, _saved(data), data.shape[1] if isinstance(data, np.ndarray) else data.n_items
        form["rank"] = None if isinstance(data, np.ndarray) else data.rank
    items = recorded.read_recorded(parent.uri, m.items, PARENT_FIX).to_pybytes()
    if made.item_counts is not None:
        items = _with_counts(items, made.item_counts)
    for old in (NAME, ROWS, SEQUENCES, LEARNED):
        storage.remove(storage.join(uri, old))
    records = {}
    learned = () if made.learned is None else ((LEARNED, _saved(made.learned)),)
    for path, part in ((name, content), (ITEMS, items), *learned):
        storage.write_bytes(storage.join(uri, path), part)
        records[path] = recorded.record_of(path, part)
    manifest = SyntheticManifest.model_validate(
        {
            "kind": "rows" if name == ROWS else "sequences",
            "method": method,
            "family": made.family,
            "config": config,
            "parent": ParentRecord(
                uri=storage.redact(parent.uri),
                fingerprint="" if made.privacy is not None else m.fingerprint,
                item_space=m.item_space,
                n_users=m.n_users,
                n_rows=made.n_rows,
                n_filled=made.n_filled,
                forgotten=forgotten_users(m),
            ),
            "earlier": None if earlier is None else _record_of(earlier),
            "n_users": len(data),
            "n_items": n_items,
            "sequences": made.sequences,
            "curve": made.curve,
            "chosen": dict(made.chosen),
            "settings": {model: dict(values) for model, values in made.settings.items()},
            "winner": made.winner,
            "contenders": {contender: dict(metrics) for contender, metrics in made.contenders.items()},
            "notes": list(made.notes),
            "copied": made.copied,
            "privacy": made.privacy,
            "learned": records.get(LEARNED),
            "cost": cost,
            "data": records[name],
            "items": records[ITEMS],
            "made_with": made_with,
            **form,
        }
    )
    recorded.write_json(storage.join(uri, NAME), manifest.model_dump(mode="json"))
    return SyntheticDataset(uri, manifest)


def _record_of(earlier: SyntheticDataset) -> EarlierRecord:
    return EarlierRecord(uri=storage.redact(earlier.uri), sha256=earlier.manifest.data.sha256)


def _with_counts(items: bytes, counts: np.ndarray) -> bytes:
    """Returns an item table with other train counts."""
    table = pl.read_parquet(io.BytesIO(items)).with_columns(pl.Series(Columns.TRAIN_COUNT, counts, dtype=pl.Int64))
    written = io.BytesIO()
    table.write_parquet(written)
    return written.getvalue()
