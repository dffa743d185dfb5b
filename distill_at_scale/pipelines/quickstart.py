"""quickstart: real data from nothing to a table, with the verbs that a user would call one by one."""

from __future__ import annotations

import time
from typing import Any

from pydantic import BaseModel

from distill_at_scale.config import QuickstartConfig, settle
from distill_at_scale.data import storage
from distill_at_scale.pipelines import cluster
from distill_at_scale.pipelines.evaluate import Evaluation, evaluate
from distill_at_scale.pipelines.fetch import fetch
from distill_at_scale.pipelines.fit import fit
from distill_at_scale.pipelines.prepare import prepare

MODELS = ("popularity", "ease", "svd_ae", "infinite_ae")


class Quickstart(BaseModel):
    """The dataset and how each model did on its test rows."""

    data: dict[str, Any]
    evaluations: dict[str, Evaluation]
    """by model"""
    chosen: dict[str, dict[str, Any] | None]
    """by model: the hyper-parameter chosen on validation"""
    wall_s: float


def quickstart(config: QuickstartConfig | None = None, /, **settings: Any) -> Quickstart:
    """Fetches a public log, prepares it, fits every model and evaluates it; leaves everything in ``output``.

    Raises:
        DasError: when no source of the data can be reached, or a step fails.
    """
    config = settle(QuickstartConfig, config, settings)
    started = time.time()
    output = storage.normalise(config.output)
    log = fetch(name=config.name)
    with cluster.session(config.address):
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
    return Quickstart(
        data=dataset.summary(), evaluations=evaluations, chosen=chosen, wall_s=round(time.time() - started, 1)
    )
