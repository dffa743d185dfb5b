"""The order in which trials are given to Ray Tune."""

from __future__ import annotations

import itertools

from distill_at_scale.pipelines.sweeps.trial_order import InTurn


def test_a_trial_waits_for_the_one_before_it() -> None:
    keys = ("a-small", "b-small", "a-large", "b-large")
    after = {"a-large": "a-small", "b-large": "b-small"}
    order = InTurn([{"trial": {"key": key}} for key in keys], after)

    ids = itertools.count()

    def given() -> str | None:
        config = order.suggest(f"id of trial {next(ids)}")
        return None if config is None else config["trial"]["key"]

    assert [given(), given(), given()] == ["a-small", "b-small", None]
    # It failed; a larger rung may not.
    order.on_trial_complete("id of trial 1", error=True)
    assert [given(), given()] == ["b-large", None]
    order.on_trial_complete("id of trial 0", {})
    assert [given(), given()] == ["a-large", None]
