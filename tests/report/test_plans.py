"""Tables of plans."""

from __future__ import annotations

import pytest

from distill_at_scale.pipelines.planning.cluster import Cluster
from distill_at_scale.pipelines.planning.plan import plan_of, step
from distill_at_scale.report.plans import duration, show_plan


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (None, "unknown"),
        (0.0, "< 0.1 s"),
        (0.1, "0.1 s"),
        (119, "119 s"),
        (252, "4.2 min"),
        (7200, "2 h"),
        (95 * 3600, "95 h"),
        (10 * 86400, "10 days"),
        (1.42e6 * 3600, "162 years"),
        (2.67e8 * 3600, "30,500 years"),
    ],
)
def test_durations_are_said_in_units_that_a_reader_knows(seconds: float | None, said: str) -> None:
    assert duration(seconds) == said


def test_memory_that_no_node_has_is_not_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    cluster = Cluster.named("1x4x16")
    show_plan(plan_of("fit", "work", cluster, 1, [step("a", cluster, 1, 2.0**40, 5.0)], result_bytes=0))
    shown = capsys.readouterr().out
    assert "more than a node has: 1.0 TiB for one task" in shown
    assert "a needs 1.0 TiB for a task, but no node gives that much to one" in shown
    assert "0 B at most on a node" not in shown
