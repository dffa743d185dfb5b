"""Data-Genie: predicts how much quality each method keeps at each budget, without running any of them.

Source: Sachdeva, Wu, McAuley, "On Sampling Collaborative Filtering Datasets" (WSDM 2022), section 5. Trained on the
cells of sweeps over many datasets; predicts Kendall's τ between rankings of models, and the share of ndcg@10 that is
kept.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import safetensors.numpy

from distill_at_scale.data import recorded, storage
from distill_at_scale.errors import DasError
from distill_at_scale.genie.common import main_models
from distill_at_scale.genie.conformal import Widths, widths
from distill_at_scale.genie.corpus import family
from distill_at_scale.genie.features import FEATURE_VERSION
from distill_at_scale.genie.neighbours import Neighbours
from distill_at_scale.genie.regressors import KINDS, Regressor, make_regressor, select_regressor
from distill_at_scale.genie.ridge import nonnegative_line
from distill_at_scale.genie.saved import (
    CELLS,
    FEATURES,
    FIX,
    FORMAT,
    NAME,
    RETRAIN,
    VERSION,
    WEIGHTS,
    describe,
    read_file,
    read_training,
)
from distill_at_scale.genie.table import Encoder, Table

TARGETS = ("tau", "kept")
BUDGETS = (0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95)
"""Budgets for which predictions are made, from the smallest training budget on."""
MOST_KEPT = 1.2
_FEWEST_FAMILIES = 3


@dataclass
class Target:
    """The trained regressor of one target.

    Attributes:
        kind: Kind of the regressor.
        model: Regressor trained on all cells.
        widths: Half-widths of its 90 % intervals.
        validation: Regret and mean squared error of every kind on held-out datasets.
    """

    kind: str
    model: Regressor
    widths: Widths
    validation: dict[str, dict[str, float]]


@dataclass
class Cells:
    """Cells with a known target, as arrays.

    Attributes:
        table: Columns of the cells.
        y: float64 [n], the target.
        families: [n], families of the datasets.
        fit_y: float64 [n], the target used in training: for τ its mean over resampled users where that is known, a
            less noisy estimate of the same quantity.
    """

    table: Table
    y: np.ndarray
    families: np.ndarray
    fit_y: np.ndarray


class DataGenie:
    """A trained Data-Genie.

    Attributes:
        encoder: Encoder of features, method and budget.
        targets: Trained targets by name; see :data:`TARGETS`.
        log_budgets: float64, logarithms of the training budgets, ascending.
        cells: Training cells; see :func:`distill_at_scale.genie.cells.cells`.
        features: Fingerprint of each training dataset -> its features.
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
            features: Fingerprint of every dataset of ``cells`` -> its features.
            kinds: Kinds of regressors to select from; each target selects by the regret on held-out datasets.

        Raises:
            DasError: There are too few families of datasets to hold any out.
        """
        cells = bounded(cells)
        known = {fingerprint: dict(features[fingerprint]) for fingerprint in cells["fingerprint"].unique().sort()}
        if len(np.unique(families(cells))) < _FEWEST_FAMILIES:
            raise DasError(
                f"Data-Genie needs sweeps of at least {_FEWEST_FAMILIES} datasets that are not subsets of one another; "
                "give it more --sweeps."
            )
        encoder = encoder_of(cells, known)
        targets = {}
        for name in TARGETS:
            given = target_cells(name, cells, known, encoder)
            chosen = select_regressor(given.table, given.y, given.families, kinds, given.fit_y)
            model = make_regressor(chosen.name)
            model.fit(given.table, given.fit_y)
            residual = given.y - chosen.out_of_fold
            found = widths(residual, given.table.log_budget, given.families)
            targets[name] = Target(chosen.name, model, found, chosen.validation)
        return cls(encoder, targets, cells, known)

    def predict(
        self, features: Mapping[str, float], methods: Sequence[str] | None = None, budgets: Sequence[float] = BUDGETS
    ) -> pl.DataFrame:
        """Predicts how much quality small datasets of a dataset keep.

        Args:
            features: Features of the dataset.
            methods: Methods; default: all methods of the training cells.
            budgets: Budgets below 1; those below the smallest training budget are left out. Above the largest,
                predictions are interpolated to what is known of all data: everything is kept.

        Returns:
            One row for each method and budget: ``method``, ``budget``; ``tau``, ``kept``, each with ``_low`` and
            ``_high`` of a 90 % interval; ``make_cpu_s``, CPU-seconds of making the small dataset; ``fit_share``, the
            cost of training on it as a share of the cost on all data. ``tau`` is null for methods whose small
            datasets some models cannot be trained on.
        """
        asked = [name for name in self.encoder.methods if methods is None or name in methods]
        at = np.array([np.log(budget) for budget in budgets if self.log_budgets[0] - 1e-9 <= np.log(budget)])
        # Everything keeps everything, whatever the method.
        known = np.append(self.log_budgets, 0.0)
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
            # The regressors know only the training budgets; between them, values are interpolated in log(budget).
            tried = target.model.predict(table).reshape(shape)
            value = np.concatenate([np.interp(at, known, np.append(of_method, 1.0)) for of_method in tried])
            halves = np.append(target.widths.at(self.log_budgets), 0.0)
            half = np.tile(np.interp(at, known, halves), len(asked))
            if name == "tau":
                whole = [bool(self._whole(method)) for method in columns["method"]]
                value = np.where(whole, np.clip(value, -1, 1), np.nan)
            columns |= {name: value, f"{name}_low": value - half, f"{name}_high": value + half}
        make_cpu_s = {method: self._make_cpu_s(method, float(np.exp(features["log_rows"]))) for method in asked}
        columns["make_cpu_s"] = [make_cpu_s[method] for method in columns["method"]]
        columns["fit_share"] = np.concatenate([np.interp(at, known, np.append(self._fit_share(m), 1.0)) for m in asked])
        return (
            pl.DataFrame(columns)
            .with_columns(pl.col("tau_low").clip(-1, 1), pl.col("tau_high").clip(-1, 1), pl.col("kept_low").clip(0))
            .fill_nan(None)
        )

    def _of(self, method: str) -> pl.DataFrame:
        return self.cells.filter(pl.col("method") == method)

    def _whole(self, method: str) -> bool:
        """Returns whether every model was trained on the method's small datasets."""
        return bool(self._of(method)["n_models"].max() == self.cells["n_models"].max())

    def compared(self, method: str) -> tuple[str, ...]:
        """Returns the models on which a method is compared with others: those on which most of its cells are."""
        return self._mostly(self._of(method))

    @property
    def compared_mostly(self) -> tuple[str, ...]:
        """Models on which most methods are compared."""
        return main_models({method: self.compared(method) for method in self.encoder.methods})

    @property
    def trained(self) -> list[str]:
        """Names of all models that were trained on some method's small datasets."""
        return sorted({model for text in self.cells["kept_by_model"] for model in json.loads(text)})

    def _mostly(self, cells: pl.DataFrame) -> tuple[str, ...]:
        own = [sorted(json.loads(text)) for text in cells["kept_by_model"]]
        return main_models({k: tuple(models or own[k]) for k, models in enumerate(_compared(cells))})

    def _make_cpu_s(self, method: str, rows: float) -> float:
        """Returns the CPU-seconds of making a small dataset: a constant plus a cost per row, neither negative."""
        of_method = self._of(method).filter(pl.col("make_cpu_s").is_not_null())
        full = np.exp([self.features[fingerprint]["log_rows"] for fingerprint in of_method["fingerprint"]])
        constant, of_row = nonnegative_line(full, of_method["make_cpu_s"].to_numpy())
        return constant + of_row * rows

    def _fit_share(self, method: str) -> np.ndarray:
        """Returns the cost of training as a share of that on all data at each training budget, float64, mean over
        datasets."""
        share = (pl.col("fit_cpu_s") / pl.col("fit_full_cpu_s")).mean()
        by_budget = self._of(method).group_by("budget").agg(share.alias("share")).sort("budget")
        return np.interp(self.log_budgets, np.log(by_budget["budget"].to_numpy()), by_budget["share"].to_numpy())

    # -- on storage ---------------------------------------------------------------------------------------

    def save(self, uri: str, more: Mapping[str, Any] | None = None) -> None:
        """Writes a folder; ``genie.json`` is written last and marks it as complete.

        Args:
            uri: Address of the folder.
            more: Further content of ``genie.json``, such as the results of cross-validation.
        """
        uri = storage.normalise(uri)
        arrays = {f"{name}/{key}": a for name, t in self.targets.items() for key, a in t.model.arrays().items()}
        arrays |= {f"{name}/widths/{key}": a for name, t in self.targets.items() for key, a in _widths(t).items()}
        contiguous = {key: np.ascontiguousarray(array) for key, array in arrays.items()}
        contents = {WEIGHTS: safetensors.numpy.save(contiguous)}
        names = list(self.encoder.names)
        # All features are saved, even those that are equal in these datasets: a later training may add others.
        rows = [{"fingerprint": key, **of} for key, of in self.features.items()]
        for file, frame in ((CELLS, self.cells), (FEATURES, pl.DataFrame(rows))):
            buffer = io.BytesIO()
            frame.write_parquet(buffer, compression="zstd")
            contents[file] = buffer.getvalue()
        # The old description is removed first: a killed run must not leave it beside new weights.
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
        """Reads a saved Data-Genie.

        Raises:
            DasError: ``uri`` holds none, or it was trained on features of another version.
            DamagedFileError: A file is missing or damaged.
        """
        uri = storage.normalise(uri)
        content = describe(uri)
        weights = read_file(uri, content, WEIGHTS)
        with recorded.parsing(storage.join(uri, WEIGHTS), FIX):
            arrays = safetensors.numpy.load(weights.to_pybytes())
            targets = {}
            for name, said in content.targets.items():
                own = {key.removeprefix(f"{name}/"): a for key, a in arrays.items() if key.startswith(f"{name}/")}
                model = make_regressor(said.kind)
                model.set_arrays(own)
                found = Widths(own["widths/log_budgets"], own["widths/halves"])
                targets[name] = Target(said.kind, model, found, dict(said.validation))
        cells, features = read_training(uri)
        encoder = Encoder(content.features, content.methods)
        return cls(encoder, targets, cells, features)


