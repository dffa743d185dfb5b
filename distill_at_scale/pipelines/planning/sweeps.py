"""The plan of a sweep: its small datasets, and the fits and evaluations on them."""

from __future__ import annotations

from distill_at_scale.config import DistillConfig, FitConfig, SweepConfig
from distill_at_scale.data.dataset import Dataset
from distill_at_scale.pipelines.planning.cluster import Cluster
from distill_at_scale.pipelines.planning.datasets import row_bytes, sample_steps
from distill_at_scale.pipelines.planning.models import distill_step, evaluate_step, fit_step, model_bytes
from distill_at_scale.pipelines.planning.plan import Plan, Step, plan_of, step
from distill_at_scale.pipelines.runtime.rates import Rates
from distill_at_scale.pipelines.sweeps import small_datasets
from distill_at_scale.registry import DISTILLERS, METHODS, SAMPLERS


def plan_sweep(config: SweepConfig, cluster: Cluster, measured: Rates) -> Plan:
    dataset = Dataset.open(config.data)
    asked = list(METHODS) if "all" in config.methods else list(dict.fromkeys(config.methods))
    methods = [name for name in asked if small_datasets.suits(name, dataset)]
    models = list(dict.fromkeys(config.models))
    notes = ["What is shared between trials is counted once for each job of methods."]
    steps: list[Step] = []
    kept = 0.0
    for seed in range(config.seeds):
        for job in small_datasets.jobs(methods, config.shares, seed, dataset.uri, config.output, {}, config.gpu):
            steps.append(_batch_step(job, dataset, cluster, measured))
            kept += sum(share * dataset.manifest.splits["train"] for share in job.budgets) * len(job.methods)
    for model in models:
        fits: list[tuple[float, Step]] = []
        config_of = FitConfig.model_validate({"data": dataset.uri, "model": model, "output": config.output})
        for method, share in [("full", 1.0), *((m, s) for m in methods for s in config.shares)]:
            if method == "full" or small_datasets.learns(model, method):
                fits.append((share, fit_step(config_of, dataset, cluster, measured, share, threads=1)))
        one = evaluate_step(model, dataset, cluster, measured, dataset.n_users, model_bytes(config_of, dataset), 1)
        costs = [fit.cpu_s for _, fit in fits]
        known = None if None in costs else sum(cost for cost in costs if cost is not None)
        total = None if known is None else config.seeds * (known + len(fits) * (one.cpu_s or 0.0))
        worst = max(one.task_bytes, *(fit.task_bytes for _, fit in fits))
        steps.append(step(f"fit and evaluate {model}", cluster, config.seeds * len(fits), worst, total))
    seeds = f"{config.seeds} seed{'s' * (config.seeds != 1)}"
    trials = f"{len(methods)} methods × {len(config.shares)} budgets × {len(models)} models × {seeds}"
    return plan_of(
        "sweep", trials, cluster, dataset.n_rows, steps,
        result_bytes=kept * row_bytes(dataset), start_s=measured.start_s, notes=notes,
    )  # fmt: skip


def _batch_step(job: small_datasets.SmallDatasetJob, dataset: Dataset, cluster: Cluster, measured: Rates) -> Step:
    """Making the small datasets of a job, as one step."""
    name = job.methods[0]
    if METHODS.find(name) is not SAMPLERS:
        found = []
        for budget in job.budgets:
            size, number = DISTILLERS[name].size(), DISTILLERS[name].number(budget, dataset.n_users)
            config = DistillConfig.model_validate(
                {"data": dataset.uri, "method": name, "output": job.output, size: number}
            )
            found.append(distill_step(config, dataset, cluster, measured))
        costs = [one.cpu_s for one in found]
        cpu_s = None if None in costs else sum(cost for cost in costs if cost is not None)
        return step(f"make {name}", cluster, len(found), max(one.task_bytes for one in found), cpu_s)
    steps, _ = sample_steps(name, dataset, cluster, measured, 1)
    return step(
        f"make {', '.join(job.methods)}",
        cluster,
        max(one.tasks for one in steps),
        max(one.task_bytes for one in steps),
        sum(one.cpu_s or 0.0 for one in steps),
    )
