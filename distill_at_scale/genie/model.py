"""Data-Genie: what would every method keep of a dataset, at every budget, without trying any?

Source: Sachdeva, Wu, McAuley, "On Sampling Collaborative Filtering Datasets" (WSDM 2022), section 5. Trained on the
cells of sweeps over many datasets; predicts Kendall's τ between rankings of models, and the share of ndcg@10 kept.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import safetensors.numpy
from scipy.optimize import nnls

from distill_at_scale.data import recorded, storage
from distill_at_scale.data.recorded import FileRecord
from distill_at_scale.errors import DamagedFileError, DasError
from distill_at_scale.genie.common import main_models
from distill_at_scale.genie.conformal import Widths, widths
from distill_at_scale.genie.corpus import family
from distill_at_scale.genie.features import FEATURE_VERSION
from distill_at_scale.genie.neighbours import Neighbours
from distill_at_scale.genie.regressors import KINDS, Regressor, choose, make
from distill_at_scale.genie.table import Encoder, Table

NAME, WEIGHTS, CELLS, FEATURES = "genie.json", "genie.safetensors", "cells.parquet", "features.parquet"
FORMAT = "distill_at_scale/genie"
RETRAIN = "das genie train --sweeps SWEEP… --output GENIE"
FIX = f"train it again: {RETRAIN}"
"""Remedy for damage, as the end of a sentence."""
VERSION = 2
TARGETS = ("tau", "kept")
BUDGETS = (0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
"""Shares that are asked for, as far as they lie between those that were tried."""
MOST_KEPT = 1.2
_FEWEST_FAMILIES = 3


@dataclass
class Target:
    """One thing that is predicted.

    Attributes:
        kind: Kind of the model.
        model: trained on all cells.
        widths: Widths of its 90 % intervals.
        validation: regret and squared error of every kind on datasets held out.
    """

    kind: str
    model: Regressor
    widths: Widths
    validation: dict[str, dict[str, float]]


@dataclass
class Cells:
    """Cells that have a target, as numbers.

    Attributes:
        table: their columns.
        y: float64 [n], the target.
        families: [n], of their datasets.
        taught: float64 [n], what models are taught in its place: of τ its mean over resampled users, where that is
            known, which says the same with less noise.
    """

    table: Table
    y: np.ndarray
    families: np.ndarray
    taught: np.ndarray


class DataGenie:
    """A trained Data-Genie.

    Attributes:
        encoder: how features become columns.
        targets: by name; see :data:`TARGETS`.
        log_budgets: float64, the budgets that were tried.
        cells: those that it was trained on, see :func:`distill_at_scale.genie.trials.cells`.
        features: fingerprint of each training dataset -> its features.
    """

    def __init__(
        self,
        encoder: Encoder,
        targets: dict[str, Target],
        cells: pl.DataFrame,
        features: dict[str, dict[str, float]],
    ) -> None:
        self.encoder, self.targets, self.cells, self.features = encoder, targets, cells, features
        self.log_budgets = np.log(cells["budget"].unique().sort().to_numpy())
        self.neighbours = Neighbours.fit(features, encoder.names)

    @classmethod
    def fit(
        cls,
        cells: pl.DataFrame,
        features: Mapping[str, Mapping[str, float]],
        kinds: Sequence[str] = KINDS,
    ) -> DataGenie:
        """Trains on cells of many datasets.

        Args:
            cells: Cells of sweeps.
            features: fingerprint -> features, of every dataset of ``cells``.
            kinds: Kinds of models to choose from, for each target by the regret on held-out datasets.

        Raises:
            DasError: when there are too few datasets to hold any out.
        """
        cells = bounded(cells)
        known = {fingerprint: dict(features[fingerprint]) for fingerprint in cells["fingerprint"].unique().sort()}
        if len(np.unique(families(cells))) < _FEWEST_FAMILIES:
            raise DasError(
                f"Data-Genie learns from sweeps of at least {_FEWEST_FAMILIES} datasets that are no cuts of one "
                "another; give it more --sweeps."
            )
        encoder = encoder_of(cells, known)
        targets = {}
        for name in TARGETS:
            given = target_cells(name, cells, known, encoder)
            chosen = choose(given.table, given.y, given.families, kinds, given.taught)
            model = make(chosen["name"])
            model.fit(given.table, given.taught)
            residual = given.y - chosen["out_of_fold"]
            found = widths(residual, given.table.log_budget, given.families)
            targets[name] = Target(chosen["name"], model, found, chosen["validation"])
        return cls(encoder, targets, cells, known)

    def predict(
        self, features: Mapping[str, float], methods: Sequence[str] | None = None, budgets: Sequence[float] = BUDGETS
    ) -> pl.DataFrame:
        """What is kept of a dataset.

        Args:
            features: Features of the dataset.
            methods: default: all that were tried.
            budgets: those outside of what was tried are left out.

        Returns:
            One row for each method and budget: ``method``, ``budget``; ``tau``, ``kept``, each with ``_low`` and
            ``_high`` of a 90 % interval; ``make_cpu_s``, of making it; ``fit_share``, of the cost of training on
            everything. ``tau`` is null for methods that some models cannot learn from.
        """
        asked = [name for name in self.encoder.methods if methods is None or name in methods]
        low, high = self.log_budgets[0] - 1e-9, self.log_budgets[-1] + 1e-9
        at = np.array([np.log(budget) for budget in budgets if low <= np.log(budget) <= high])
        rows = [(name, budget) for name in asked for budget in self.log_budgets]
        table = self.encoder.encode(
            [features], [m for m, _ in rows], [float(np.exp(b)) for _, b in rows], [0] * len(rows)
        )
        shape = (len(asked), len(self.log_budgets))
        columns: dict[str, Any] = {
            "method": [name for name in asked for _ in at],
            "budget": [float(np.round(np.exp(b), 12)) for _ in asked for b in at],
        }
        for name, target in self.targets.items():
            # Models were shown these budgets only; in between what is kept goes by the logarithm.
            tried = target.model.predict(table).reshape(shape)
            value = np.concatenate([np.interp(at, self.log_budgets, of_method) for of_method in tried])
            half = np.tile(target.widths.at(at), len(asked))
            if name == "tau":
                whole = [bool(self._whole(method)) for method in columns["method"]]
                value = np.where(whole, np.clip(value, -1, 1), np.nan)
            columns |= {name: value, f"{name}_low": value - half, f"{name}_high": value + half}
        columns["make_cpu_s"] = [self._make_cpu_s(m, float(np.exp(features["log_rows"]))) for m in columns["method"]]
        columns["fit_share"] = np.concatenate([np.interp(at, self.log_budgets, self._fit_share(m)) for m in asked])
        return (
            pl.DataFrame(columns)
            .with_columns(pl.col("tau_low").clip(-1, 1), pl.col("tau_high").clip(-1, 1), pl.col("kept_low").clip(0))
            .fill_nan(None)
        )

    def _of(self, method: str) -> pl.DataFrame:
        return self.cells.filter(pl.col("method") == method)

    def _whole(self, method: str) -> bool:
        """Whether every model learned from what the method makes."""
        return bool(self._of(method)["n_models"].max() == self.cells["n_models"].max())

    def compared(self, method: str) -> tuple[str, ...]:
        """The models on which a method is compared with others: those on which most of its cells are."""
        return self._mostly(self._of(method))

    @property
    def compared_mostly(self) -> tuple[str, ...]:
        """The models on which most methods are compared."""
        return main_models({method: self.compared(method) for method in self.encoder.methods})

    @property
    def trained(self) -> list[str]:
        """All models that were trained on some method's data."""
        return sorted({model for text in self.cells["kept_by_model"] for model in json.loads(text)})

    def _mostly(self, cells: pl.DataFrame) -> tuple[str, ...]:
        own = [sorted(json.loads(text)) for text in cells["kept_by_model"]]
        return main_models({k: tuple(models or own[k]) for k, models in enumerate(_compared(cells))})

    def _make_cpu_s(self, method: str, rows: float) -> float:
        """Seconds that making it takes: a constant and so much a row, by least squares."""
        of_method = self._of(method).filter(pl.col("make_cpu_s").is_not_null())
        full = np.exp([self.features[fingerprint]["log_rows"] for fingerprint in of_method["fingerprint"]])
        costs, _ = nnls(np.column_stack([np.ones(len(full)), full]), of_method["make_cpu_s"].to_numpy())
        return float(costs @ [1.0, rows])

    def _fit_share(self, method: str) -> np.ndarray:
        """float64, for each budget tried: cost of training as a share of that on everything, mean over datasets."""
        share = (pl.col("fit_cpu_s") / pl.col("fit_full_cpu_s")).mean()
        by_budget = self._of(method).group_by("budget").agg(share.alias("share")).sort("budget")
        return np.interp(self.log_budgets, np.log(by_budget["budget"].to_numpy()), by_budget["share"].to_numpy())

    # -- on storage ---------------------------------------------------------------------------------------

    def save(self, uri: str, more: Mapping[str, Any] | None = None) -> None:
        """Writes it into a folder; ``genie.json``, which says that it is one, last.

        Args:
            uri: Address of the folder.
            more: to be kept beside, as the judgement on datasets left out.
        """
        uri = storage.normalise(uri)
        arrays = {f"{name}/{key}": a for name, t in self.targets.items() for key, a in t.model.arrays().items()}
        arrays |= {f"{name}/widths/{key}": a for name, t in self.targets.items() for key, a in _widths(t).items()}
        contiguous = {key: np.ascontiguousarray(array) for key, array in arrays.items()}
        contents = {WEIGHTS: safetensors.numpy.save(contiguous)}
        names = list(self.encoder.names)
        # All that was measured, also what is the same in these datasets: in others it may not be.
        rows = [{"fingerprint": key, **of} for key, of in self.features.items()]
        for file, frame in ((CELLS, self.cells), (FEATURES, pl.DataFrame(rows))):
            buffer = io.BytesIO()
            frame.write_parquet(buffer, compression="zstd")
            contents[file] = buffer.getvalue()
        # The old description goes first: a kill in between must not leave it beside new numbers.
        storage.remove(storage.join(uri, NAME))
        for file, whole in contents.items():
            storage.write_bytes(storage.join(uri, file), whole)
        content = {
            "format": FORMAT,
            "version": VERSION,
            "feature_version": FEATURE_VERSION,
            "command": RETRAIN,
            "features": names,
            "methods": list(self.encoder.methods),
            "targets": {name: {"kind": t.kind, "validation": t.validation} for name, t in self.targets.items()},
            "datasets": sorted(self.cells["dataset"].unique()),
            **(more or {}),
            "files": [recorded.record_of(file, whole).model_dump() for file, whole in contents.items()],
        }
        recorded.write_json(storage.join(uri, NAME), content)

    @classmethod
    def load(cls, uri: str) -> DataGenie:
        """Reads one.

        Raises:
            DasError: when there is none, or it was trained on features of another version.
            DamagedFileError: when a file is missing or altered.
        """
        uri = storage.normalise(uri)
        content = describe(uri)
        weights = _read_file(uri, content, WEIGHTS)
        with recorded.parsing(storage.join(uri, WEIGHTS), FIX):
            arrays = safetensors.numpy.load(weights.to_pybytes())
            targets = {}
            for name, said in content["targets"].items():
                own = {key.removeprefix(f"{name}/"): a for key, a in arrays.items() if key.startswith(f"{name}/")}
                model = make(said["kind"])
                model.set_arrays(own)
                found = Widths(own["widths/log_budgets"], own["widths/halves"])
                targets[name] = Target(said["kind"], model, found, said["validation"])
        cells, features = read_training(uri)
        encoder = Encoder(tuple(content["features"]), tuple(content["methods"]))
        return cls(encoder, targets, cells, features)


