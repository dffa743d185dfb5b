"""The meta-dataset for training Data-Genie: many small datasets, swept with the same methods, budgets and models.

    logs/<name>.parquet ─► data/<name> (prepare) ─► sweeps/<name> (sweep) ─► trials.parquet of all

Datasets are processed one after another. An interrupted run, or one whose time budget was used up, resumes where it
stopped.
"""

from __future__ import annotations

import functools
import io
import time
from collections.abc import Sequence

import polars as pl

from distill_at_scale.data import storage
from distill_at_scale.data.dataset import Dataset
from distill_at_scale.data.manifest import NAME as MANIFEST
from distill_at_scale.errors import DasError, SettingError
from distill_at_scale.genie import log_subsets
from distill_at_scale.genie.corpus import SOURCES, Entry, corpus
from distill_at_scale.genie.trials import TRIALS, read_trials
from distill_at_scale.pipelines.prepare import prepare
from distill_at_scale.pipelines.runtime import progress, session
from distill_at_scale.pipelines.sweep import sweep

METHODS = (
    "random",
    "stratified",
    "temporal",
    "random_users",
    "head_users",
    "centrality",
    "random_walk",
    "forest_fire",
    "density",
    "sensitivity",
    "sensitivity_users",
    "svp_bias_users",
)
"""Default samplers: at least one of each family, and only those that take seconds."""
BUDGETS = (0.02, 0.1, 0.3, 0.6, 0.9)
MODELS = ("popularity", "ease", "svd_ae", "infinite_ae")
SEEDS = 1
_MIN_ROWS = 3


def meta_dataset(
    logs: str | None,
    output: str,
    names: Sequence[str] | None = None,
    methods: Sequence[str] = METHODS,
    budgets: Sequence[float] = BUDGETS,
    models: Sequence[str] = MODELS,
    seeds: int = SEEDS,
    time_budget_s: float | None = None,
    address: str | None = None,
) -> pl.DataFrame:
    """Sweeps every dataset of the corpus and gathers the trials in ``<output>/trials.parquet``.

    Args:
        logs, output, names: As for :func:`prepare_corpus`.
        methods, budgets, models, seeds: Settings of every sweep; methods that need timestamps are left out for logs
            without them.
        time_budget_s: No dataset is started after this time; the same call resumes later.
        address: Address of a Ray cluster (default: the current session, else this machine).

    Returns:
        All trials that ended, including those of earlier calls.

    Raises:
        SettingError: A dataset, method or model is unknown.
        DasError: No dataset has been swept.
    """
    started = time.monotonic()
    output = storage.normalise(output)
    storage.check_writable(storage.join(output, TRIALS))
    sweeps = []
    with session.ensure(address):
        for entry in _chosen(names):
            uri = storage.join(output, "sweeps", entry.name)
            if time_budget_s is not None and time.monotonic() - started > time_budget_s:
                if storage.exists(storage.join(uri, TRIALS)):
                    sweeps.append(uri)
                continue
            dataset = _dataset(entry, logs, output)
            if dataset is None:
                continue
            begun = time.monotonic()
            result = sweep(
                data=dataset.uri,
                methods=list(methods),
                budgets=[str(budget) for budget in budgets],
                models=list(models),
                seeds=seeds,
                output=uri,
            )
            sweeps.append(uri)
            spent = time.monotonic() - begun
            progress.say(f"{entry.name}: {result.done} trials, {result.failed} failed, {spent:.0f} s")
            _gather(sweeps, output)
    return _gather(sweeps, output)


def _gather(sweeps: Sequence[str], output: str) -> pl.DataFrame:
    if not sweeps:
        raise DasError("no dataset has been swept; pass the folder of the logs, or a larger time budget.")
    trials = pl.concat([read_trials(uri)[1] for uri in sweeps])
    buffer = io.BytesIO()
    trials.write_parquet(buffer, compression="zstd")
    storage.write_bytes(storage.join(output, TRIALS), buffer.getvalue())
    return trials


def prepare_corpus(logs: str | None, output: str, names: Sequence[str] | None = None) -> list[Dataset]:
    """Makes the logs of the corpus and prepares them; returns their datasets in the order of the corpus.

    Args:
        logs: Folder of the real logs; subsets of missing logs are left out, with None all of them.
        output: Folder or storage URI for all results.
        names: Names of logs of the corpus; default: all.

    Raises:
        SettingError: A name is unknown.
    """
    entries = _chosen(names)
    output = storage.normalise(output)
    with session.ensure():
        return [made for entry in entries if (made := _dataset(entry, logs, output)) is not None]


def _chosen(names: Sequence[str] | None) -> list[Entry]:
    entries = corpus()
    known = [entry.name for entry in entries]
    unknown = [name for name in names or () if name not in known]
    if unknown:
        raise SettingError(f"unknown dataset '{unknown[0]}'; the corpus has {', '.join(sorted(known))}.")
    return [entry for entry in entries if names is None or entry.name in names]


def _dataset(entry: Entry, logs: str | None, output: str) -> Dataset | None:
    uri = storage.join(output, "data", entry.name)
    if storage.exists(storage.join(uri, MANIFEST)):
        return Dataset.open(uri)
    settings = {}
    if entry.source is None:
        log = entry.make()
    else:
        # Rows of a dataset: their times may be places in a sequence, which no unit makes a date of our days.
        settings["time_unit"] = "ms"
        source = _source(entry.source, logs, output)
        if source is None:
            return None
        log = entry.make(source)
    place = storage.join(output, "logs", f"{entry.name}.parquet")
    with storage.open_output(place) as file:
        log.write_parquet(file)
    return prepare(input=[place], output=uri, split=entry.split, min_user=_MIN_ROWS, shards=1, **settings)


@functools.lru_cache(maxsize=1)
def _source(name: str, logs: str | None, output: str) -> pl.DataFrame | None:
    """Reads a whole real log, prepared first, so that it may have any format that prepare knows."""
    uri = storage.join(output, "sources", name)
    if not storage.exists(storage.join(uri, MANIFEST)):
        source = SOURCES[name]
        file = storage.join(logs, source.file) if logs else None
        if file is None or not storage.exists(file):
            return None
        columns = {"columns": list(source.columns)} if source.columns else {}
        prepare(input=[file], output=uri, split="20_percent_hist", shards=1, **columns)
    return log_subsets.read_log(Dataset.open(uri))
