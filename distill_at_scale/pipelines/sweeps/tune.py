"""Ray Tune: runs many independent trials, in which a failure does not affect the others; and hyper-parameter searches,
whose trials Optuna proposes and ASHA stops early.

Tune schedules trials, restarts those whose workers died, enforces the time budget and logs to TensorBoard
(`mlflow_runs` to MLflow). Each trial records its own result, so Tune's state need not be restored: a resumed run
receives the remaining trials.
"""

from __future__ import annotations

import logging
import os
import time
import traceback
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import ray
from ray import tune
from ray.tune.logger import TBXLoggerCallback
from ray.tune.schedulers import ASHAScheduler

from distill_at_scale import signals
from distill_at_scale.data import hashing, storage
from distill_at_scale.errors import DasError
from distill_at_scale.extras import missing
from distill_at_scale.models.search_space import Range
from distill_at_scale.pipelines.runtime import resources, session, waiting
from distill_at_scale.pipelines.sweeps.mlflow_runs import MlflowRuns
from distill_at_scale.pipelines.sweeps.start_barrier import StartBarrier
from distill_at_scale.pipelines.sweeps.trial_events import FAILED, METRIC, ROUND, Follow, Listener, Watch, heard
from distill_at_scale.pipelines.sweeps.trial_order import InTurn
from distill_at_scale.pipelines.sweeps.trial_table import TrialTable

LIVES = 4
"""A worker that dies takes its trial along; a trial is abandoned after this number of dead workers."""
LOGS = "tensorboard"

# Number of trials that Tune takes in advance where it knows all of them.
_IN_ADVANCE = 200
# Workers that start together wait so long for each other at most.
_GATHER_S = 60.0
_POLL_S = 0.2

Resources = Mapping[str, float]
"""Resources of a trial: cpu, gpu, memory in bytes, as in Ray."""
DRIVER: Resources = {"memory": 400 << 20}
"""Resources of a trial that only waits for its own tasks: the memory of a process with this package loaded."""


def computing(gpu: bool) -> Resources:
    """Returns the resources of a trial that computes: a CPU and, if requested, a GPU that only its process sees."""
    return {"cpu": 1, "gpu": 1} if gpu else {"cpu": 1}


@dataclass(frozen=True)
class Trial:
    """One trial.

    Attributes:
        key: Unique key; also the name of its log folder.
        work: Function that returns the values to log; picklable, and safe to run twice.
        resources: Resources that it holds while it runs. Without a CPU it is a driver, whose tasks do the work.
        labels: Labels in the trial table.
        params: Hyper-parameters in TensorBoard; default: the labels.
    """

    key: str
    work: Callable[[], Mapping[str, float]]
    resources: Resources
    labels: Mapping[str, Any]
    params: Mapping[str, Any] | None = None


