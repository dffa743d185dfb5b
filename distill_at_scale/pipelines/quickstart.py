"""quickstart: from a public log to a recommendation, with the verbs that a user would call one by one."""

from __future__ import annotations

import time
from typing import Any

from pydantic import BaseModel

from distill_at_scale.config import QuickstartConfig
from distill_at_scale.data import storage
from distill_at_scale.models.selection import Selection
from distill_at_scale.pipelines.evaluate import Evaluation, evaluate
from distill_at_scale.pipelines.fetch import fetch
from distill_at_scale.pipelines.fit import fit
from distill_at_scale.pipelines.prepare import prepare
from distill_at_scale.pipelines.recommend import Recommendation, recommend
from distill_at_scale.pipelines.report import ReportResult, report
from distill_at_scale.pipelines.runtime import session
from distill_at_scale.pipelines.runtime.verb import verb
from distill_at_scale.pipelines.sweep import sweep
from distill_at_scale.pipelines.sweeps.sweep_result import SweepResult

MODELS = ("popularity", "ease", "svd_ae", "infinite_ae")
METHODS = ("random", "random_users", "head_users", "density")
BUDGETS = ("0.5", "0.1")
_KEEP = 0.9


class Quickstart(BaseModel):
    """Result of the quickstart: dataset, evaluations of the models, sweep and recommendation."""

    ok: bool
    """Whether no trial of the sweep failed."""
    data: dict[str, Any]
    evaluations: dict[str, Evaluation]
    """Evaluations by model."""
    chosen: dict[str, Selection | None]
    """Hyper-parameters selected on validation rows, by model."""
    sweep: SweepResult
    recommendation: Recommendation
    report: ReportResult
    """Content of the HTML report."""
    wall_s: float


@verb(QuickstartConfig, "name")
def quickstart(config: QuickstartConfig) -> Quickstart:
    """Fetches a public log, prepares it, fits and evaluates models, sweeps a few methods and recommends one; writes
    everything to ``output``.

    Raises:
        DasError: No source of the data can be reached, or a step fails.
    """
    started = time.time()
    output = storage.normalise(config.output)
    storage.check_writable(storage.join(output, "report.html"))
    # Beside the rest where all nodes see that: the cache is this machine's own.
    log = fetch(name=config.name, output=storage.join(output, "log") if not storage.is_local(output) else None)
    with session.ensure(config.address):
        dataset = prepare(
            input=log.uris,
            output=storage.join(output, "data"),
            split="20_percent_hist",
            overwrite=True,
            **log.options,
        )
        evaluations, chosen = {}, {}
        for name in MODELS:
            model = storage.join(output, "models", name)
            fitted = fit(data=dataset.uri, model=name, output=model, overwrite=True)
            chosen[name] = fitted.selection
            metrics = storage.join(output, "metrics", f"{name}.json")
            evaluations[name] = evaluate(data=dataset.uri, model=model, output=metrics)
        place = storage.join(output, "sweep")
        swept = sweep(
            data=dataset.uri,
            methods=list(METHODS),
            budgets=list(BUDGETS),
            models=list(MODELS),
            output=place,
            overwrite=True,
        )
        advice = recommend(data=dataset.uri, sweep=place, keep=_KEEP)
    page = report(sweep=place, output=storage.join(output, "report.html"), keep=_KEEP)
    assert isinstance(page, ReportResult)
    return Quickstart(
        ok=swept.ok,
        data=dataset.summary(),
        evaluations=evaluations,
        chosen=chosen,
        sweep=swept,
        recommendation=advice,
        report=page,
        wall_s=round(time.time() - started, 1),
    )
