"""The table of a plan."""

from __future__ import annotations

from typing import TYPE_CHECKING

from distill_at_scale.facts import byte_size
from distill_at_scale.report.layout import facts, grid, show

if TYPE_CHECKING:
    from distill_at_scale.pipelines.planning.plan import Plan

_COLUMNS = ("step", "tasks", "at once", "memory a task", "CPU time", "time")


def show_plan(plan: Plan) -> None:
    """Prints the steps, and what the whole takes."""
    rows = [
        (
            one.name,
            f"{one.tasks:,}",
            f"{one.at_once:,}" if one.at_once else "none fits",
            byte_size(one.task_bytes),
            duration(one.cpu_s),
            duration(one.wall_s),
        )
        for one in plan.steps
    ]
    told = [
        ("work", plan.what),
        ("on", plan.cluster),
        ("time", duration(plan.wall_s)),
        ("CPU time", duration(plan.cpu_s)),
        ("memory", f"{byte_size(plan.node_bytes)} at most on a node"),
        ("disk", f"{byte_size(plan.disk_bytes)} at most, {byte_size(plan.result_bytes)} at the end"),
        ("object store", f"{byte_size(plan.object_store_bytes)} a node"),
    ]
    if plan.money is not None:
        told.append(("money", f"{plan.money:,.2f}"))
    show(grid(_COLUMNS, rows), facts(f"plan of {plan.verb}, nothing was started", told), *plan.notes)


def duration(seconds: float | None) -> str:
    """Formats seconds, for example as ``4.2 min``."""
    if seconds is None:
        return "unknown"
    if seconds < 120:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.3g} min" if seconds < 7200 else f"{seconds / 3600:,.3g} h"
