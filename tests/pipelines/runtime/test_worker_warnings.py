"""What a worker warns of, and how it fails, is known on the driver."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from distill_at_scale.errors import DamagedFileError
from distill_at_scale.pipelines.runtime.task_answers import answer_of


def test_a_tasks_warnings_are_repeated(caplog: pytest.LogCaptureFixture) -> None:
    def work() -> dict[str, Any]:
        logging.getLogger("distill_at_scale.data.sealed").warning("%s is damaged", "x")
        logging.getLogger("distill_at_scale.data.sealed").info("nothing of note")
        return {"rows": 1}

    answer = answer_of(work)
    caplog.clear()
    assert answer.take("stage") == {"rows": 1}
    assert caplog.messages == ["x is damaged"]


def test_damage_stays_damage() -> None:
    def work() -> dict[str, Any]:
        raise DamagedFileError("x is damaged.")

    with pytest.raises(DamagedFileError, match=r"x is damaged\."):
        answer_of(work).take("stage")
