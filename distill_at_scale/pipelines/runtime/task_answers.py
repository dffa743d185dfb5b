"""What a task of a stage sends back: its record and its cost, or its failure, and what it warned of."""

from __future__ import annotations

import contextlib
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import ray

from distill_at_scale.data.preparation.part_record import PartRecord
from distill_at_scale.errors import DasError, PluginError, rebuilt
from distill_at_scale.pipelines.runtime import kept_memory, plugins, run_record, worker_warnings

DEATHS = (ray.exceptions.WorkerCrashedError, ray.exceptions.OutOfMemoryError, ray.exceptions.NodeDiedError)
"""What a task raises whose worker, or node, died."""


def take(ref: ray.ObjectRef[Any]) -> Any:
    """What :func:`~distill_at_scale.pipelines.runtime.tasks.load` computed.

    Raises:
        DasError: the one that it raised, as one sentence: Ray would put the whole traceback into it.
    """
    try:
        return ray.get(ref)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, DasError):
            raise error.cause from error
        raise


class Answer:
    """A task's record and cost, or its failure, kept whole: Ray Data would spread a dict over columns."""

    def __init__(self) -> None:
        self.record: Any = None
        self.cost = run_record.TaskCost(0.0, 0.0)
        self.failure: str | None = None
        self.kind: str | None = None
        """name of the DasError that it is; None: a bug"""
        self.warnings: list[str] = []

    def take(self, stage: str) -> Any:
        """The record; warns of what the task warned of, and raises what failed."""
        worker_warnings.repeat(self.warnings)
        if self.failure is not None:
            raise rebuilt(self.kind, self.failure) if self.kind else RuntimeError(f"{stage} failed:\n{self.failure}")
        return self.record


def answer_of(work: Callable[[], Any]) -> Answer:
    """Runs the work. A failure travels as an answer: retrying one and the same error would be a waste."""
    kept_memory.keep_memory()
    answer, cpu = Answer(), time.process_time()
    with worker_warnings.overhear() as answer.warnings:
        try:
            answer.record = work()
        except DasError as error:
            said = plugins.elsewhere(error) if isinstance(error, PluginError) else error
            answer.failure, answer.kind = str(said), type(said).__name__
        except Exception:
            answer.failure = traceback.format_exc()
    reused = isinstance(answer.record, PartRecord) and answer.record.reused
    answer.cost = replace(run_record.TaskCost.since(cpu), reused=reused)
    return answer


class Call:
    """One task of a stage."""

    def __init__(self, work: ray.ObjectRef[Any], shared: tuple[ray.ObjectRef[Any], ...]) -> None:
        self._work = work
        self._shared = shared

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        return {"index": [batch["index"][0]], "answer": [self.answer(batch["item"][0])]}

    def answers(self, items: Sequence[Any]) -> list[Answer]:
        """What the work makes of several items, one after another."""
        return [self.answer(item) for item in items]

    def answer(self, item: Any) -> Answer:
        """What the work makes of an item."""
        with _process_ends_if_import_is_cut():
            # Before the clock runs: in a new process this imports what the work stands on.
            work = ray.get(self._work)
            return answer_of(lambda: work(item, *(take(ref) for ref in self._shared)))


@contextlib.contextmanager
def _process_ends_if_import_is_cut() -> Iterator[None]:
    """Ends the worker's process where its task is cancelled in the middle of an import.

    Ray cancels by a KeyboardInterrupt and gives the process the next task. An import that was cut short, such as that
    of torch._dynamo, which takes seconds and registers what it loads, cannot be done again: every later task of the
    process would fail in it.
    """
    try:
        yield
    except KeyboardInterrupt as interrupt:
        codes = [frame.f_code for frame, _ in traceback.walk_tb(interrupt.__traceback__)]
        # An import statement shows a module's own code, and nothing of the import system around it.
        if any(code.co_name == "<module>" or code.co_filename.startswith("<frozen importlib") for code in codes):
            raise SystemExit(0) from None
        raise