def describe(uri: str) -> dict[str, Any]:
    """What ``genie.json`` says.

    Raises:
        DasError: when there is none, or its features are of another version.
    """
    place, file = storage.redact(uri), storage.join(uri, NAME)
    try:
        raw = storage.read_bytes(file)
    except FileNotFoundError:
        raise DasError(
            f"{place} is not a Data-Genie: it has no {NAME}; `das genie train` makes one from sweeps."
        ) from None
    content, checksum = recorded.parse_json(raw, file, FIX)
    if content.get("format") != FORMAT or content.get("version") != VERSION:
        raise DamagedFileError(f"{storage.redact(file)} is damaged or of another version; {FIX}.")
    if content.get("feature_version") != FEATURE_VERSION:
        raise DasError(
            f"{place} was trained on features of version {content.get('feature_version')}, but this package measures "
            f"version {FEATURE_VERSION}; train it again: {RETRAIN}"
        )
    recorded.require_checksum(content, checksum, file, FIX)
    return content


def read_training(uri: str) -> tuple[pl.DataFrame, dict[str, dict[str, float]]]:
    """The cells that a Data-Genie was trained on, and the features of their datasets by fingerprint.

    Raises:
        DasError: as of :func:`describe`.
        DamagedFileError: when a file is missing or altered.
    """
    content = describe(uri)
    tables = []
    for file in (CELLS, FEATURES):
        raw = _read_file(uri, content, file)
        with recorded.parsing(storage.join(uri, file), FIX):
            tables.append(pl.read_parquet(raw.to_pybytes()))
    cells, features = tables
    return cells, {row.pop("fingerprint"): row for row in features.to_dicts()}


