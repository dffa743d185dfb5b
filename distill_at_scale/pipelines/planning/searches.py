"""Plans of the verbs that fit many models, on a dataset and on smaller ones: compare, sweep, forecast and tune."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from distill_at_scale.config import CompareConfig, DistillConfig, FitConfig, ForecastConfig, SweepConfig, TuneConfig
from distill_at_scale.data.dataset import Dataset
from distill_at_scale.evaluation.promotion import ETA, FINALISTS
from distill_at_scale.facts import count_of
from distill_at_scale.models import find_model
from distill_at_scale.pipelines.forecast import METHOD, rungs
from distill_at_scale.pipelines.planning.cluster import Cluster
from distill_at_scale.pipelines.planning.datasets import other_bytes, row_bytes, sample_steps
from distill_at_scale.pipelines.planning.models import distill_step, evaluate_step, fit_step, model_bytes
from distill_at_scale.pipelines.planning.plan import Plan, Step, plan_of, step
from distill_at_scale.pipelines.runtime import own_settings
from distill_at_scale.pipelines.runtime.rates import Rates
from distill_at_scale.pipelines.sweeps import small_datasets
from distill_at_scale.pipelines.sweeps.candidates import SettingsSearch
from distill_at_scale.pipelines.tune import judging_users
from distill_at_scale.pipelines.tune import rungs as shares_of_search
from distill_at_scale.registry import DISTILLERS, METHODS, SAMPLERS

# Values that a rung compares after the first: the one that a smaller sample chose and those next to it.
_AROUND = 3
# Bytes of the record of a fit, with figures and lists of some users, and of what Ray Tune keeps of a trial.
_RECORD_BYTES, _TRIAL_BYTES = 1 << 16, 1 << 15


@dataclass(frozen=True)
class _Fit:
    """A fit on a share of a dataset, and its evaluation on users of the whole one."""

    model: str
    dataset: Dataset
    share: float = 1.0
    users: int | None = None
    """Users that it is evaluated on; None: all."""
    settings: Mapping[str, Any] = field(default_factory=dict)


def _fits_step(
    name: str, fits: Sequence[_Fit], whole: Dataset, cluster: Cluster, measured: Rates, times: int = 1
) -> Step:
    """Fits that run side by side, each in a task of one thread, with their evaluations."""
    costs: list[float | None] = []
    most = 0.0
    for one in fits:
        config = FitConfig.model_validate(
            {"data": one.dataset.uri, "model": one.model, "output": "unused", "set": dict(one.settings)}
        )
        fit = fit_step(config, one.dataset, cluster, measured, one.share, threads=1)
        users = whole.n_users if one.users is None else one.users
        judged = evaluate_step(one.model, whole, cluster, measured, users, model_bytes(config, whole), 1)
        costs.append(None if fit.cpu_s is None or judged.cpu_s is None else fit.cpu_s + judged.cpu_s)
        most = max(most, fit.task_bytes, judged.task_bytes)
    total = None if None in costs else times * sum(cost for cost in costs if cost is not None)
    return step(name, cluster, times * len(fits), most, total)


def plan_sweep(config: SweepConfig, cluster: Cluster, measured: Rates) -> Plan:
    """The plan of `sweep`."""
    dataset = Dataset.open(config.data)
    asked = list(METHODS) if "all" in config.methods else list(dict.fromkeys(config.methods))
    methods = [name for name in asked if small_datasets.suits(name, dataset)]
    models = list(dict.fromkeys(config.models))
    settings = own_settings.by_owner(config.set, [*models, *asked], f"{models[0]}.NAME=VALUE")
    notes = ["What is shared between trials is counted once for each job of methods."]
    if config.search:
        notes.append("The search for settings before it is not counted.")
    steps: list[Step] = []
    kept = 0.0
    for seed in range(config.seeds):
        for job in small_datasets.jobs(methods, config.shares, seed, dataset.uri, config.output, settings, config.gpu):
            steps.append(_batch_step(job, dataset, cluster, measured))
            kept += _sample_bytes(dataset, job.budgets) * len(job.methods)
    for model in models:
        trained = [("full", 1.0), *((method, share) for method in methods for share in config.shares)]
        fits = [
            _Fit(model, dataset, share, settings=settings.get(model, {}))
            for method, share in trained
            if method == "full" or small_datasets.learns(model, method)
        ]
        steps.append(_fits_step(f"fit and evaluate {model}", fits, dataset, cluster, measured, config.seeds))
        kept += config.seeds * len(fits) * (_RECORD_BYTES + _TRIAL_BYTES)
    counts = {"method": len(methods), "budget": len(config.shares), "model": len(models), "seed": config.seeds}
    trials = " × ".join(count_of(n, noun) for noun, n in counts.items())
    return plan_of(
        "sweep", trials, cluster, dataset.n_rows, steps,
        result_bytes=kept, start_s=measured.start_s, notes=notes,
    )  # fmt: skip


def plan_compare(config: CompareConfig, cluster: Cluster, measured: Rates) -> Plan:
    """The plan of `compare`."""
    settings = own_settings.by_owner(config.set, config.models, f"{config.models[0]}.NAME=VALUE")
    full, small = Dataset.open(config.data), [Dataset.open(uri) for uri in config.samples]
    steps = []
    for model in dict.fromkeys(config.models):
        fits = [_Fit(model, dataset, settings=settings.get(model, {})) for dataset in (full, *small)]
        steps.append(_fits_step(f"fit and evaluate {model}", fits, full, cluster, measured))
    what = f"{count_of(len(steps), 'model')} on the dataset and on {len(small)} made of it"
    kept = (len(small) + 1) * len(steps) * _RECORD_BYTES
    return plan_of("compare", what, cluster, full.n_rows, steps, result_bytes=kept, start_s=measured.start_s)


def plan_forecast(config: ForecastConfig, cluster: Cluster, measured: Rates) -> Plan:
    """The plan of `forecast`: a step for each rung."""
    dataset = Dataset.open(config.data)
    models = list(dict.fromkeys(config.models))
    settings = own_settings.by_owner(config.set, models, f"{models[0]}.NAME=VALUE")
    shares = rungs(dataset, config.up_to, config.rungs)
    steps = [_nested_step(dataset, cluster, measured, config.seeds)]
    for k, share in enumerate(shares):
        fits = [_Fit(one, dataset, share, settings=_around(one, settings.get(one, {}), k)) for one in models]
        steps.append(_fits_step(_on(share), fits, dataset, cluster, measured, config.seeds))
    # What needs no rows but the items' counts.
    if counted := [one for one in models if find_model(one).rows_held(dataset) == 0]:
        steps.append(_fits_step(_on(1.0), [_Fit(one, dataset) for one in counted], dataset, cluster, measured))
    tried = f"{count_of(len(models), 'model')} on {count_of(len(shares), 'sample')}"
    what = f"{tried} of up to {100 * config.up_to:.3g} %, {count_of(config.seeds, 'seed')}"
    kept = config.seeds * (_sample_bytes(dataset, shares) + len(shares) * len(models) * _RECORD_BYTES)
    return plan_of(
        "forecast", what, cluster, dataset.n_rows, steps, result_bytes=kept, start_s=measured.start_s
    )  # fmt: skip


def plan_tune(config: TuneConfig, cluster: Cluster, measured: Rates) -> Plan:
    """The plan of `tune`: a step for each rung, with as many candidates as it certainly takes."""
    dataset = Dataset.open(config.data)
    models = list(dict.fromkeys(config.models))
    settings = own_settings.by_owner(config.set, models, f"{models[0]}.NAME=VALUE")
    searches = [SettingsSearch(one, settings.get(one, {}), config.search, config.seed, config.output) for one in models]
    left = {search.model: search.total for search in searches}
    tried = {search.model: [candidate.settings for candidate in search.spread()] for search in searches}
    shares, records = shares_of_search(dataset) if sum(left.values()) > 1 else [1.0], 0
    steps = [_nested_step(dataset, cluster, measured, 1)] if shares[:-1] else []
    for k, share in enumerate(shares):
        users = None if share == 1 else judging_users(dataset, share)
        fits = [
            _Fit(model, dataset, share, users, tried[model][j % len(tried[model])])
            for j in range(max(left.values()))
            for model in models
            if j < left[model]
        ]
        if share == 1 and k > 1:
            # Of any models; here equally many of each.
            fits = fits[:FINALISTS]
        steps.append(_fits_step(_on(share), fits, dataset, cluster, measured))
        records += len(fits) * _RECORD_BYTES
        left = {model: math.ceil(n / ETA) for model, n in left.items()}
    candidates = count_of(sum(search.total for search in searches), "candidate")
    what = f"{candidates} of {count_of(len(models), 'model')} on {count_of(len(shares), 'share')}"
    kept = _sample_bytes(dataset, shares[:-1]) + records
    biggest = max(
        model_bytes(FitConfig.model_validate({"data": dataset.uri, "model": one, "output": "unused"}), dataset)
        for one in models
    )
    notes = ["Models that are dropped early make it less, candidates that are close to the best more."]
    return plan_of(
        "tune", what, cluster, dataset.n_rows, steps,
        result_bytes=kept + biggest, disk_bytes=kept + FINALISTS * biggest, start_s=measured.start_s, notes=notes,
    )  # fmt: skip


def _sample_bytes(dataset: Dataset, shares: Sequence[float]) -> float:
    """Bytes of samples of a dataset with these shares of its train rows; held-out rows are in each."""
    train = dataset.manifest.splits["train"]
    held_out = dataset.n_rows - train
    return sum((share * train + held_out) * row_bytes(dataset) + other_bytes(dataset) for share in shares)


def _on(share: float) -> str:
    return f"fit and evaluate on {100 * share:.3g} %"


def _around(model: str, settings: Mapping[str, Any], k: int) -> Mapping[str, Any]:
    """The settings of a model on rung ``k``: after the first one it selects around a value."""
    kind = find_model(model)
    if k == 0 or "grid" not in kind.Config.model_fields or kind.grid_in_one:
        return settings
    grid = kind.parse_config(settings).grid[:_AROUND]
    return {"grid": grid, **settings}


def _nested_step(dataset: Dataset, cluster: Cluster, measured: Rates, times: int) -> Step:
    """Making nested samples of users."""
    return _joined(METHOD, sample_steps(METHOD, dataset, cluster, measured, 1)[0], cluster, times)


def _joined(name: str, steps: Sequence[Step], cluster: Cluster, times: int = 1) -> Step:
    """Steps that follow one another, as one."""
    return step(
        f"make {name}",
        cluster,
        max(one.tasks for one in steps),
        max(one.task_bytes for one in steps),
        times * sum(one.cpu_s or 0.0 for one in steps),
    )


def _batch_step(job: small_datasets.SmallDatasetJob, dataset: Dataset, cluster: Cluster, measured: Rates) -> Step:
    """Making the small datasets of a job, as one step."""
    name = job.methods[0]
    if METHODS.find(name) is not SAMPLERS:
        found = []
        for budget in job.budgets:
            size, number = DISTILLERS[name].size(), DISTILLERS[name].number(budget, dataset.n_users)
            config = DistillConfig.model_validate(
                {
                    "data": dataset.uri,
                    "method": name,
                    "output": job.output,
                    size: number,
                    "set": dict(job.settings.get(name, {})),
                }
            )
            found.append(distill_step(config, dataset, cluster, measured))
        costs = [one.cpu_s for one in found]
        cpu_s = None if None in costs else sum(cost for cost in costs if cost is not None)
        return step(f"make {name}", cluster, len(found), max(one.task_bytes for one in found), cpu_s)
    return _joined(", ".join(job.methods), sample_steps(name, dataset, cluster, measured, 1)[0], cluster)
