"""Trials as runs of MLflow: one for each row of trials.parquet, with its method, budget, model, seed and dataset.

A run is there from the start of its trial and is ended with it: FINISHED, FAILED, or KILLED where the time budget or an
interruption stopped it. Rows that an earlier call of the same sweep has done, with or without MLflow, are added.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Self

from distill_at_scale.data import storage
from distill_at_scale.errors import DasError
from distill_at_scale.extras import missing

if TYPE_CHECKING:
    from mlflow import MlflowClient

EXPERIMENT = "distill_at_scale"
SWEEP, SWEEP_ID, KEY = "das.sweep", "das.sweep_id", "das.trial"
"""Tags of a run: the sweep's output, a digest of it that can be searched for, and what tells its trials apart."""
_PAGE = 1000

log = logging.getLogger(__name__)


def open_runs(uri: str | None, output: str) -> MlflowRuns:
    """The runs of a sweep; where no MLflow is asked for, they are written nowhere.

    Args:
        uri: Tracking server, database or folder; None: none.
        output: The sweep's output.

    Raises:
        DasError: MLflow is not installed, or has no store at ``uri``, with its reason.
    """
    if uri is None:
        return MlflowRuns(None, "", "")
    try:
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException
    except ImportError:
        raise missing("--mlflow", "MLflow", "mlflow") from None
    try:
        client = MlflowClient(tracking_uri=uri)
        client.search_experiments(max_results=1)
    except MlflowException as error:
        reason = str(error).splitlines()[0].split(". ")[0].rstrip(".")
        raise DasError(f"--mlflow {storage.redact(uri)}: {storage.redact(reason)}.") from None
    return MlflowRuns(client, storage.redact(uri), storage.redact(output))


def params_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters by which TensorBoard and MLflow tell the trials of a sweep apart."""
    return {name: row[name] for name in ("dataset", "fingerprint", "method", "budget", "model", "seed")}


def metrics_of(row: Mapping[str, Any]) -> dict[str, float]:
    """What was measured of a trial, and what it cost: the other columns that hold a number."""
    known = params_of(row)
    return {name: value for name, value in row.items() if name not in known and isinstance(value, int | float)}


def _key(params: Mapping[str, Any]) -> str:
    return " ".join(f"{name}={value}" for name, value in sorted(params.items()))


class MlflowRuns:
    """Writes runs, within a ``with`` block. When MLflow fails, it says so once and leaves the sweep alone."""

    def __init__(self, client: MlflowClient | None, place: str, sweep: str) -> None:
        """``place`` names the store in a warning; without a ``client`` nothing is written."""
        self._client: Any = client
        self._place, self._sweep = place, sweep
        self._sweep_id = hashlib.sha256(sweep.encode()).hexdigest()[:16]
        self._on = client is not None
        self._experiment = ""
        self._running: dict[str, str] = {}
        """key of a trial -> id of its run"""
        self._finished: set[str] = set()

    def __enter__(self) -> Self:
        """Finds the sweep's earlier runs; those that a killed process left running are ended."""
        self._safely(self._find)
        return self

    def __exit__(self, *error: object) -> None:
        """Ends as KILLED what still runs: the time budget or an interruption stopped it."""
        for key in list(self._running):
            self._safely(functools.partial(self._terminate, key, "KILLED"))

    def start(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Trials run, as rows of trials.parquet; perhaps not for the first time: a worker may have died."""
        for row in rows:
            self.begin(params_of(row))

    def end(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Trials have ended, done or failed."""
        for row in rows:
            self.write(params_of(row), metrics_of(row), "FINISHED" if row["status"] == "done" else "FAILED")

    def add(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Adds trials that ended before they could run: done by an earlier call, or without a small dataset."""
        self.end([row for row in rows if _key(params_of(row)) not in self._finished])

    def begin(self, params: Mapping[str, Any]) -> None:
        """A run with these parameters, unless it is there."""
        self._safely(lambda: self._begin(params))

    def write(self, params: Mapping[str, Any], metrics: Mapping[str, float], status: str) -> None:
        """Ends a run; ``status`` is FINISHED, FAILED or KILLED."""
        self._safely(lambda: self._write(params, metrics, status))

    def _find(self) -> None:
        found = self._client.get_experiment_by_name(EXPERIMENT)
        self._experiment = self._client.create_experiment(EXPERIMENT) if found is None else found.experiment_id
        token: str | None = None
        wanted = f"tags.`{SWEEP_ID}` = '{self._sweep_id}'"
        while True:
            page = self._client.search_runs(
                [self._experiment], filter_string=wanted, max_results=_PAGE, page_token=token
            )
            for run in page:
                if run.info.status == "FINISHED":
                    self._finished.add(run.data.tags.get(KEY, ""))
                elif run.info.status == "RUNNING":
                    self._client.set_terminated(run.info.run_id, "KILLED")
            token = page.token
            if not token:
                return

    def _begin(self, params: Mapping[str, Any]) -> str:
        from mlflow.entities import Param

        key = _key(params)
        if key not in self._running:
            name = " ".join(str(params[part]) for part in ("method", "budget", "model", "seed") if part in params)
            run = self._client.create_run(
                self._experiment,
                start_time=int(1000 * time.time()),
                run_name=name or None,
                tags={SWEEP: self._sweep, SWEEP_ID: self._sweep_id, KEY: key},
            )
            self._running[key] = run.info.run_id
            self._client.log_batch(run.info.run_id, params=[Param(name, str(value)) for name, value in params.items()])
        return self._running[key]

    def _write(self, params: Mapping[str, Any], metrics: Mapping[str, float], status: str) -> None:
        from mlflow.entities import Metric

        run, now = self._begin(params), int(1000 * time.time())
        # MLflow refuses an @ in a metric's name.
        found = [Metric(name.replace("@", "_at_"), float(value), now, 0) for name, value in metrics.items()]
        if found:
            self._client.log_batch(run, metrics=found)
        self._terminate(_key(params), status)

    def _terminate(self, key: str, status: str) -> None:
        self._client.set_terminated(self._running.pop(key), status)
        if status == "FINISHED":
            self._finished.add(key)

    def _safely(self, write: Callable[[], Any]) -> None:
        if not self._on:
            return
        try:
            write()
        except Exception as error:  # of its server, its database or the network; they share no class
            self._on = False
            reason = storage.redact((str(error) or type(error).__name__).splitlines()[0])
            log.warning("MLflow at %s takes no more runs (%s); the sweep goes on without it.", self._place, reason)
