"""The samples of a forecast: shares of the train rows, each a fixed part of the next."""

from __future__ import annotations

LEAST_USERS = 8
"""Mean number of users of the smallest sample; fewer teach nothing."""
FALLS = (4.0, 2.5, 2.0)
"""How many times smaller a sample is than the next one: the first of these that leaves the smallest enough users.
The largest sample tells quality on all rows; the others tell whether this log rises as others did, and by how much
costs grow, which they do better, and cheaper, when they are far apart."""


def nested_shares(users: int, up_to: float, wanted: int) -> list[float]:
    """Returns the shares of the train rows, ascending, at most ``wanted``: ``up_to``, and parts of it.

    Args:
        users: Number of users of the log, of whom samples have their share.
        up_to: Share of the largest sample, in (0, 1].
        wanted: Number of samples; there are fewer where even halves have too few users.
    """
    for fall in FALLS:
        found = [up_to / fall**k for k in range(wanted)]
        if users * found[-1] >= LEAST_USERS:
            break
    return [share for share in found[::-1] if users * share >= LEAST_USERS]
