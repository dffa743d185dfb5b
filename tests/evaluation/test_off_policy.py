"""Off-policy estimates against what a simulated policy really earns."""

from __future__ import annotations

import numpy as np
import pytest

from distill_at_scale.evaluation.off_policy import LoggedRows, OffPolicySums

USERS, ITEMS, K = 400, 12, 3


def logged(support: int, seed: int = 0) -> tuple[LoggedRows, np.ndarray]:
    """Each user saw one of the first ``support`` items, the likelier the smaller its number; rewards by item."""
    rng = np.random.default_rng(seed)
    p = np.zeros(ITEMS)
    p[:support] = np.arange(support, 0, -1) / (support * (support + 1) / 2)
    items = rng.choice(ITEMS, USERS * 50, p=p)
    value = np.linspace(0.1, 0.8, ITEMS)
    rewards = (rng.random(len(items)) < value[items]).astype(float)
    return LoggedRows(np.repeat(np.arange(USERS), 50), items.astype(np.int32), p[items], rewards), value


def estimate(rows: LoggedRows, shown: list[int], parts: int = 1) -> dict[str, float]:
    sums = OffPolicySums(K)
    for users in np.array_split(np.arange(USERS), parts):
        part = OffPolicySums(K, rows)
        lists = np.tile(np.array([*shown, 11], dtype=np.int32), (len(users), 1))
        part.add(users, lists, np.ones(lists.shape, dtype=bool))
        sums.merge(part)
    return sums.result()


def test_estimates_are_what_the_policy_earns() -> None:
    rows, value = logged(ITEMS)
    shown = [2, 6, 9]
    found = estimate(rows, shown)
    truth = value[shown].mean()
    assert abs(found["ips"] - truth) < 3 * found["ips_error"]
    assert abs(found["snips"] - truth) < 3 * found["snips_error"]
    # What both weights and rewards share cancels.
    assert found["snips_error"] < found["ips_error"] < 0.05
    assert found["rows"] == USERS * 50
    assert found["matched"] == np.isin(rows.items, shown).sum()
    assert 0 < found["effective_rows"] <= found["matched"]
    assert found["unsupported"] < 0.05
    assert estimate(rows, shown, parts=7) == pytest.approx(found)


def test_actions_that_were_never_logged_lack_support() -> None:
    rows, _ = logged(8)
    assert estimate(rows, [2, 9, 10])["unsupported"] == pytest.approx(2 / 3, abs=0.05)
    none = estimate(rows, [8, 9, 10])
    assert (none["unsupported"], none["effective_rows"], none["ips"]) == (1.0, 0.0, 0.0)
    assert np.isnan(none["snips"])
    assert OffPolicySums(K).result() == {}