def _read_file(uri: str, content: Mapping[str, Any], name: str) -> pa.Buffer:
    """One of the files that a ``genie.json`` describes."""
    with recorded.parsing(storage.join(uri, NAME), FIX):
        record = next(one for one in map(FileRecord.model_validate, content["files"]) if one.path == name)
    return recorded.read_recorded(uri, record, FIX)


def encoder_of(cells: pl.DataFrame, features: Mapping[str, Mapping[str, float]]) -> Encoder:
    """All methods of the cells, and all features that differ between the datasets."""
    several = list(features.values())
    names = [name for name in several[0] if len({one[name] for one in several}) > 1]
    return Encoder(tuple(names), tuple(cells["method"].unique().sort()))


def target_cells(
    target: str, cells: pl.DataFrame, features: Mapping[str, Mapping[str, float]], encoder: Encoder
) -> Cells:
    """The cells that have a target.

    Of τ only those that compare all models: a ranking of fewer is easier to keep.
    """
    known = cells.filter(pl.col(target).is_not_null() & pl.col(target).is_finite())
    if target == "tau":
        known = known.filter(pl.col("n_models") == pl.col("n_models").max())
    number = {fingerprint: k for k, fingerprint in enumerate(features)}
    table = encoder.encode(
        list(features.values()),
        known["method"].to_list(),
        known["budget"].to_list(),
        [number[fingerprint] for fingerprint in known["fingerprint"]],
    )
    # Cells of an earlier version have no such column.
    taught = known.select(pl.coalesce(name for name in (f"{target}_resampled", target) if name in known.columns))
    return Cells(table, known[target].to_numpy(), families(known), taught.to_series().to_numpy())


def bounded(cells: pl.DataFrame) -> pl.DataFrame:
    """The cells with a share kept to which no model adds more than :data:`MOST_KEPT`.

    A model that hardly works on all data may do many times better on a part of them, where it is weak all the same;
    the mean over the models would be that of the one.
    """
    kept = []
    for text, models in zip(cells["kept_by_model"], _compared(cells)):
        of_model = json.loads(text)
        kept.append(float(np.mean([min(of_model[model], MOST_KEPT) for model in models or of_model])))
    return cells.with_columns(kept=pl.Series(kept, dtype=pl.Float64))


def _compared(cells: pl.DataFrame) -> list[list[str] | None]:
    """Returns the models on which each cell is compared; None: all its models, as in tables of earlier versions."""
    return cells["models"].to_list() if "models" in cells.columns else [None] * len(cells)


def families(cells: pl.DataFrame) -> np.ndarray:
    """str [n]: for each cell the log that its dataset is cut from, or the dataset itself."""
    return np.array([family(row["dataset"], row["fingerprint"]) for row in cells.iter_rows(named=True)])


def _widths(target: Target) -> dict[str, np.ndarray]:
    return {"log_budgets": target.widths.log_budgets, "halves": target.widths.halves}
