"""Synthetic logs with known properties: size, long tails, tastes, links between items, drift, noise.

A user's next item is a multinomial logit choice among the items not yet consumed. The utility is a sum of the signals
that different kinds of models use: popularity (all models), taste clusters (factor models and autoencoders), links
between items (item-item and next-item models), and items whose popularity rises and falls (temporal samplers).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from distill_at_scale.data import hashing
from distill_at_scale.data.columns import Columns
from distill_at_scale.errors import DasError

_BEGIN_S, _SPAN_S = 1_300_000_000, 4 * 365 * 86400
_FEWEST_ROWS = 5
# Number of items to which each item links; the second link is half as strong as the first.
_LINKS = 2
# Time scale of an item's rise and fall, as a share of the log's time: about a month of a year.
_LIFE = 0.1


@dataclass(frozen=True)
class LogDesign:
    """Parameters of a synthetic log. Utilities are in nats: 2.3 = log 10 makes an item ten times as likely."""

    users: int = 800
    items: int = 500
    """Number of users and items; items that no user chooses are not in the log."""
    mean_rows: float = 20.0
    """Mean rows per user."""
    activity_tail: float = 0.7
    """Standard deviation of log(rows per user)."""
    popularity_tail: float = 0.8
    """Exponent of Zipf's law for the items' base popularity; 0: all equal."""
    clusters: int = 8
    """Number of taste clusters; an item belongs to one; a user likes one, and a second half as much."""
    taste: float = 2.0
    """Utility of an item of the user's first cluster."""
    links: float = 2.0
    """Utility of the items to which the user's last item links."""
    drift: float = 0.0
    """Utility that an item loses per tenth of the log's time away from its peak; 0: no drift."""
    noise: float = 0.0
    """Share of the users who ignore taste and links."""
    noise_by_activity: float = 0.0
    """Which users are noisy. 1: the most active; -1: the least active; 0: random."""
    seed: int = 0
    """Random seed."""


def generate_log(design: LogDesign) -> pl.DataFrame:
    """Generates a log: user_id (Int64) · item_id (Int64) · rating (Float32, 1 … 5) · timestamp (Int64, seconds).

    Every user has at least 5 rows and at most half of the items, each item once. All users advance together, one row
    per step: time is proportional to (rows of the most active user) × users × items, memory to users × items.

    Raises:
        DasError: There are too few users, items or clusters.
    """
    if design.users < 1 or design.items < 2 * _FEWEST_ROWS or design.clusters < 1:
        raise DasError(f"a log needs at least 1 user, 1 cluster and {2 * _FEWEST_ROWS} items.")
    rng = np.random.default_rng(hashing.stream("genie/generated log", design.seed))
    counts = _activity(design, rng)
    popularity = np.log1p(np.arange(design.items)) * -design.popularity_tail
    cluster = rng.integers(0, design.clusters, design.items)
    rng.shuffle(popularity)
    first = rng.integers(0, design.clusters, design.users)
    second = rng.integers(0, design.clusters, design.users)
    liking = np.float32(design.taste) * ((first[:, None] == cluster) + 0.5 * (second[:, None] == cluster))
    heed = ~_noisy(design, counts, rng)
    liking = np.where(heed[:, None], liking, 0).astype(np.float32)
    follows = _links(design.items, rng)
    peak = rng.random(design.items)
    when = _times(counts, rng)

    base = (popularity + liking).astype(np.float32)
    last = np.full(design.users, -1)
    users, items = [], []
    for step in range(int(counts.max())):
        active = np.flatnonzero(counts > step)
        utility = base[active]
        if design.drift:
            now = when[step, active]
            utility -= np.float32(design.drift) * np.minimum(np.abs(now[:, None] - peak) / _LIFE, 3).astype(np.float32)
        if design.links and step:
            led = np.flatnonzero(heed[active])
            for distance in range(_LINKS):
                utility[led, follows[last[active[led]], distance]] += np.float32(design.links / (distance + 1))
        # Gumbel-max trick: argmax(utility + Gumbel noise) is a draw from the logit model.
        draw = rng.standard_exponential(utility.shape, dtype=np.float32)
        chosen = (utility - np.log(np.maximum(draw, np.finfo(np.float32).tiny))).argmax(1)
        base[active, chosen] = -np.inf
        last[active] = chosen
        users.append(active)
        items.append(chosen)
    user, item = np.concatenate(users), np.concatenate(items)
    row = np.repeat(np.arange(len(users)), [len(part) for part in users])
    # Ratings follow taste, with noise of one star.
    stars = 3 + liking[user, item] - liking[user].mean(1) + rng.standard_normal(len(user))
    frame = pl.DataFrame(
        {
            Columns.USER_ID: user.astype(np.int64),
            Columns.ITEM_ID: item.astype(np.int64),
            Columns.RATING: np.clip(np.round(stars), 1, 5).astype(np.float32),
            Columns.TIMESTAMP: (_BEGIN_S + when[row, user] * _SPAN_S).astype(np.int64),
        }
    )
    return frame.sort(Columns.USER_ID, Columns.TIMESTAMP, maintain_order=True)


def _activity(design: LogDesign, rng: np.random.Generator) -> np.ndarray:
    """Returns the number of rows of each user, int64 [users], log-normal."""
    spread = design.activity_tail
    drawn = design.mean_rows * np.exp(spread * rng.standard_normal(design.users) - spread**2 / 2)
    return np.clip(np.round(drawn), _FEWEST_ROWS, design.items // 2).astype(np.int64)


def _noisy(design: LogDesign, counts: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns the users who ignore taste and links, bool [users]."""
    rank = np.argsort(np.argsort(counts, kind="stable")) / len(counts)
    pull = design.noise_by_activity
    order = pull * rank + (1 - abs(pull)) * rng.random(len(counts))
    noisy = np.zeros(len(counts), dtype=bool)
    noisy[np.argsort(-order)[: round(design.noise * len(counts))]] = True
    return noisy


def _links(items: int, rng: np.random.Generator) -> np.ndarray:
    """Returns the items to which each item links, int64 [items, _LINKS]: its successors on one cycle through all
    items."""
    trip = rng.permutation(items)
    place = np.argsort(trip)
    return np.stack([trip[(place + k + 1) % items] for k in range(_LINKS)], axis=1)


def _times(counts: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns the time of each row as a share of the log's time, float64 [most rows of a user, users], ascending."""
    begin = rng.random(len(counts)) * 0.8
    span = (1 - begin) * rng.uniform(0.2, 1.0, len(counts))
    gaps = rng.standard_exponential((int(counts.max()), len(counts)))
    gaps[np.arange(len(gaps))[:, None] >= counts] = 0
    passed = np.cumsum(gaps, axis=0)
    return begin + span * passed / passed[-1]