def run_trials(
    trials: list[Trial],
    board: TrialTable,
    on_done: Callable[[str, str], None],
    *,
    on_start: Callable[[str], None] = lambda key: None,
    output: str,
    deadline: float | None,
    after: Mapping[str, str] | None = None,
) -> None:
    """Runs trials, as many at once as the cluster's resources allow. Needs a Ray session.

    Args:
        trials: Trials, in the order in which they should start.
        board: Trial table that shows the progress.
        on_done: Called in this process with the key of each trial that ended, and the reason of its failure or "".
        on_start: Called in this process with the key of each trial that starts, also after a restart.
        output: Folder for the logs, in ``tensorboard/``.
        deadline: Time (:func:`time.time`) at which running trials are stopped; they count as not done.
        after: Key of a trial -> that of an earlier one, which it waits for.
    """
    if not trials or (deadline is not None and time.time() >= deadline):
        return
    by_key = {trial.key: trial for trial in trials}

    def held_by(config: dict[str, Any]) -> tune.PlacementGroupFactory:
        return tune.PlacementGroupFactory([_bundle(by_key[config["trial"]["key"]].resources)])

    configs = [{"trial": {**(trial.params or trial.labels), "key": key}} for key, trial in by_key.items()]
    held = max(int(trial.resources.get("cpu", 0)) for trial in trials)
    # Those that begin together do so on what is up: nodes that are still to come would keep them waiting.
    first = len(by_key) - len(after or {})
    lanes = min(first, resources.is_up().cpus // held) if held else 0
    gpus = max(int(trial.resources.get("gpu", 0)) for trial in trials)
    gate: Any = ray.remote(num_cpus=0, scheduling_strategy="DEFAULT")(StartBarrier).remote(lanes)
    trainable = tune.with_resources(tune.with_parameters(_trial, trials=by_key, gate=gate), held_by)
    listener = Follow({trial.key: trial.labels for trial in trials}, board, on_start, on_done, LIVES)
    # Of trials that a searcher gives, Tune would start one process after another.
    in_advance = {"TUNE_MAX_PENDING_TRIALS_PG": str(_IN_ADVANCE)} if after else {}
    try:
        with session.environment(in_advance):
            _fit(
                listener,
                trainable,
                {} if after else {"trial": tune.grid_search([config["trial"] for config in configs])},
                # Without a limit on those that run, since with one Tune restarts processes between trials.
                tune.TuneConfig(
                    num_samples=len(configs) if after else 1,
                    search_alg=InTurn(configs, after) if after else None,
                    time_budget_s=seconds_left(deadline),
                    reuse_actors=True,
                    trial_name_creator=lambda trial: trial.config["trial"]["key"],
                    trial_dirname_creator=lambda trial: trial.config["trial"]["key"],
                ),
                output,
                resources.Need(1, max(held, 1), gpus),
            )
    finally:
        ray.kill(gate)


@dataclass(frozen=True)
class Tried:
    """A trial of a search: its settings, the best metric it came to, and after how many rounds it ended; 0 if it failed
    before the first."""

    settings: Mapping[str, float]
    metric: float
    rounds: int


def run_search(
    learn: Callable[[dict[str, float], Callable[[float], None]], None],
    space: Mapping[str, Range],
    first: Mapping[str, float],
    board: TrialTable,
    *,
    trials: int,
    rounds: int,
    larger_is_better: bool,
    lanes: int,
    output: str,
    deadline: float | None,
    runs: MlflowRuns,
    about: Mapping[str, Any],
    seed: int,
) -> list[Tried]:
    """Searches settings: Optuna's TPE proposes them, and ASHA stops unpromising trials. Needs a Ray session.

    Args:
        learn: ``learn(settings, on_progress)`` trains with settings on one CPU and calls ``on_progress(metric)`` once
            per round; picklable.
        space: Ranges of the settings.
        first: Settings of the first trial: the defaults.
        board: Trial table that shows the progress.
        trials: Number of settings to try.
        rounds: Number of rounds of a trial that is not stopped.
        lanes: Number of concurrent trials.
        output, deadline: As for :func:`run_trials`.
        runs: MLflow runs, one for each trial.
        about: Parameters of these runs, besides the settings.
        seed: Seed of the sampled settings.

    Returns:
        Every trial that ended.

    Raises:
        DasError: Optuna is not installed.
    """
    try:
        import optuna
        from ray.tune.search.optuna import OptunaSearch
    except ImportError:
        raise missing("--search", "Optuna", "search") from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    mode = "max" if larger_is_better else "min"
    begin = hashing.stream("search/settings", seed)
    results = _fit(
        Watch(board, runs, about, rounds, deadline),
        tune.with_resources(
            tune.with_parameters(_searched, learn=learn, sign=1 if larger_is_better else -1), {"cpu": 1}
        ),
        {name: tune.loguniform(r.low, r.high) if r.log else tune.uniform(r.low, r.high) for name, r in space.items()},
        tune.TuneConfig(
            num_samples=trials,
            search_alg=OptunaSearch(points_to_evaluate=[dict(first)], seed=begin % (1 << 32)),
            scheduler=ASHAScheduler(
                time_attr=ROUND, max_t=rounds, grace_period=max(1, rounds // 9), reduction_factor=3
            ),
            metric=METRIC,
            mode=mode,
            max_concurrent_trials=lanes,
            time_budget_s=seconds_left(deadline),
            reuse_actors=True,
            trial_dirname_creator=lambda trial: trial.trial_id,
        ),
        output,
        resources.Need(1, 1),
    )
    found = []
    for told, asked in ((results[k].metrics or {}, results[k].config or {}) for k in range(len(results))):
        if ROUND in told:
            settings = {name: float(asked[name]) for name in space}
            found.append(Tried(settings, float(told[METRIC]), int(told[ROUND])))
    return found


_WORST = 1e9


def _searched(
    config: dict[str, float],
    learn: Callable[[dict[str, float], Callable[[float], None]], None],
    sign: int,
) -> None:
    """What a worker does in a search."""
    # A trial is as good as its best round; one that fails before the first round has the worst possible metric.
    best, rounds = -_WORST, 0

    def on_progress(metric: float) -> None:
        nonlocal best, rounds
        best, rounds = max(best, sign * metric), rounds + 1
        tune.report({METRIC: sign * best, ROUND: rounds, FAILED: ""})

    try:
        learn(dict(config), on_progress)
    except DasError as error:
        # For example at a learning rate at which the loss became NaN.
        tune.report({METRIC: sign * best, ROUND: rounds, FAILED: str(error)})


def _fit(
    listener: Listener,
    trainable: Any,
    param_space: dict[str, Any],
    tune_config: tune.TuneConfig,
    output: str,
    need: resources.Need,
) -> tune.ResultGrid:
    """Runs a tuner, without its notes on storage and speed, and removes its pickles: we have no need of its restore."""
    # Tune's own callbacks would write three files a trial that nobody reads.
    os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"
    os.environ.setdefault("RAY_CHDIR_TO_TRIAL_DIR", "0")
    # Its new output ignores that nothing is to be said.
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    # Interrupted, it would return as if it were done.
    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"
    logger = logging.getLogger("ray.tune")
    level = logger.level
    logger.setLevel(logging.ERROR)
    logs, name = storage.join(output, LOGS), run_name()
    try:
        # An interruption ends the trials as the time budget does, so that none keeps its resources.
        with waiting.provided(need), signals.deferred(), heard(listener) as callback:
            filesystem, path = storage.arrow_filesystem(logs)
            config = tune.RunConfig(
                name=name,
                storage_path=path,
                storage_filesystem=filesystem,
                verbose=0,
                stop=_Interrupted(),
                failure_config=tune.FailureConfig(max_failures=LIVES - 1),
                callbacks=[callback, TBXLoggerCallback()],
            )
            tuner = tune.Tuner(trainable, param_space=param_space, tune_config=tune_config, run_config=config)
            return tuner.fit()
    finally:
        logger.setLevel(level)
        for file in storage.list_files(storage.join(logs, name)):
            if file.uri.endswith(".pkl"):
                storage.remove(file.uri)


class _Interrupted(tune.Stopper):
    """Stops all trials once this process has been interrupted."""

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return signals.pending()


def run_name() -> str:
    """Returns a name for the logs of one run, which sorts by time."""
    return f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{uuid.uuid4().hex[:4]}"


def seconds_left(deadline: float | None) -> float | None:
    """Returns the seconds until ``deadline``, at least 1; None without one."""
    return None if deadline is None else max(deadline - time.time(), 1.0)


def _bundle(resources: Resources) -> dict[str, float]:
    names = {"cpu": "CPU", "gpu": "GPU"}
    return {names.get(name, name): amount for name, amount in resources.items() if amount}


_gates_passed: set[str] = set()
"""Start barriers that this process has passed."""


def _pass(gate: Any) -> None:
    """Waits at a start barrier, once per process."""
    name = gate._actor_id.hex()
    if name in _gates_passed:
        return
    _gates_passed.add(name)
    me, deadline = ray.get_runtime_context().get_worker_id(), time.monotonic() + _GATHER_S
    while not ray.get(gate.come.remote(me)) and time.monotonic() < deadline:
        time.sleep(_POLL_S)


def _trial(config: dict[str, Any], trials: Mapping[str, Trial], gate: Any) -> None:
    """Runs a trial on a worker. The trial's own failure is reported, not raised, since it would recur."""
    _pass(gate)
    try:
        found = dict(trials[config["trial"]["key"]].work())
        failed = ""
    except DasError as error:
        found, failed = {}, str(error)
    except Exception:
        found, failed = {}, traceback.format_exc()
    tune.report({**found, FAILED: failed})
