"""How a Ray session starts, and what it leaves alone."""

from __future__ import annotations

import os
import re
from typing import Any

import pytest

from distill_at_scale.errors import ClusterError
from distill_at_scale.pipelines.runtime import session

LATE = "The current node timed out during startup."


def start(monkeypatch: pytest.MonkeyPatch, failures: list[Exception]) -> list[dict[str, str | None]]:
    """Starts Ray, which fails so often; the environment that each start had."""
    environments = []

    def init(options: dict[str, Any]) -> None:
        environments.append({name: os.environ.get(name) for name in session._WORKER_ENV})
        if failures:
            raise failures.pop(0)

    monkeypatch.setattr(session, "_init", init)
    session._start({})
    return environments


def test_a_start_that_took_too_long_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("POLARS_MAX_THREADS", raising=False)
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    environments = start(monkeypatch, [Exception(LATE)] * 2)
    # Ray's processes inherit it; the user's own process gets it back as it was.
    assert environments == [session._WORKER_ENV] * 3
    assert "POLARS_MAX_THREADS" not in os.environ
    assert os.environ["OMP_WAIT_POLICY"] == "ACTIVE"
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "starting Ray…"
    assert said[1:] == ["Ray has not started, perhaps since this machine is busy; trying again…"] * 2


def test_a_start_that_fails_again_and_again_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ClusterError, match=r"timed out during startup\. The machine may be too busy; try again later"):
        start(monkeypatch, [Exception(LATE)] * 3)


def test_what_fails_at_once_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    failures = [ValueError("num_cpus must be positive"), ValueError("again")]
    with pytest.raises(ClusterError, match=re.escape("num_cpus must be positive.")):
        start(monkeypatch, failures)
    assert len(failures) == 1


def test_a_client_for_which_a_busy_cluster_starts_no_process_in_time_tries_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    late = "Initialization failure from server: Starting Ray client server failed. See ray_client_server_23000.err"
    failures: list[Exception] = [ConnectionAbortedError(late)] * 2

    def init(options: dict[str, Any]) -> None:
        if failures:
            raise failures.pop(0)

    monkeypatch.setattr(session, "_init", init)
    monkeypatch.setattr(session.knock, "refusal", lambda address: None)
    monkeypatch.setattr(session.versions, "require_alike", lambda where: None)
    session._join({}, "ray://head:10001")
    assert capsys.readouterr().err.count("trying again…") == 2
    failures += [ConnectionAbortedError(late)] * 3
    with pytest.raises(ClusterError, match=r"ray://head:10001 cannot be reached: .*Run `das doctor`"):
        session._join({}, "ray://head:10001")
    failures[:] = [ConnectionError("refused"), ConnectionError("again")]
    with pytest.raises(ClusterError, match="cannot be reached: refused"):
        session._join({}, "ray://head:10001")
    assert len(failures) == 1


def test_tasks_of_a_failed_stage_are_cancelled_where_the_session_goes_on(
    ray_session: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    cancelled: list[Any] = []
    monkeypatch.setattr("ray.cancel", cancelled.append)
    session.cancel(["in a session without an end"])
    assert len(cancelled) == 1
    monkeypatch.setattr(session, "_left", [])  # as in the block of a session that ends with it
    session.cancel(["in the session's own block"])
    assert len(cancelled) == 1
    with session.ensure():
        session.cancel(["in a verb that another one calls"])
        assert len(cancelled) == 1
    assert len(cancelled) == 3
