"""The samples of a forecast: nested shares of the train rows."""

from __future__ import annotations

LEAST_USERS = 8
"""Mean number of users of the smallest sample; fewer teach nothing."""
FALLS = (4.0, 2.5, 2.0)
"""How many times smaller a sample is than the next one, and the one before the largest by the square of it: the first
of these that leaves the smallest enough users. The largest sample tells quality on all rows; the others, whether this
log rises as others did, and by how much costs grow, which they do as well, and cheaper, where they are far apart."""


def nested_shares(users: int, up_to: float, wanted: int) -> list[float]:
    """Returns the shares of the train rows, ascending, at most ``wanted``: ``up_to``, and parts of it.

    Args:
        users: Number of users of the log, of whom samples have their share.
        up_to: Share of the largest sample, in (0, 1].
        wanted: Number of samples. Where even the last of :data:`FALLS` leaves too few users they are halves, of which
            there may be fewer.
    """
    for fall in FALLS:
        found = [up_to, *(up_to / fall**k for k in range(2, wanted + 1))]
        if users * found[-1] >= LEAST_USERS:
            return found[::-1]
    halves = [up_to / FALLS[-1] ** k for k in range(wanted)]
    return [share for share in halves[::-1] if users * share >= LEAST_USERS]