def encoder_of(cells: pl.DataFrame, features: Mapping[str, Mapping[str, float]]) -> Encoder:
    """Returns an encoder of all methods of the cells and all features that differ between the datasets."""
    several = list(features.values())
    names = [name for name in several[0] if len({one[name] for one in several}) > 1]
    return Encoder(tuple(names), tuple(cells["method"].unique().sort()))


def target_cells(
    target: str, cells: pl.DataFrame, features: Mapping[str, Mapping[str, float]], encoder: Encoder
) -> Cells:
    """Returns the cells with a known target.

    For τ, only cells that compare all models: a ranking of fewer models is easier to keep.
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
    # Cells of earlier versions lack the column of resampled values.
    fit_y = known.select(pl.coalesce(name for name in (f"{target}_resampled", target) if name in known.columns))
    return Cells(table, known[target].to_numpy(), families(known), fit_y.to_series().to_numpy())


def bounded(cells: pl.DataFrame) -> pl.DataFrame:
    """Returns the cells with ``kept`` recomputed after clipping each model's share at :data:`MOST_KEPT`.

    A model that performs poorly on all data may perform many times better on a subset and still be weak; without the
    clip it would dominate the mean over models.
    """
    kept = []
    for text, models in zip(cells["kept_by_model"], _compared(cells)):
        of_model = json.loads(text)
        kept.append(float(np.mean([min(of_model[model], MOST_KEPT) for model in models or of_model])))
    return cells.with_columns(kept=pl.Series(kept, dtype=pl.Float64))


def _compared(cells: pl.DataFrame) -> list[list[str] | None]:
    """Returns the models on which each cell is compared; None: all its models (tables of earlier versions)."""
    return cells["models"].to_list() if "models" in cells.columns else [None] * len(cells)


def families(cells: pl.DataFrame) -> np.ndarray:
    """Returns the family of each cell's dataset, str [n]; see :func:`~distill_at_scale.genie.corpus.family`."""
    return np.array([family(row["dataset"], row["fingerprint"]) for row in cells.iter_rows(named=True)])


def _widths(target: Target) -> dict[str, np.ndarray]:
    return {"log_budgets": target.widths.log_budgets, "halves": target.widths.halves}
