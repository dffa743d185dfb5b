"""A stage: one function over many small descriptions of work, as a Ray Data pipeline.

What travels is the description of a part (a file, a bucket number) and a small record of what was done; the
rows stay in the task. Ray Data schedules, restarts the tasks of workers that died, and streams the records
back. What is large and shared by all tasks of a stage lies once a node in Ray's object store. Where a part takes a
moment (``light``), or there are few parts or thousands, plain tasks do them: a session's first pipeline costs 8 seconds
of CPU, for Ray Data in all processes and two of its own; a task of one costs the driver 10 ms of CPU, so that it starts
a hundred a second at most, and a plain one some 2.
"""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import ray

from distill_at_scale.data.preparation import restartable
from distill_at_scale.data.preparation.part_record import PartRecord
from distill_at_scale.errors import ClusterError, DasError, PluginError
from distill_at_scale.pipelines.runtime import (
    plugins,
    progress,
    resources,
    run_record,
    session,
    waiting,
)
from distill_at_scale.pipelines.runtime.task_answers import Answer, Call, answer_of, take

R = TypeVar("R")
_Answers = Generator[tuple[int, Answer], None, None]
ANYWHERE: Literal["DEFAULT"] = "DEFAULT"
"""Scheduling strategy of tasks. It is set explicitly, since one started by a trial of Ray Tune would else be held to
the resources of that trial, which has none but for waiting."""

# Number of parts up to which plain tasks do them: the start of a pipeline costs as much as dozens of parts of a quarter
# of a second, of which logs of some ten million rows have no more.
_FEW = 64
# Number of parts from which plain tasks do them: by a pipeline, the driver could keep no more than some dozens of CPUs
# busy with parts of less than a second.
_MANY = 1024
# Plain tasks that are under way at most: few enough for the driver, and enough for thousands of CPUs.
_UNDER_WAY = 4096
# Workers of a task that may die, as on spot machines, until it counts as its own fault.
_RETRIES = 20
_LIGHT_RETRIES = 3
# Number of parts that a task merges, and has in memory.
_MERGED_AT_ONCE = 16
# Minimum number of tasks of several items, so that the last ones do not leave CPUs idle for long.
_TASKS_PER_CPU = 8


