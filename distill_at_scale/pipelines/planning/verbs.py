"""The plan of each verb, from the same functions by which the verb divides its work and asks for memory."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Any

from pydantic import BaseModel

from distill_at_scale.errors import SettingError
from distill_at_scale.pipelines.planning.cluster import Cluster
from distill_at_scale.pipelines.planning.datasets import plan_expand, plan_prepare, plan_sample
from distill_at_scale.pipelines.planning.derived import plan_attribute, plan_export, plan_forget, plan_recommend
from distill_at_scale.pipelines.planning.models import plan_distill, plan_evaluate, plan_fit, plan_predict
from distill_at_scale.pipelines.planning.plan import Plan
from distill_at_scale.pipelines.planning.searches import plan_compare, plan_forecast, plan_sweep, plan_tune
from distill_at_scale.pipelines.runtime.rates import Rates, rates

PLANS: dict[str, Callable[[Any, Cluster, Rates], Plan]] = {
    "prepare": plan_prepare,
    "sample": plan_sample,
    "fit": plan_fit,
    "distill": plan_distill,
    "evaluate": plan_evaluate,
    "predict": plan_predict,
    "expand": plan_expand,
    "sweep": plan_sweep,
    "compare": plan_compare,
    "forecast": plan_forecast,
    "tune": plan_tune,
    "attribute": plan_attribute,
    "forget": plan_forget,
    "export": plan_export,
    "recommend": plan_recommend,
}
"""Verb -> function that plans it."""


def make_plan(verb: str, config: BaseModel, nodes: str | None = None, price: float | None = None) -> Plan:
    """Plans a verb without starting anything; reads manifests, or the heads of a log's files.

    Args:
        verb: Name of the verb.
        config: Its settings.
        nodes: Nodes to plan for, such as ``8x16x64``; default: this machine.
        price: Price of a node for an hour.

    Raises:
        SettingError: The verb has no plan, or the nodes are wrong.
        DasError: As the verb itself before it starts.
    """
    if verb not in PLANS:
        raise SettingError(f"--plan is of {', '.join(PLANS)}; leave it out for {verb}.")
    if price is not None and not 0 <= price < inf:
        raise SettingError(f"--price {price:g} is not a number of at least 0; give the price of a node for an hour.")
    cluster = Cluster.named(nodes, getattr(config, "address", None))
    planned = PLANS[verb](config, cluster, rates())
    money = None
    if price is not None and planned.wall_s is not None:
        money = round(planned.wall_s / 3600 * cluster.nodes * price, 2)
    said = f"The rates are those of {rates().machine}; other machines are faster or slower by a factor."
    return planned.model_copy(update={"money": money, "notes": [*planned.notes, said]})
