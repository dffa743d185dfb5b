"""MLflow runs: one for each trial of a sweep, forecast or search, with its method, budget, model, seed and dataset.

A run starts and ends with its trial: FINISHED, FAILED, or KILLED if the time budget or an interruption stopped it.
Trials of earlier calls with the same output, with or without MLflow, are added.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import logging
import os
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Self

from distill_at_scale.data import storage
from distill_at_scale.errors import DasError
from distill_at_scale.extras import missing
from distill_at_scale.genie.trials import TrialKey, TrialRow
from distill_at_scale.pipelines.runtime import session
from distill_at_scale.uris import is_local, redact_text

if TYPE_CHECKING:
    from mlflow import MlflowClient

EXPERIMENT = "distill_at_scale"
SWEEP, SWEEP_ID, KEY = "das.sweep", "das.sweep_id", "das.trial"
"""Tags of a run: the output of its sweep or search, a searchable digest of it, and the key of the trial."""
_PAGE = 1000
# By default MLflow waits for minutes for a server that is gone, which would hold up the sweep, and prints each run's
# address, with a password in it, to standard output.
_SETTINGS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}

log = logging.getLogger(__name__)


def open_runs(uri: str | None, output: str) -> MlflowRuns:
    """Opens the MLflow runs of a sweep or search; without a ``uri``, nothing is written.

    Args:
        uri: Tracking server or database; None: no MLflow.
        output: Output of the sweep or search.

    Raises:
        DasError: MLflow is not installed, or has no store at ``uri``, with its reason.
    """
    if uri is None:
        return MlflowRuns(None, "", "")
    try:
        from mlflow import MlflowClient
    except ImportError:
        raise missing("--mlflow", "MLflow", "mlflow") from None
    place = storage.redact(uri)
    try:
        with _settings():
            client = MlflowClient(tracking_uri=uri)
            client.search_experiments(max_results=1)
    except Exception as error:  # errors of server, database and network share no base class
        if is_local(uri) and not uri.startswith("databricks"):
            raise DasError(
                f"--mlflow {place} is a folder, to which MLflow does not write any more; name a database, such as "
                "sqlite:///mlflow.db, or a server."
            ) from None
        raise DasError(f"--mlflow {place}: {_reason(error)}.") from None
    return MlflowRuns(client, place, storage.redact(output))


def _settings() -> contextlib.AbstractContextManager[None]:
    """Settings of MLflow for a block; those in the environment win."""
    return session.environment({name: value for name, value in _SETTINGS.items() if name not in os.environ})


def _reason(error: Exception) -> str:
    """Returns the first sentence of an error, without credentials."""
    text = redact_text(str(error)).strip() or type(error).__name__
    return text.splitlines()[0].split(". ")[0].rstrip(".")


def _key(params: Mapping[str, Any]) -> str:
    return " ".join(f"{name}={value}" for name, value in sorted(params.items()))


class MlflowRuns:
    """Writes runs, as a context manager. A failure of MLflow is reported once and does not affect the sweep."""

    def __init__(self, client: MlflowClient | None, place: str, sweep: str) -> None:
        """``place`` names the store in a warning; without a ``client`` nothing is written."""
        self._client: Any = client
        self._place, self._sweep = place, sweep
        self._sweep_id = hashlib.sha256(sweep.encode()).hexdigest()[:16]
        self._on = client is not None
        self._experiment = ""
        self._running: dict[str, str] = {}
        """Key of a trial -> id of its run."""
        self._finished: set[str] = set()

    def __enter__(self) -> Self:
        """Finds the sweep's earlier runs, and ends those that a killed process left running."""
        self._safely(self._find)
        return self

    def __exit__(self, *error: object) -> None:
        """Ends all unfinished runs as KILLED: the time budget or an interruption stopped them."""
        for key in list(self._running):
            self._safely(functools.partial(self._terminate, key, "KILLED"))

    def start(self, trials: Iterable[TrialKey]) -> None:
        """Records that trials have started, possibly again after a worker's death."""
        for trial in trials:
            self.begin(trial.as_dict())

    def end(self, rows: Iterable[TrialRow]) -> None:
        """Records that trials have ended, done or failed."""
        for row in rows:
            self.write(row.key.as_dict(), row.figures(), "FINISHED" if row.status == "done" else "FAILED")

    def add(self, rows: Iterable[TrialRow]) -> None:
        """Adds trials that ended without running: done by an earlier call, or without a small dataset."""
        self.end([row for row in rows if not self.has(row.key.as_dict())])

    def has(self, params: Mapping[str, Any]) -> bool:
        """Returns whether a run with these parameters is FINISHED."""
        return _key(params) in self._finished

    def begin(self, params: Mapping[str, Any]) -> None:
        """Creates a run with these parameters, unless it exists."""
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
            with _settings():
                write()
        except Exception as error:  # as in open_runs
            self._on = False
            log.warning(
                "MLflow at %s takes no more runs (%s); the work goes on without it.", self._place, _reason(error)
            )
