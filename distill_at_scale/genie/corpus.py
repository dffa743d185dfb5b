"""The small logs on which Data-Genie is trained: generated logs and subsets of real logs.

Names are ``family--subset``, or the family alone for a generated log. Subsets of one log share users and items, so they
are not independent: cross-validation holds out whole families (:func:`family`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from distill_at_scale.data import hashing
from distill_at_scale.data.columns import Columns, SplitRule
from distill_at_scale.genie import log_subsets
from distill_at_scale.genie.synthetic_logs import LogDesign, generate_log

_SEPARATOR = "--"
_N_GENERATED = 27
_MOST_ROWS = 36_000


@dataclass(frozen=True)
class Entry:
    """One log.

    Attributes:
        name: Name of the dataset made from it.
        split: Split rule of the dataset.
        source: Name of the real log of which it is a subset; None for a generated log.
        make: Function that makes the log, from the source's rows or, for a generated log, from no argument.
    """

    name: str
    split: SplitRule
    source: str | None
    make: Callable[..., pl.DataFrame]


@dataclass(frozen=True, slots=True)
class RealLog:
    """A real log of which subsets are made."""

    file: str
    """File name in the folder that the user passes."""
    split: SplitRule
    """Split rule of the subsets."""
    columns: tuple[str, ...] = ()
    """Columns of a file without a header."""


SOURCES = {
    "ml-100k": RealLog("ml-100k.inter", "leave_2"),
    "ml-1m": RealLog("ml-1m.parquet", "20_percent_hist"),
    "beauty": RealLog("amazon-beauty-5core.txt", "leave_2"),
    "toys": RealLog("amazon-toys-5core.txt", "leave_2"),
    "amazon": RealLog(
        "amazon-ratings.tsv", "leave_2", (Columns.USER_ID, Columns.ITEM_ID, Columns.RATING, Columns.TIMESTAMP)
    ),
    "yelp": RealLog("yelp-ratings.tsv", "20_percent_hist", (Columns.USER_ID, Columns.ITEM_ID, Columns.RATING)),
}
"""The real logs, by name."""

_SUBSETS: dict[str, dict[str, Callable[[pl.DataFrame], pl.DataFrame]]] = {
    "ml-100k": {
        "random": lambda log: log_subsets.popular_items(log_subsets.random_users(log, 400), 900),
        "casual": lambda log: log_subsets.active_users(log, 600, most=False),
        "early": lambda log: log_subsets.window(log, 0.0, 0.35),
        "late": lambda log: log_subsets.window(log, 0.65, 1.0),
        "tail": lambda log: log_subsets.popular_items(log, 1200, most=False),
        "hits": lambda log: log_subsets.random_users(log_subsets.popular_items(log, 200), 800),
    },
    "ml-1m": {
        "random": lambda log: log_subsets.popular_items(log_subsets.random_users(log, 420), 800),
        "casual": lambda log: log_subsets.popular_items(log_subsets.active_users(log, 1400, most=False), 900),
        "tail": lambda log: log_subsets.popular_items(
            log_subsets.random_users(log_subsets.popular_items(log, 2200, most=False), 1400), 1000
        ),
        "hits": lambda log: log_subsets.random_users(log_subsets.popular_items(log, 300), 600),
    },
    "beauty": {
        "hits": lambda log: log_subsets.random_users(log_subsets.k_core(log_subsets.popular_items(log, 800), 5), 1500),
        "active": lambda log: log_subsets.popular_items(log_subsets.active_users(log, 1200), 1000),
        "core": lambda log: log_subsets.random_users(log_subsets.k_core(log, 8), 1400),
    },
    "toys": {
        "hits": lambda log: log_subsets.random_users(log_subsets.k_core(log_subsets.popular_items(log, 800), 5), 1500),
        "active": lambda log: log_subsets.popular_items(log_subsets.active_users(log, 1200), 1000),
        "core": lambda log: log_subsets.random_users(log_subsets.k_core(log, 8), 1400),
    },
    "amazon": {
        "random": lambda log: log_subsets.popular_items(log_subsets.random_users(log, 900), 1000),
        "hits": lambda log: log_subsets.random_users(log_subsets.popular_items(log, 300), 1400),
        "late": lambda log: log_subsets.random_users(log_subsets.window(log, 0.7, 1.0), 1200),
    },
    "yelp": {
        "hits": lambda log: log_subsets.random_users(log_subsets.popular_items(log, 600), 2500),
        "active": lambda log: log_subsets.popular_items(log_subsets.active_users(log, 500), 1000),
        "core": lambda log: log_subsets.random_users(log_subsets.k_core(log, 8), 1200),
    },
}


def corpus() -> list[Entry]:
    """Returns all logs; generated logs and subsets of real logs alternate, so that any prefix of the list is mixed."""
    made: list[Entry] = []
    for k, design in enumerate(designs(_N_GENERATED)):
        split: SplitRule = "leave_2" if k % 2 else "20_percent_hist"
        made.append(Entry(f"generated-{k:02d}", split, None, lambda design=design: generate_log(design)))
    subsets = [
        Entry(f"{source}{_SEPARATOR}{name}", SOURCES[source].split, source, _cored(make))
        for source, several in _SUBSETS.items()
        for name, make in several.items()
    ]
    # The subsets are spread over the list in a random order, so that every source appears early.
    order = np.random.default_rng(hashing.stream("genie/order of logs")).permutation(len(subsets))
    positions = np.linspace(0, len(made), len(subsets), endpoint=False)
    placed = [*zip(positions, (subsets[k] for k in order)), *enumerate(made)]
    return [entry for _, entry in sorted(placed, key=lambda one: one[0])]


def family(name: str, fingerprint: str) -> str:
    """Returns the real log of which a dataset is a subset, from its name; its own fingerprint if it is not a subset."""
    source, separator, _ = name.partition(_SEPARATOR)
    return source if separator else fingerprint


def designs(n: int, seed: int = 0) -> list[LogDesign]:
    """Returns ``n`` designs that cover the ranges of all properties evenly: a Latin hypercube.

    Source: McKay, Beckman, Conover, "A comparison of three methods for selecting values of input variables" (1979).
    """
    rng = np.random.default_rng(hashing.stream("genie/designs", seed))
    names = ("users", "items", "rows", "activity", "popularity", "clusters", "taste", "links", "drift", "noise", "who")
    at = {name: (rng.permutation(n) + rng.random(n)) / n for name in names}
    found = []
    for k in range(n):
        users = round(400 * (1400 / 400) ** at["users"][k])
        mean_rows = min(10 * (45 / 10) ** at["rows"][k], _MOST_ROWS / users)
        design = LogDesign(
            users=users,
            items=round(200 * (1000 / 200) ** at["items"][k]),
            mean_rows=mean_rows,
            activity_tail=0.3 + 0.8 * at["activity"][k],
            popularity_tail=0.2 + 1.1 * at["popularity"][k],
            clusters=round(3 * 10 ** at["clusters"][k]),
            taste=0.5 + 3.0 * at["taste"][k],
            links=4.5 * at["links"][k],
            # Half of the logs have no drift, and a third have no noise.
            drift=max(0.0, 4 * at["drift"][k] - 2),
            noise=max(0.0, 0.75 * at["noise"][k] - 0.25),
            noise_by_activity=2 * at["who"][k] - 1,
        )
        found.append(replace(design, seed=seed * n + k))
    return found


def _cored(make: Callable[[pl.DataFrame], pl.DataFrame]) -> Callable[[pl.DataFrame], pl.DataFrame]:
    return lambda log: log_subsets.k_core(make(log), 3).sort(Columns.USER_ID, maintain_order=True)
