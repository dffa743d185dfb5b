"""A stage by a pipeline and by plain tasks: the same answers, the same failures."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import ray

from distill_at_scale.errors import DasError
from distill_at_scale.pipelines.runtime import tasks
from distill_at_scale.pipelines.runtime.run_record import RunRecord
from distill_at_scale.pipelines.runtime.tasks import run_stage

pytestmark = pytest.mark.usefixtures("ray_session", "few")


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """So few parts make a pipeline here."""
    monkeypatch.setattr(tasks, "_FEW", 8)


@pytest.mark.parametrize("light", [False, True])
def test_answers_come_in_the_order_of_the_items(light: bool) -> None:
    def work(item: int) -> dict[str, Any]:
        return {"square": item * item, "reused": item == 2}

    run = RunRecord("test", {})
    found = run_stage(run, "square", work, [3, 1, 2, *range(4, 12)], shown=False, light=light)
    assert [record["square"] for record in found] == [9, 1, 4, *(k * k for k in range(4, 12))]
    assert (run.stages[0].stage, run.stages[0].tasks) == ("square", 11)
    assert run_stage(run, "nothing", work, [], light=light) == []


@pytest.mark.parametrize("light", [False, True])
@pytest.mark.parametrize(("n_items", "together", "tasks"), [(33, 8, 17), (33, 1, 33), (80, 4, 20), (15, 8, 15)])
def test_small_parts_share_tasks_where_they_are_many(light: bool, n_items: int, together: int, tasks: int) -> None:
    """But of two CPUs, each has at least eight tasks if there are as many parts."""

    def work(item: int) -> dict[str, Any]:
        return {"item": item, "task": ray.get_runtime_context().get_task_id()}

    run = RunRecord("test", {})
    found = run_stage(run, "name", work, list(range(n_items)), shown=False, light=light, together=together)
    assert [record["item"] for record in found] == list(range(n_items))
    assert len({record["task"] for record in found}) == tasks
    assert run.stages[0].tasks == n_items


@pytest.mark.parametrize("n_items", [5, 14])
def test_few_and_very_many_parts_are_plain_tasks(n_items: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipeline takes longer to start than few parts, and costs the driver several times as much for each of many."""
    monkeypatch.setattr(tasks, "_MANY", 12)
    monkeypatch.setattr(tasks, "_by_pipeline", None)
    found = run_stage(RunRecord("test", {}), "many", lambda item: item * item, list(range(n_items)), shown=False)
    assert found == [k * k for k in range(n_items)]


@pytest.mark.parametrize("light", [False, True])
def test_what_fails_is_told_as_it_is(light: bool) -> None:
    def work(item: str) -> dict[str, Any]:
        raise DasError("no good") if item == "ours" else ValueError("a mistake")

    with pytest.raises(DasError, match=r"^no good$"):
        run_stage(RunRecord("test", {}), "fail", work, ["ours"] * 9, shown=False, light=light)
    with pytest.raises(RuntimeError, match=r"(?s)fail failed:.*ValueError: a mistake"):
        run_stage(RunRecord("test", {}), "fail", work, ["theirs"] * 9, shown=False, light=light)


def test_a_worker_that_dies_is_replaced(tmp_path: Path) -> None:
    def work(item: int) -> dict[str, Any]:
        if item == 1 and not (tmp_path / "died").exists():
            (tmp_path / "died").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return {"item": item}

    assert run_stage(RunRecord("test", {}), "die once", work, [0, 1], shown=False, light=True) == [
        {"item": 0},
        {"item": 1},
    ]


def _die(item: int) -> dict[str, Any]:
    os.kill(os.getpid(), signal.SIGKILL)
    return {}


@pytest.mark.slow
def test_one_that_always_dies_is_said_in_a_sentence() -> None:
    with pytest.raises(DasError, match="die: its worker was killed again and again"):
        run_stage(
            RunRecord("test", {}),
            "die",
            lambda item: os.kill(os.getpid(), signal.SIGKILL),
            [0],
            shown=False,
            light=True,
        )


@pytest.mark.parametrize("light", [False, True])
def test_a_process_whose_import_was_cancelled_ends(light: bool, tmp_path: Path) -> None:
    """It could not do the import again for the tasks of later stages."""
    started = tmp_path / "started"
    (tmp_path / "slow_module.py").write_text("from time import sleep\nwhile True:\n    sleep(0.02)\n")

    def work(item: int) -> dict[str, Any]:
        if item == 1:
            started.with_suffix(".new").write_text(str(os.getpid()))
            started.with_suffix(".new").rename(started)
            sys.path.insert(0, str(tmp_path))
            import slow_module  # type: ignore[import-not-found]  # noqa: F401
        while not started.exists():
            time.sleep(0.02)
        time.sleep(1)
        raise DasError("no good")

    with pytest.raises(DasError, match=r"^no good$"):
        run_stage(RunRecord("test", {}), "fail", work, list(range(9)), shown=False, light=light)
    process, until = int(started.read_text()), time.monotonic() + 30
    while Path(f"/proc/{process}").exists() and time.monotonic() < until:
        time.sleep(0.05)
    assert not Path(f"/proc/{process}").exists()
