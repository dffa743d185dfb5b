"""The samples of a forecast."""

from __future__ import annotations

from itertools import pairwise

import pytest

from distill_at_scale.learning_curves.rungs import FALLS, LEAST_USERS, nested_shares


@pytest.mark.parametrize(
    ("users", "up_to", "shares"),
    [
        (5120, 0.1, [0.0015625, 0.00625, 0.1]),
        (5119, 0.1, [0.0064, 0.016, 0.1]),
        (1250, 0.1, [0.0064, 0.016, 0.1]),
        (1249, 0.1, [0.0125, 0.025, 0.1]),
        (639, 0.1, [0.025, 0.05, 0.1]),
        (319, 0.1, [0.05, 0.1]),
        (100, 0.1, [0.1]),
        (7, 1.0, []),
    ],
)
def test_samples_are_as_far_apart_as_users_suffice(users: int, up_to: float, shares: list[float]) -> None:
    assert nested_shares(users, up_to, 3) == pytest.approx(shares)


def test_no_sample_has_too_few_users_and_the_largest_is_as_asked() -> None:
    for users in range(1, 20_000, 37):
        for wanted in (3, 4, 7):
            found = nested_shares(users, 0.1, wanted)
            assert all(users * share >= LEAST_USERS for share in found)
            assert len(found) <= wanted
            assert found[-1:] == [0.1] * (users * 0.1 >= LEAST_USERS)
            falls = [round(large / small, 9) for small, large in pairwise(found)]
            assert set(falls[:-1]) <= set(FALLS)
            assert len(set(falls[:-1])) <= 1
            # The largest is further from the next, but where users are few.
            assert len(found) < wanted or falls[-1] in (falls[0] ** 2, FALLS[-1])
