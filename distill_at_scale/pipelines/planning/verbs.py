"""The plan of each verb, from the same functions by which the verb divides its work and asks for memory."""

from __future__ import annotations

import importlib
from math import inf

from pydantic import BaseModel

from distill_at_scale.errors import SettingError
from distill_at_scale.pipelines.planning.cluster import Cluster
from distill_at_scale.pipelines.planning.plan import Plan
from distill_at_scale.pipelines.runtime.rates import rates

PLANS: dict[str, str] = {
    "prepare": "datasets",
    "sample": "datasets",
    "fit": "models",
    "distill": "models",
    "evaluate": "models",
    "predict": "models",
    "expand": "datasets",
    "sweep": "searches",
    "compare": "searches",
    "forecast": "searches",
    "tune": "searches",
    "attribute": "derived",
    "forget": "derived",
    "export": "derived",
    "recommend": "derived",
}
"""Verb -> module beside this one whose function ``plan_<verb>`` plans it; imported only then, since most load torch."""


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
    module = importlib.import_module(f"{__package__}.{PLANS[verb]}")
    planned: Plan = getattr(module, f"plan_{verb}")(config, cluster, rates())
    money = None
    if price is not None and planned.wall_s is not None:
        money = round(planned.wall_s / 3600 * cluster.nodes * price, 2)
    said = f"The rates are those of {rates().machine}; other machines are faster or slower by a factor."
    return planned.model_copy(update={"money": money, "notes": [*planned.notes, said]})
