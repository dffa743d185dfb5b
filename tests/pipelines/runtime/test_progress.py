"""What is shown while a verb runs: one line each, cut where the terminal ends; estimates once they mean something."""

from __future__ import annotations

import io
import logging

import pytest
from rich.console import Console, Group, RenderableType

from distill_at_scale.pipelines.runtime import progress
from distill_at_scale.pipelines.sweeps.trial_table import TrialTable


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, which only the test moves."""
    now = [1000.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def shown(thing: RenderableType, columns: int) -> list[str]:
    out = io.StringIO()
    Console(file=out, width=columns, force_terminal=True, color_system=None).print(Group(thing))
    return out.getvalue().splitlines()


@pytest.mark.parametrize("columns", [20, 80, 140])
def test_a_board_takes_a_line_a_trial(columns: int) -> None:
    board = TrialTable("fit", 40, best_by="ndcg@10")
    labels = {"data": "svp_infinite_ae_users_prop-0.5", "model": "infinite_ae"}
    for k in range(12):
        board.begin(f"trial-{k}", labels)
    board.end("trial-0", "", {"ndcg@10": 0.1234})
    lines = shown(board.table(columns), columns)
    # Its state, eight trials and how many more there are.
    assert len(lines) == 10
    assert all(len(line) <= columns for line in lines)
    assert lines[0].startswith("fit: 1/40 done")
    assert lines[-1].strip().startswith("and 3 more")
    assert all(line.rstrip().endswith("0 s") for line in lines[1:9])
    assert ("…" in lines[0]) == (columns < 140)
    if columns == 140:
        assert "best ndcg@10 0.1234 (data svp_infinite_ae_users_prop-0.5  model infinite_ae)" in lines[0]


@pytest.mark.parametrize("columns", [20, 80, 140])
def test_a_stage_is_one_line(columns: int, clock: list[float]) -> None:
    bar = progress._Bar("train svp_infinite_ae proxy", 1_000_000)
    bar.advance(250_000)
    clock[0] += 100
    (line,) = shown(bar.line(columns), columns)
    assert len(line) <= columns
    assert ("about 5 min left" in line) == (columns >= 80)
    bar.close()
    (line,) = shown(bar.line(columns), columns)
    assert len(line) <= columns
    assert ("2 min" in line) == (columns >= 80)


def test_an_estimate_waits_until_it_means_something(clock: list[float]) -> None:
    left = progress.TimeLeft(100)
    clock[0] += 4
    assert left.seconds(50) is None, "too early"
    clock[0] += 6
    assert left.seconds(0) is None, "nothing to go by"
    assert left.seconds(4) is None, "too little"
    assert left.seconds(10) == pytest.approx(90)
    assert left.seconds(10, running=10) is None, "the first to end of those that began together"
    assert left.seconds(100) is None
    clock[0] += 50
    assert left.seconds(1) == pytest.approx(60 * 99), "after a minute any is better than none"
    assert left.words(10) == "about 9 min left"


def test_what_an_earlier_run_did_is_not_this_ones_speed(clock: list[float]) -> None:
    left = progress.TimeLeft(1000)
    clock[0] += 30
    left.skip(600)
    assert left.seconds(600) is None
    clock[0] += 10
    assert left.seconds(700) == pytest.approx(30)


@pytest.mark.parametrize(("seconds", "words"), [(1.4, "1 s"), (89, "89 s"), (200, "3 min"), (9000, "2.5 h")])
def test_durations_in_words(seconds: float, words: str) -> None:
    assert progress.in_words(seconds) == words


def test_notes_go_where_logging_is_set_up(capsys: pytest.CaptureFixture[str]) -> None:
    progress.say("to standard error")
    package, lines = logging.getLogger("distill_at_scale"), io.StringIO()
    handler = logging.StreamHandler(lines)
    level = package.level
    package.addHandler(handler)
    package.setLevel(logging.INFO)
    try:
        progress.say("to the log")
        assert progress.terminal() is None, "pytest is no terminal"
    finally:
        package.removeHandler(handler)
        package.setLevel(level)
    assert capsys.readouterr().err == "to standard error\n"
    assert lines.getvalue() == "to the log\n"
