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
from distill_at_scale.models import MODELS, find_model
from distill_at_scale.models.search_space import search_space
from distill_at_scale.pipelines.runtime import resources
from distill_at_scale.pipelines.sweeps.evaluations import EvaluationTask, fits_beside_others
from distill_at_scale.pipelines.sweeps.trial_table import TrialTable
from distill_at_scale.pipelines.sweeps.tune import Tried, run_search
from distill_at_scale.registry import file_name

RECORDS = "searched"
"""folder of a sweep: what each search found"""
_DISTILLER = "distill_cf"


class Searched(BaseModel):
    """What a search found."""

    model_config = ConfigDict(frozen=True)

    owner: str
    """the model or distiller"""
    key: str
    """of everything that the search depends on"""
    metric: str
    chosen: dict[str, float]
    """the best settings"""
    best: float
    """validation metric at them"""
    default: float | None
    """validation metric at the defaults; None where they did not come to one"""
    trials: list[dict[str, Any]]
    """settings, best metric and rounds of each trial"""


def searchable(owner: str) -> bool:
    """Whether there is anything to search: a model trained by gradients, or Distill-CF."""
    return owner == _DISTILLER or (owner in MODELS and find_model(owner).by_gradients)


def search(
    owner: str,
    data: Dataset,
    settings: Mapping[str, Any],
    *,
    users: int,
    trials: int,
    output: str,
    deadline: float | None,
    mlflow: str | None,
) -> Searched | None:
    """The best settings of ``owner`` on a dataset; None when the time did not suffice for one. Needs a Ray session.

    Args:
        settings: that are given, and not searched.
        users: synthetic ones, of a distiller.
        trials: settings that are tried, the defaults first.
        output: folder of the sweep.
        deadline, mlflow: as of :func:`~distill_at_scale.pipelines.sweeps.tune.run_trials`.

    Raises:
        DasError: Optuna is not installed; a setting that does not exist.
    """
    fixed = dict(settings)
    config = _config(owner, fixed, users)
    known = {"learning_rate": config.rate, "hide": config.hidden} if owner == _DISTILLER else config.model_dump()
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
    lanes = sum(cpus for cpus, _ in resources.nodes())
    if owner == _DISTILLER:
        from distill_at_scale.pipelines.distilling.rows import bytes_needed

        beside = resources.has_room_beside_others(bytes_needed(config, data, 1))
    else:
        pair = EvaluationTask.of(data.uri, data.manifest.fingerprint, data, owner, output, "validation", settings=fixed)
        beside = fits_beside_others(pair)
    board = TrialTable(f"search settings of {owner}", trials, best_by="validation")
    with board.shown():
        found = run_search(
            functools.partial(_learn, owner, data.uri, fixed, users),
            space,
            {name: first[name] for name in space},
            board,
            trials=trials,
            rounds=_rounds(owner, config),
            larger_is_better=config.metric != "mse",
            lanes=max(1, min(lanes, trials)) if beside else 1,
            output=output,
            deadline=deadline,
            mlflow=mlflow,
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
        trials=[{"settings": dict(t.settings), "metric": t.metric, "rounds": t.rounds} for t in found],
    )
    if deadline is None or time.time() < deadline:
        # One that the time budget stopped is done again, whole, by the next run.
        recorded.write_json(place, result.model_dump(mode="json"))
    return result


def _at(found: list[Tried], settings: Mapping[str, float]) -> float | None:
    return next(
        (t.metric for t in found if t.rounds and all(t.settings[name] == settings[name] for name in t.settings)), None
    )


def _config(owner: str, settings: Mapping[str, Any], users: int) -> Any:
    """Of a model, or of a distillation into ``users``; what is wrong is said as `fit` and `distill` say it."""
    if owner != _DISTILLER:
        return find_model(owner).parse_config(settings)
    from distill_at_scale.config import DistillConfig
    from distill_at_scale.pipelines.distill import method_config

    asked = {"data": "-", "output": "-", "users": users, "set": dict(settings)}
    return method_config(DistillConfig.model_validate(asked))


def _rounds(owner: str, config: Any) -> int:
    """Validations of a trial that is not stopped: after each epoch, or of a distiller at the start and on the way."""
    if owner != _DISTILLER:
        return int(config.epochs)
    from distill_at_scale.distillation.distill_cf import default_steps

    return 1 + -(-(config.steps or default_steps(config.users)) // config.validate_every)


def _learn(
    owner: str,
    uri: str,
    fixed: Mapping[str, Any],
    users: int,
    settings: Mapping[str, float],
    on_progress: Callable[[float], None],
) -> None:
    """One trial: trains in this process, and tells the validation metric of every round."""
    from distill_at_scale.distillation.distill_cf import DistillCF
    from distill_at_scale.distillation.users import RealUsers
    from distill_at_scale.models import create_model
    from distill_at_scale.models.device import resolve_device
    from distill_at_scale.models.training.sources import ShardSource
    from distill_at_scale.models.training.torch_model import TorchRecommender
    from distill_at_scale.models.training.trainer import Trainer

    resources.use_threads(1)
    source = ShardSource(Dataset.open(uri))
    learner: Trainer | DistillCF
    if owner == _DISTILLER:
        config = _config(owner, {**fixed, **settings}, users)
        learner = DistillCF(config, RealUsers(source, seed=config.seed, judged=config.validation_users))
    else:
        model = create_model(owner, {**fixed, **settings})
        assert isinstance(model, TorchRecommender)
        learner = Trainer(model, source, resolve_device(model.config.device))
    told = 0

    def follow() -> None:
        nonlocal told
        for point in learner.points[told:]:
            on_progress(point.metric)
        told = len(learner.points)

    learner.run(after_step=follow)
