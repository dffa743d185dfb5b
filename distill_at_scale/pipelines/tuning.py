"""tuning: many trials under Ray Tune, each a function of its own description, none of which takes the others down.

Tune schedules, restarts the trials whose workers died, keeps the time budget and logs to TensorBoard (and MLflow on
request). What a trial found is written down by the trial itself, so nothing here needs to be restored: a run that goes
on is given the trials that are left.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import ray
from ray import tune
from ray.tune.logger import TBXLoggerCallback

from distill_at_scale.data import storage
from distill_at_scale.errors import DasError
from distill_at_scale.pipelines.board import Board
from distill_at_scale.pipelines.gate import Gate

# A worker that dies takes its trial along; so often it is tried again.
_RETRIES = 3
_FAILED = "failed"
LOGS = "tensorboard"

# Workers that start together wait so long for each other at most.
_GATHER_S = 60.0
_POLL_S = 0.2

Resources = Mapping[str, float]
"""of a trial: cpu, gpu, memory in bytes, as Ray has them"""


@dataclass(frozen=True)
class Trial:
    """One thing to be done.

    Attributes:
        key: tells it apart; also the name of its folder of logs.
        work: gives what is worth logging; picklable, must be safe to run twice.
        resources: that are held while it runs. Without a CPU it is a driver, whose own tasks do the work.
        labels: shown in the logs.
    """

    key: str
    work: Callable[[], Mapping[str, float]]
    resources: Resources
    labels: Mapping[str, Any]


def run_trials(
    trials: list[Trial],
    board: Board,
    on_done: Callable[[str, str], None],
    *,
    output: str,
    at_once: int | None,
    deadline: float | None,
    mlflow: str | None,
) -> None:
    """Runs trials, as many at once as the cluster has room for. Needs a Ray session.

    Args:
        trials: in the order in which they should begin.
        board: shows how far it is.
        on_done: told, in this process, the key of each trial that ended, and why it failed or "".
        output: folder for the logs, which lie in ``tensorboard/``.
        at_once: running trials at most; None: as many as their resources allow. Tune ends and starts processes between
            trials when it may not look ahead, so leave it out wherever trials hold CPUs.
        deadline: by :func:`time.time`; what runs then is stopped, and counts as not done.
        mlflow: URI of a tracking server or folder.

    Raises:
        DasError: MLflow is asked for and not installed.
    """
    if not trials or (deadline is not None and time.time() >= deadline):
        return
    # Tune's own callbacks would write three files a trial that nobody reads.
    os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"
    os.environ.setdefault("RAY_CHDIR_TO_TRIAL_DIR", "0")
    # Its new output ignores that nothing is to be said.
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    by_key = {trial.key: trial for trial in trials}
    logs = storage.join(output, LOGS)
    name = time.strftime("%Y%m%d-%H%M%S", time.gmtime())

    def resources(config: dict[str, Any]) -> tune.PlacementGroupFactory:
        return tune.PlacementGroupFactory([_bundle(by_key[config["trial"]].resources)])

    held = max(int(trial.resources.get("cpu", 0)) for trial in trials)
    lanes = min(len(trials), int(ray.cluster_resources().get("CPU", 0)) // held) if held else 0
    gate: Any = ray.remote(num_cpus=0, scheduling_strategy="DEFAULT")(Gate).remote(lanes)
    trainable = tune.with_resources(tune.with_parameters(_trial, trials=by_key, gate=gate), resources)
    tuner = tune.Tuner(
        trainable,
        param_space={"trial": tune.grid_search(list(by_key))},
        tune_config=tune.TuneConfig(
            max_concurrent_trials=at_once,
            time_budget_s=None if deadline is None else max(deadline - time.time(), 1.0),
            reuse_actors=True,
            trial_name_creator=lambda trial: trial.config["trial"],
            trial_dirname_creator=lambda trial: trial.config["trial"],
        ),
        run_config=tune.RunConfig(
            name=name,
            storage_path=logs,
            verbose=0,
            failure_config=tune.FailureConfig(max_failures=_RETRIES),
            callbacks=[_Follow(by_key, board, on_done), *_loggers(mlflow)],
        ),
    )
    try:
        with _quiet():
            tuner.fit()
    finally:
        ray.kill(gate)
        # Pickles of Tune's own, for its restore, which we have no need of.
        for kept in ("tuner.pkl", "trainable.pkl"):
            storage.remove(storage.join(logs, name, kept))


def _bundle(resources: Resources) -> dict[str, float]:
    names = {"cpu": "CPU", "gpu": "GPU"}
    return {names.get(name, name): amount for name, amount in resources.items() if amount}


_gates_passed: set[str] = set()
"""by this process"""


def _pass(gate: Any) -> None:
    """Waits at a gate, once in the life of this process."""
    name = gate._actor_id.hex()
    if name in _gates_passed:
        return
    _gates_passed.add(name)
    me, deadline = ray.get_runtime_context().get_worker_id(), time.monotonic() + _GATHER_S
    while not ray.get(gate.come.remote(me)) and time.monotonic() < deadline:
        time.sleep(_POLL_S)


def _trial(config: dict[str, Any], trials: Mapping[str, Trial], gate: Any) -> None:
    """What a worker does. A failure of the trial's own is reported, not raised: it would come again."""
    _pass(gate)
    try:
        found = dict(trials[config["trial"]].work())
        failed = ""
    except DasError as error:
        found, failed = {}, str(error)
    except Exception:
        found, failed = {}, traceback.format_exc()
    tune.report({**found, _FAILED: failed})


def _loggers(mlflow: str | None) -> list[Any]:
    if mlflow is None:
        return [TBXLoggerCallback()]
    try:
        import mlflow as _installed  # noqa: F401
    except ImportError:
        raise DasError("--mlflow needs MLflow, which is not installed: pip install mlflow.") from None
    from ray.air.integrations.mlflow import MLflowLoggerCallback

    return [TBXLoggerCallback(), MLflowLoggerCallback(tracking_uri=mlflow, experiment_name="distill_at_scale")]


@contextlib.contextmanager
def _quiet() -> Any:
    """Tune's notes about a run's storage and speed stay out of our output."""
    logger = logging.getLogger("ray.tune")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


class _Follow(tune.Callback):
    """Passes on what happens to trials."""

    def __init__(self, trials: Mapping[str, Trial], board: Board, on_done: Callable[[str, str], None]) -> None:
        self._trials, self._board, self._on_done = trials, board, on_done

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._board.begin(trial.config["trial"], self._trials[trial.config["trial"]].labels)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        found = trial.last_result or {}
        if _FAILED in found:  # one that the time budget stopped has found nothing
            self._end(trial.config["trial"], found[_FAILED], found)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._end(trial.config["trial"], f"its worker died {_RETRIES + 1} times, perhaps for want of memory", {})

    def _end(self, key: str, failed: str, found: Mapping[str, Any]) -> None:
        self._on_done(key, failed)
        self._board.end(key, failed, found)
