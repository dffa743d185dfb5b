"""The option ``--plan`` of every verb, with the nodes and the price that it is told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from distill_at_scale.errors import SettingError

OPTIONS = ("plan", "plan_nodes", "price")
"""Options of a plan, which every verb has beside its settings."""


def asked(given: Mapping[str, Any]) -> bool:
    """Returns whether a plan was asked for.

    Raises:
        SettingError: Nodes or a price were given without ``--plan``.
    """
    for name in ("plan_nodes", "price"):
        if given.get(name) is not None and not given.get("plan"):
            raise SettingError(f"--{name.replace('_', '-')} is for --plan; add that, or leave it out.")
    return bool(given.get("plan"))


def planned(verb: str, config: BaseModel, given: Mapping[str, Any]) -> Any:
    """Returns the plan of a verb; its module is imported here, since torch takes seconds to import."""
    from distill_at_scale.pipelines.planning.verbs import make_plan

    try:
        price = None if given["price"] is None else float(given["price"])
    except ValueError:
        raise SettingError(f"--price '{given['price']}' is not a number.") from None
    return make_plan(verb, config, given["plan_nodes"], price)