def run_stage(
    run: run_record.RunRecord,
    name: str,
    work: Callable[..., R],
    items: Sequence[Any],
    shared: Sequence[ray.ObjectRef[Any]] = (),
    num_cpus: float = 1.0,
    shown: bool = True,
    light: bool = False,
    together: int = 1,
    on_done: Callable[[int], None] = lambda index: None,
) -> list[R]:
    """``[work(item, *shared) for item in items]``, spread over the cluster.

    Args:
        run: is told time and memory of the stage.
        name: shown beside the progress.
        work: picklable; must be safe to run twice.
        items: picklable descriptions, one part each.
        shared: objects that every task gets.
        num_cpus: CPUs of one task.
        shown: whether there is progress to see; not worth a line for what takes a moment.
        light: whether a part takes a moment, so that plain tasks do it at less cost.
        together: items that one task may do, one after another, where there are many: of parts that take less than a
            second, one costs a task as much as several. When its worker dies, it does all of them again.
        on_done: called here with the position of an item once it is done.

    Raises:
        DasError: the first one that a task raised, or when a light one's worker was killed again and again.
    """
    if not items:
        return []
    start = time.monotonic()
    call = Call(ray.put(work), tuple(shared))
    done: dict[int, R] = {}
    costs: list[run_record.TaskCost] = []
    # Where there is nothing to put together, nobody asks how many CPUs there could be.
    per_task = 1 if together == 1 else min(together, max(1, len(items) // (_TASKS_PER_CPU * resources.cpus())))
    need = resources.Need(1, num_cpus)
    with waiting.provided(need), progress.stage(name, len(items), shown) as stage:
        if light or not _FEW < len(items) <= _MANY:
            # Of tasks that take long or are thousands, some are lost again and again with their spot machines.
            retries = _LIGHT_RETRIES if light and len(items) <= _MANY else _RETRIES
            answers = _by_tasks(call, name, items, num_cpus, per_task, retries)
        else:
            answers = _by_pipeline(call, items, num_cpus, per_task)
        # Where a task has failed the others are cancelled now: after the end of the session Ray knows them no more.
        with contextlib.closing(answers):
            for index, answer in answers:
                done[index] = answer.take(name)
                costs.append(answer.cost)
                stage.advance()
                on_done(index)
    run.add(name, time.monotonic() - start, costs)
    return [done[index] for index in range(len(items))]


def _by_pipeline(call: Call, items: Sequence[Any], num_cpus: float, per_task: int) -> _Answers:
    """Answers as they come, by Ray Data."""
    data = session.ray_data()
    # A task does a block, one batch of a single item after another.
    with _objects_in_blocks():
        inputs = data.from_items(
            [{"index": k, "item": item} for k, item in enumerate(items)], override_num_blocks=-(-len(items) // per_task)
        )
    # Of this pipeline alone: the session may be one of the user's, with settings of its own.
    inputs.context.enable_progress_bars = False
    inputs.context.print_on_execution_start = False
    # Holding half of the CPUs back for later operators, of which there are none, would leave one of two idle.
    inputs.context.op_resource_reservation_enabled = False
    for row in inputs.map_batches(call, batch_size=1, batch_format="numpy", num_cpus=num_cpus).iter_rows():
        yield int(row["index"]), row["answer"]


@contextlib.contextmanager
def _objects_in_blocks() -> Iterator[None]:
    """Allows items and answers that are objects of Python, of which Ray Data otherwise warns across the live line.

    A dataset that is made here keeps this.
    """
    context = session.ray_data().DataContext.get_current()
    before = context.enable_fallback_to_arrow_object_ext_type
    context.enable_fallback_to_arrow_object_ext_type = True
    try:
        yield
    finally:
        context.enable_fallback_to_arrow_object_ext_type = before


def _by_tasks(call: Call, name: str, items: Sequence[Any], num_cpus: float, per_task: int, retries: int) -> _Answers:
    """Answers as they come, by plain tasks of Ray."""
    task: Any = ray.remote(num_cpus=num_cpus, max_retries=retries, scheduling_strategy=ANYWHERE)(Call.answers)
    shared = ray.put(call)
    waiting = iter(range(0, len(items), per_task))
    running: dict[ray.ObjectRef[Any], int] = {}
    try:
        while True:
            for first in itertools.islice(waiting, _UNDER_WAY - len(running)):
                running[task.remote(shared, items[first : first + per_task])] = first
            if not running:
                return
            # All that have ended: looking for one costs as much as looking for all.
            ready, others = ray.wait(list(running))
            if others:
                ready += ray.wait(others, num_returns=len(others), timeout=0)[0]
            for one in ready:
                yield from enumerate(ray.get(one), running.pop(one))
    except (ray.exceptions.WorkerCrashedError, ray.exceptions.OutOfMemoryError) as error:
        raise DasError(f"{name}: its worker was killed again and again, most likely for want of memory.") from error
    finally:
        session.cancel(running)  # where one has failed


def run_merged(
    run: run_record.RunRecord,
    name: str,
    work: Callable[..., Any],
    items: Sequence[Any],
    merge: Callable[[Sequence[Any]], Any],
    shared: Sequence[ray.ObjectRef[Any]] = (),
    num_cpus: float = 1.0,
) -> Any:
    """``merge([work(item, *shared) for item in items])``, spread over the cluster, by plain tasks.

    What the work returns stays in Ray's object store and is merged there; only the end of it reaches this process.

    Args:
        run, name, items, shared, num_cpus: as :func:`run_stage` has them.
        work: picklable; must be safe to run twice.
        merge: picklable and associative; must leave what it is given as it is.

    Raises:
        DasError: as :func:`run_stage`.
    """
    start = time.monotonic()
    leaf: Any = ray.remote(num_returns=2, num_cpus=num_cpus, max_retries=_RETRIES, scheduling_strategy=ANYWHERE)(_leaf)
    call, left_over = ray.put(Call(ray.put(work), tuple(shared))), iter(items)
    running: list[ray.ObjectRef[Any]] = []
    parts: list[ray.ObjectRef[Any]] = []
    together: list[ray.ObjectRef[Any]] = []
    costs: list[run_record.TaskCost] = []
    try:
        with waiting.provided(resources.Need(1, num_cpus)), progress.stage(name, len(items)) as stage:
            while True:
                for item in itertools.islice(left_over, _UNDER_WAY - len(running)):
                    ref, part = leaf.remote(call, item)
                    running.append(ref)
                    parts.append(part)
                    # Merged as soon as they are there, so that they do not fill the object store.
                    if len(parts) == _MERGED_AT_ONCE:
                        together.append(merged(parts, merge))
                        parts = []
                if not running:
                    break
                (ready,), running = ray.wait(running)
                answer: Answer = ray.get(ready)
                answer.take(name)
                costs.append(answer.cost)
                stage.advance()
            found = take(merged([*together, *parts], merge))
    except (ray.exceptions.WorkerCrashedError, ray.exceptions.OutOfMemoryError) as error:
        raise DasError(f"{name}: its worker was killed again and again, most likely for want of memory.") from error
    finally:
        session.cancel(running)  # where one has failed
    run.add(name, time.monotonic() - start, costs)
    return found


def merged(parts: Sequence[ray.ObjectRef[Any]], merge: Callable[[Sequence[Any]], Any]) -> ray.ObjectRef[Any]:
    """Merges what lies in the object store, some at a time, in a tree of tasks; nothing of it comes to this process.

    Args:
        parts: at least one.
        merge: picklable and associative; must leave what it is given as it is.
    """
    step = ray.remote(scheduling_strategy=ANYWHERE, max_retries=_RETRIES)(lambda *some: merge(some))
    refs = list(parts)
    while len(refs) > 1:
        refs = [step.remote(*refs[k : k + _MERGED_AT_ONCE]) for k in range(0, len(refs), _MERGED_AT_ONCE)]
    return refs[0]


@dataclass(frozen=True)
class _Combination:
    """Files to combine, and the file that they become."""

    sources: list[str]
    target: str


def run_tree(
    run: run_record.RunRecord,
    name: str,
    combine: Callable[[list[str], str], Any],
    sources: list[str],
    target: Callable[[int, int], str],
    fan_in: int = _MERGED_AT_ONCE,
) -> str:
    """Combines many files into one, ``fan_in`` at a time, level by level; returns the last one's URI.

    Args:
        combine: writes the combination of some files to a new one; must be associative.
        sources: at least one file.
        target: names the file number k of level n.
    """

    def merge(item: _Combination) -> PartRecord:
        def build() -> PartRecord:
            combine(item.sources, item.target)
            return PartRecord()

        return restartable.once(item.target + ".json", PartRecord, build)

    level = 0
    while level == 0 or len(sources) > 1:
        groups = [sources[k : k + fan_in] for k in range(0, len(sources), fan_in)]
        items = [_Combination(group, target(level, k)) for k, group in enumerate(groups)]
        run_stage(run, name, merge, items, shown=len(items) > 1, light=True)
        sources = [item.target for item in items]
        level += 1
    return sources[0]


def load(function: Callable[..., Any], *arguments: Any) -> ray.ObjectRef[Any]:
    """Has a worker compute ``function(*arguments)`` and keep it for the tasks of later stages."""
    return ray.remote(scheduling_strategy=ANYWHERE)(_computed).remote(function, *arguments)


def compute(function: Callable[..., Any], *arguments: Any) -> Any:
    """What :func:`load` computes, waited for."""
    with waiting.provided(resources.Need(1, 1)):
        return take(load(function, *arguments))


def _computed(function: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return function(*arguments)
    except PluginError as error:
        raise plugins.elsewhere(error) from error


def run_alone(
    run: run_record.RunRecord,
    name: str,
    work: Callable[..., R],
    *arguments: Any,
    gpu: bool = False,
    warm: Callable[[], None] | None = None,
) -> R:
    """``work(*arguments)`` in one task that has a whole node's CPUs (and a GPU) to itself.

    Args:
        warm: called before costs are counted, as :func:`~distill_at_scale.models.warming.warm_up`.

    Raises:
        DasError: the one that the task raised, or when the worker was killed, as for want of memory.
    """
    cpus = resources.node_cpus(gpu)

    def whole_node() -> Answer:
        resources.use_threads(cpus)
        if warm is not None:
            warm()
        return answer_of(lambda: work(*arguments))

    start = time.monotonic()
    task = ray.remote(num_cpus=cpus, num_gpus=1 if gpu else 0, max_retries=1, scheduling_strategy=ANYWHERE)(whole_node)
    running = None
    try:
        with waiting.provided(resources.Need(1, cpus, int(gpu))):
            running = task.remote()
            answer: Answer = ray.get(running)
    except (KeyboardInterrupt, ClusterError):
        # It would hold the node in a session that goes on.
        if running is not None:
            ray.cancel(running, force=True)
        raise
    except (ray.exceptions.WorkerCrashedError, ray.exceptions.OutOfMemoryError) as error:
        raise DasError(f"{name}: its worker was killed twice, most likely for want of memory.") from error
    record: R = answer.take(name)
    run.add(name, time.monotonic() - start, [answer.cost])
    return record


def _leaf(call: Call, item: Any) -> tuple[Answer, Any]:
    """The cost of a part, or its failure, and what the work made of it."""
    answer = call.answer(item)
    made, answer.record = answer.record, None
    return answer, made
