"""Logs with known properties: size, tails, tastes, links between items, change over time, noise.

A user's next item is a multinomial logit choice among the items not yet consumed. Its utility adds up what models of
different kinds live on: popularity (everything), taste clusters (factor models and autoencoders), links between
items (item-item models, next-item models), and items that come and go (what temporal samples keep).
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
# Items that an item leads to; half as strongly the farther one of two.
_LINKS = 2
# How much of a life is how long, as a share of the log's time: an item is at its best for about a month of a year.
_LIFE = 0.1


@dataclass(frozen=True)
class LogDesign:
    """What a log is made of. Utilities are in nats: log 10 = 2.3 makes an item ten times as likely.

    Attributes:
        users, items: how many; an item that nobody takes is not in the log.
        mean_rows: rows a user, on average.
        activity_tail: standard deviation of the logarithm of rows a user.
        popularity_tail: exponent of Zipf's law of the items' base popularity; 0: all alike.
        clusters: taste clusters; every item is of one, every user likes one much and another half as much.
        taste: utility of an item of the user's first cluster.
        links: utility of the items that the last item leads to.
        drift: utility that an item loses within a tenth of the log's time around its peak; 0: nothing changes.
        noise: share of the users who choose without taste and links.
        noise_by_activity: 1: those are the most active users, -1: the least active, 0: any; between: more or less so.
        seed: Random seed.
    """

    users: int = 800
    items: int = 500
    mean_rows: float = 20.0
    activity_tail: float = 0.7
    popularity_tail: float = 0.8
    clusters: int = 8
    taste: float = 2.0
    links: float = 2.0
    drift: float = 0.0
    noise: float = 0.0
    noise_by_activity: float = 0.0
    seed: int = 0


def generate(design: LogDesign) -> pl.DataFrame:
    """A whole log: user_id (Int64) · item_id (Int64) · rating (Float32, 1 … 5) · timestamp (Int64, seconds).

    Every user has at least 5 rows and at most half of the items, each item once. All users advance together, one row
    a step, so time and memory are those of (rows of the most active user) × users × items.

    Raises:
        DasError: when there are too few items to choose from, or no users.
    """
    if design.users < 1 or design.items < 2 * _FEWEST_ROWS or design.clusters < 1:
        raise DasError(f"a log needs a user, a cluster and {2 * _FEWEST_ROWS} items at least; give it more.")
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
        # Gumbel's trick: the largest of utility + noise is a draw of the logit model.
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
    """int64 [users]: rows of each, log-normal."""
    spread = design.activity_tail
    drawn = design.mean_rows * np.exp(spread * rng.standard_normal(design.users) - spread**2 / 2)
    return np.clip(np.round(drawn), _FEWEST_ROWS, design.items // 2).astype(np.int64)


def _noisy(design: LogDesign, counts: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """bool [users]: who chooses without taste."""
    rank = np.argsort(np.argsort(counts, kind="stable")) / len(counts)
    pull = design.noise_by_activity
    order = pull * rank + (1 - abs(pull)) * rng.random(len(counts))
    noisy = np.zeros(len(counts), dtype=bool)
    noisy[np.argsort(-order)[: round(design.noise * len(counts))]] = True
    return noisy


def _links(items: int, rng: np.random.Generator) -> np.ndarray:
    """int64 [items, _LINKS]: the items that each leads to, along one round trip through all of them."""
    trip = rng.permutation(items)
    place = np.argsort(trip)
    return np.stack([trip[(place + k + 1) % items] for k in range(_LINKS)], axis=1)


def _times(counts: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """float64 [rows of the most active, users]: when each row happens, as a share of the log's time, ascending."""
    begin = rng.random(len(counts)) * 0.8
    span = (1 - begin) * rng.uniform(0.2, 1.0, len(counts))
    gaps = rng.standard_exponential((int(counts.max()), len(counts)))
    gaps[np.arange(len(gaps))[:, None] >= counts] = 0
    passed = np.cumsum(gaps, axis=0)
    return begin + span * passed / passed[-1]
