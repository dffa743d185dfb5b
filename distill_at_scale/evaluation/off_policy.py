"""Off-policy estimates: what would users have done if the model had chosen what they saw?

The log must hold, for each row, the probability with which the system of that time showed the item to the user. The
policy to be evaluated shows one of the model's k best items, each with probability 1/k.

Source: Horvitz and Thompson (1952) for IPS; Swaminathan and Joachims, "The self-normalized estimator for counterfactual
learning" (NIPS 2015) for SNIPS; Kong, "A note on importance sampling using standardized weights" (1992) for the
effective sample size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np


@dataclass
class LoggedRows:
    """Held-out rows of a shard with their logged propensities, ordered by user.

    Attributes:
        users: int64 [rows], user numbers.
        items: int32 [rows].
        propensities: float64 [rows], in (0, 1].
        rewards: float64 [rows].
    """

    users: np.ndarray
    items: np.ndarray
    propensities: np.ndarray
    rewards: np.ndarray


@dataclass
class OffPolicySums:
    """Accumulates importance weights; mergeable, and of constant size.

    Attributes:
        k: Number of items that the policy chooses from.
        logged: Rows of the shard that is being added.
        sums: Rows, rows whose item the policy shows, and Σ w, Σ w², Σ w r, Σ w² r, Σ w² r².
    """

    k: int
    logged: LoggedRows | None = None
    sums: np.ndarray = field(default_factory=lambda: np.zeros(7))

    def add(self, users: np.ndarray, items: np.ndarray, valid: np.ndarray) -> None:
        """Adds users with their lists.

        Args:
            users: int64 [b], ascending.
            items, valid: [b, K], their lists, and which entries hold an item.
        """
        assert self.logged is not None
        rows = np.flatnonzero(np.isin(self.logged.users, users))
        at = np.searchsorted(users, self.logged.users[rows])
        lists, there = items[at, : self.k], valid[at, : self.k]
        shown = ((lists == self.logged.items[rows, None]) & there).any(axis=1)
        w = shown / np.maximum(there.sum(axis=1), 1) / self.logged.propensities[rows]
        r = self.logged.rewards[rows]
        self.sums = self.sums + np.array(
            [len(rows), shown.sum(), w.sum(), (w * w).sum(), (w * r).sum(), (w * w * r).sum(), (w * w * r * r).sum()]
        )

    def merge(self, other: OffPolicySums) -> None:
        """Adds the sums over other users."""
        self.sums = self.sums + other.sums

    def result(self) -> dict[str, float]:
        """Returns the estimates.

        ``ips`` and ``snips`` are mean rewards with standard errors ``ips_error`` and ``snips_error``; ``rows`` were
        logged, of which ``matched`` have an item that the policy shows; ``effective_rows`` is Kong's (Σ w)² / Σ w²;
        ``unsupported`` is the share of the policy's actions that the logging system never took: E[w] is 1 where it took
        all of them, so what its mean lacks is their share, up to the error of this mean.
        """
        n, matched, w, ww, wr, wwr, wwrr = (float(one) for one in self.sums)
        if not n:
            return {}
        ips, snips = wr / n, wr / w if w else math.nan
        # The delta method for a ratio of two means.
        spread = wwrr - 2.0 * snips * wwr + snips * snips * ww if w else math.nan
        return {
            "ips": ips,
            "ips_error": math.sqrt(max(wwrr / n - ips * ips, 0.0) / n),
            "snips": snips,
            "snips_error": math.sqrt(max(spread, 0.0)) / w if w else math.nan,
            "rows": n,
            "matched": matched,
            "effective_rows": w * w / ww if ww else 0.0,
            "unsupported": max(1.0 - w / n, 0.0),
        }
