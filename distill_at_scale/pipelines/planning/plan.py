"""A plan: steps with their tasks, memory and time, and the disk that they fill."""

from __future__ import annotations

import math

from pydantic import BaseModel, ConfigDict

from distill_at_scale.facts import byte_size
from distill_at_scale.pipelines.planning.cluster import Cluster


class Step(BaseModel):
    """One step of a verb: tasks that run side by side."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    name: str
    tasks: int
    task_bytes: int
    """Peak memory of a task's process."""
    at_once: int
    """Number of tasks that run at the same time; 0 if no node has the memory for one."""
    cpu_s: float | None
    """CPU-seconds of all tasks; None if nothing like it was measured."""
    wall_s: float | None
    """Seconds; None if unknown, or if no node holds a task."""


class Plan(BaseModel):
    """What a verb would take; nothing was started."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    verb: str
    what: str
    """Its work, as a phrase."""
    cluster: str
    rows: int
    steps: list[Step]
    disk_bytes: int
    """Most bytes at the output at any time, with unfinished work."""
    result_bytes: int
    """Bytes that remain at the output."""
    object_store_bytes: int
    """Bytes of objects that the tasks of a node share."""
    node_bytes: int
    """Most memory in use on one node at any time."""
    cpu_s: float | None
    wall_s: float | None
    """Seconds from start to end; None if a step's are unknown."""
    money: float | None = None
    """wall time × nodes × price, if a price was given."""
    notes: list[str] = []
    """What to know of the plan, as sentences."""


def step(
    name: str,
    cluster: Cluster,
    tasks: int,
    task_bytes: float,
    cpu_s: float | None,
    cpus: int = 1,
    start_s: float = 0.0,
    parallel: float = 1.0,
) -> Step:
    """Returns a step whose tasks take equally long.

    Args:
        name: Name of the step.
        cluster: Nodes that it runs on.
        tasks: Number of tasks.
        task_bytes: Peak memory of one task.
        cpu_s: CPU-seconds of all tasks.
        cpus: CPUs of one task.
        start_s: Seconds before the first task.
        parallel: Share of a task's work that all of its CPUs do; one CPU does the rest (Amdahl's law).
    """
    slots = cluster.at_once(cpus, task_bytes)
    wall_s = None
    if slots and cpu_s is not None:
        wall_s = start_s + math.ceil(tasks / slots) * cpu_s / tasks * (1 - parallel + parallel / cpus)
    return Step(
        name=name,
        tasks=tasks,
        task_bytes=round(task_bytes),
        at_once=min(slots, tasks),
        cpu_s=None if cpu_s is None else round(cpu_s, 1),
        wall_s=None if wall_s is None else round(wall_s, 1),
    )


def plan_of(
    verb: str,
    what: str,
    cluster: Cluster,
    rows: int,
    steps: list[Step],
    *,
    result_bytes: float,
    disk_bytes: float | None = None,
    object_store_bytes: float = 0,
    start_s: float = 0.0,
    notes: list[str] | None = None,
) -> Plan:
    """Adds up steps that follow one another; says what no node holds, and what is not known."""
    said = list(notes or [])
    said += [
        f"{one.name} needs {byte_size(one.task_bytes)} for a task, but no node gives that much to one; name "
        "larger nodes, or settings that need less."
        for one in steps
        if not one.at_once
    ]
    if unknown := [one.name for one in steps if one.cpu_s is None]:
        said.append(f"The time of {', '.join(unknown)} was not measured and is not counted.")
    known = all(one.at_once and one.wall_s is not None for one in steps)
    wall = start_s + sum(one.wall_s for one in steps if one.wall_s is not None) if known else None
    per_node = max((math.ceil(one.at_once / cluster.nodes) * one.task_bytes for one in steps), default=0)
    return Plan(
        verb=verb,
        what=what,
        cluster=cluster.name,
        rows=rows,
        steps=steps,
        disk_bytes=round(disk_bytes if disk_bytes is not None else result_bytes),
        result_bytes=round(result_bytes),
        object_store_bytes=round(object_store_bytes),
        node_bytes=round(per_node + object_store_bytes),
        cpu_s=round(sum(one.cpu_s for one in steps if one.cpu_s is not None), 1) if known else None,
        wall_s=None if wall is None else round(wall, 1),
        notes=said,
    )
