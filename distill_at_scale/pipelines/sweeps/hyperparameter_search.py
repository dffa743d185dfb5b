"""searching: good settings of a model or distiller for a dataset, found on its validation rows.

What a sweep compares are then methods and models at their best, not at the defaults of other data. Each search is one
run of Ray Tune (:func:`~distill_at_scale.pipelines.sweeps.tune.run_search`); what it found is written down, and a sweep
that goes on searches nothing twice.
"""

from __future__ import annotations

import functools
import hashlib
import json
import time
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict

from distill_at_scale.data import recorded, storage
from distill_at_scale.data.dataset import Dataset
from distill_at_scale.data.preparation import restartable
from distill_at_scale.distillation.distiller import Distiller, Loop
from distill_at_scale.models import find_model
from distill_at_scale.models.search_space import search_space
from distill_at_scale.pipelines.runtime import resources
from distill_at_scale.pipelines.sweeps.evaluations import EvaluationTask, fits_beside_others
from distill_at_scale.pipelines.sweeps.mlflow_runs import MlflowRuns
from distill_at_scale.pipelines.sweeps.trial_table import TrialTable
from distill_at_scale.pipelines.sweeps.tune import Tried, run_search
from distill_at_scale.registry import DISTILLERS, EVERYTHING, MODELS, file_name

RECORDS = "searched"
"""Folder of a sweep: what each search found."""


class Searched(BaseModel):
    """Result of a search."""

    model_config = ConfigDict(frozen=True)

    owner: str
    """Name of the model or distiller."""
    key: str
    """Digest of everything on which the search depends."""
    metric: str
    chosen: dict[str, float]
    """Best settings."""
    best: float
    """Validation metric of the best settings."""
    default: float | None
    """Validation metric of the defaults; None if their trial did not finish a round."""
    trials: list[Tried]


def searchable(owner: str) -> bool:
    """Returns whether a search applies: to models trained by gradients, and distillers with searchable settings."""
    table = EVERYTHING.find(owner)
    if table is DISTILLERS:
        return bool(DISTILLERS[owner].create({}).searched())
    return table is MODELS and find_model(owner).by_gradients


def search(
    owner: str,
    data: Dataset,
    settings: Mapping[str, Any],
    *,
    budget: float,
    trials: int,
    output: str,
    deadline: float | None,
    runs: MlflowRuns,
) -> Searched | None:
    """Searches the best settings of ``owner`` on a dataset; None if no trial finished in time. Needs a Ray session.

    Args:
        settings: Given settings, which are not searched.
        budget: Budget of a distiller, as a share of the users.
        trials: Number of settings to try, the defaults first.
        output: Folder of the sweep.
        deadline: As for :func:`~distill_at_scale.pipelines.sweeps.tune.run_trials`.
        runs: MLflow runs.

    Raises:
        DasError: Optuna is not installed, or a setting does not exist.
    """
    fixed = dict(settings)
    table = EVERYTHING.find(owner)
    users = (DISTILLERS[owner] if table is DISTILLERS else Distiller).number(budget, data.n_users)
    distiller = _distiller(owner, fixed, users) if table is DISTILLERS else None
    config = find_model(owner).parse_config(fixed) if distiller is None else distiller.config
    known = config.model_dump() if distiller is None else distiller.searched()
    first = {name: float(value) for name, value in known.items() if isinstance(value, int | float)}
    space = {name: range_ for name, range_ in search_space(first).items() if name not in settings}
    content = [
        owner,
        data.manifest.fingerprint,
        fixed,
        users,
        trials,
        {name: vars(range_) for name, range_ in space.items()},
    ]
    key = hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:16]
    place = storage.join(output, RECORDS, f"{file_name(owner)}.json")
    if (found_before := restartable.read_record(place)) is not None:
        before = Searched.model_validate(found_before)
        if before.key == key:
            return before
    lanes = resources.cpus()
    if distiller is None:
        pair = EvaluationTask.of(data.uri, data.manifest.fingerprint, data, owner, output, "validation", settings=fixed)
        beside = fits_beside_others(pair)
    else:
        beside = resources.has_room_beside_others(distiller.memory(data, 1))
    board = TrialTable(f"search settings of {owner}", trials, best_by="validation")
    with board.shown():
        found = run_search(
            functools.partial(_learn, owner, data.uri, fixed, users),
            space,
            {name: first[name] for name in space},
            board,
            trials=trials,
            rounds=int(config.epochs) if distiller is None else distiller.rounds(),
            larger_is_better=config.metric != "mse",
            lanes=max(1, min(lanes, trials)) if beside else 1,
            output=output,
            deadline=deadline,
            runs=runs,
            about={"search": owner, "dataset": data.uri.rsplit("/", 1)[-1], "fingerprint": data.manifest.fingerprint},
            seed=0,
        )
    if not any(tried.rounds for tried in found):
        return None
    sign = -1 if config.metric == "mse" else 1
    best = max((tried for tried in found if tried.rounds), key=lambda tried: sign * tried.metric)
    result = Searched(
        owner=owner,
        key=key,
        metric=config.metric,
        chosen=dict(best.settings),
        best=best.metric,
        default=_at(found, first),
        trials=found,
    )
    if deadline is None or time.time() < deadline:
        # A search that the time budget stopped is repeated as a whole by the next run.
        recorded.write_json(place, result.model_dump(mode="json"))
    return result


def _at(found: list[Tried], settings: Mapping[str, float]) -> float | None:
    return next(
        (t.metric for t in found if t.rounds and all(t.settings[name] == settings[name] for name in t.settings)), None
    )


def _distiller(owner: str, settings: Mapping[str, Any], users: int) -> Distiller:
    """Creates the distiller with settings and size; errors are those of `distill`."""
    kind: type[Distiller] = DISTILLERS[owner]
    return kind.create({**kind.for_workers(1), **settings, kind.size(): users}, owner)


def _learn(
    owner: str,
    uri: str,
    fixed: Mapping[str, Any],
    users: int,
    settings: Mapping[str, float],
    on_progress: Callable[[float], None],
) -> None:
    """Runs one trial: trains in this process, and reports the validation metric of every round."""
    from distill_at_scale.models import create_model
    from distill_at_scale.models.device import resolve_device
    from distill_at_scale.models.training.sources import model_source
    from distill_at_scale.models.training.torch_model import TorchRecommender
    from distill_at_scale.models.training.trainer import Trainer

    resources.use_threads(1)
    learner: Loop
    if EVERYTHING.find(owner) is DISTILLERS:
        learner = _distiller(owner, {**fixed, **settings}, users).trial(Dataset.open(uri))
    else:
        model = create_model(owner, {**fixed, **settings})
        assert isinstance(model, TorchRecommender)
        source = model_source(model, Dataset.open(uri))
        learner = Trainer(model, source, resolve_device(model.config.device))
    told = 0

    def follow() -> None:
        nonlocal told
        for point in learner.points[told:]:
            on_progress(point.metric)
        told = len(learner.points)

    learner.run(after_step=follow)
