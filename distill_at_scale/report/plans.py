"""The table of a plan."""

from __future__ import annotations

from typing import TYPE_CHECKING

from distill_at_scale.facts import byte_size, time_span
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
        ("memory", _memory(plan)),
        ("disk", f"{byte_size(plan.disk_bytes)} at most, {byte_size(plan.result_bytes)} at the end"),
        ("object store", f"{byte_size(plan.object_store_bytes)} a node"),
    ]
    if plan.money is not None:
        told.append(("money", f"{plan.money:,.2f}"))
    show(grid(_COLUMNS, rows), facts(f"plan of {plan.verb}, nothing was started", told), *plan.notes)


def _memory(plan: Plan) -> str:
    """Returns the memory of a node, which is unknown where no node holds a step."""
    if all(one.at_once for one in plan.steps):
        return f"{byte_size(plan.node_bytes)} at most on a node"
    return f"more than a node has: {byte_size(max(one.task_bytes for one in plan.steps))} for one task"


def duration(seconds: float | None) -> str:
    """Formats seconds, for example as ``4.2 min``."""
    if seconds is None:
        return "unknown"
    # A plan counts in tenths; less is not nothing.
    return "< 0.1 s" if seconds < 0.05 else time_span(seconds)
