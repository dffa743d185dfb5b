"""genie train: trains a Data-Genie on sweeps of many datasets."""

from __future__ import annotations

import time

import polars as pl
from pydantic import BaseModel

from distill_at_scale.config import GenieTrainConfig
from distill_at_scale.data import storage
from distill_at_scale.data.dataset import Dataset
from distill_at_scale.errors import DasError
from distill_at_scale.genie import model, saved
from distill_at_scale.genie.cells import cells
from distill_at_scale.genie.cross_validation import PARTS, CrossValidation, cross_validate
from distill_at_scale.genie.model import TARGETS, DataGenie
from distill_at_scale.genie.regressors import KINDS, make_regressor
from distill_at_scale.genie.trials import read_trials
from distill_at_scale.pipelines.runtime import output_folder, progress, run_record
from distill_at_scale.pipelines.runtime.verb import verb
from distill_at_scale.pipelines.sweeps.dataset_features import features


class GenieResult(BaseModel):
    """A trained Data-Genie."""

    uri: str
    datasets: int
    cells: int
    methods: list[str]
    budgets: list[float]
    kinds: dict[str, str]
    """Target -> kind of regressor, selected by its regret on held-out datasets."""
    validation: dict[str, dict[str, dict[str, float]]]
    """Target -> kind -> regret and mean squared error on held-out datasets."""
    judgements: list[CrossValidation]
    """Results on datasets held out in turn, if requested."""
    bytes: int
    wall_s: float
    cpu_s: float


@verb(GenieTrainConfig, "sweeps")
def genie_train(config: GenieTrainConfig) -> GenieResult:
    """Trains a Data-Genie; see :class:`~distill_at_scale.config.GenieTrainConfig` for the settings.

    Raises:
        DasError: A sweep or its dataset is missing, a dataset has changed, or there are too few datasets.
        OutputExistsError: The output exists.
    """
    started, cpu = time.monotonic(), time.process_time()
    output = storage.normalise(config.output)
    if storage.exists(storage.join(output, saved.NAME)) and not config.overwrite:
        raise output_folder.holds_already(output, "a Data-Genie")
    storage.check_writable(storage.join(output, saved.NAME))
    kinds = config.kinds or list(KINDS)
    for kind in kinds:
        make_regressor(kind)  # refuses unknown kinds before the sweeps are read
    known: list[pl.DataFrame] = []
    measured: dict[str, dict[str, float]] = {}
    for uri in config.sweeps:
        found, of = _training(storage.normalise(uri), config.address)
        # A dataset that occurs in several sources, such as an earlier training, counts once.
        known.append(found.filter(~pl.col("fingerprint").is_in(list(measured))))
        measured |= of
    every = pl.concat(known, how="diagonal")
    genie = DataGenie.fit(every, measured, kinds)
    judgements = _judge(genie, kinds) if config.judge else []
    more = {"judgements": [one.model_dump(mode="json") for one in judgements], "versions": run_record.versions()}
    genie.save(output, more)
    return GenieResult(
        uri=output,
        datasets=len(measured),
        cells=every.height,
        methods=list(genie.encoder.methods),
        budgets=sorted(every["budget"].unique()),
        kinds={name: target.kind for name, target in genie.targets.items()},
        validation={name: target.validation for name, target in genie.targets.items()},
        judgements=judgements,
        bytes=sum(file.size for file in storage.list_files(output)),
        wall_s=round(time.monotonic() - started, 1),
        cpu_s=round(time.process_time() - cpu, 1),
    )


def _training(uri: str, address: str | None) -> tuple[pl.DataFrame, dict[str, dict[str, float]]]:
    """Returns the cells of a sweep or the training cells of a Data-Genie, and features by fingerprint."""
    if storage.exists(storage.join(uri, saved.NAME)):
        saved.describe(uri)
        return saved.read_training(uri)
    described, trials = read_trials(uri)
    of = described.data
    dataset = Dataset.open(of.uri)
    if dataset.manifest.fingerprint != of.fingerprint:
        raise DasError(
            f"{storage.redact(uri)} is a sweep of a dataset that has changed since ({of.uri}); sweep it again."
        )
    return cells(trials), {of.fingerprint: features(dataset, address)}


def _judge(genie: DataGenie, kinds: list[str]) -> list[CrossValidation]:
    """Cross-validates over families of datasets, on cells that are compared on the same models."""
    found = []
    known = genie.cells
    compared = pl.col("n_models") == known["n_models"].max()
    if "common" in known.columns:  # not of earlier versions
        compared = pl.coalesce("common", compared)
    for target in TARGETS:
        given = model.target_cells(target, known.filter(compared), genie.features, genie.encoder)

        def on_progress(done: int, target: str = target) -> None:
            progress.say(f"cross-validation of {target}: {done}/{PARTS}")

        found.append(
            cross_validate(
                target, given.table, given.y, given.families, kinds, on_progress=on_progress, fit_y=given.fit_y
            )
        )
    return found
