"""Standard errors of differences between two averages over the same users, from mergeable sums over user groups."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from distill_at_scale.data import hashing

N_GROUPS = 64
_STREAM = hashing.stream("evaluation/groups")


@dataclass
class UserGroups:
    """Sums of metrics over groups of users; the groups are the same in every evaluation, the state one number each.

    Attributes:
        counts: float64 [N_GROUPS], number of users in each group.
        sums: metric -> float64 [N_GROUPS], sums of their values.
    """

    counts: np.ndarray = field(default_factory=lambda: np.zeros(N_GROUPS))
    sums: dict[str, np.ndarray] = field(default_factory=dict)

    def add(self, users: np.ndarray, values: dict[str, np.ndarray]) -> None:
        """Adds users: their numbers int64 [n], and their values [n] of each metric."""
        group = hashing.share(hashing.combine(_STREAM, users.astype(np.uint64)), N_GROUPS)
        self.counts += np.bincount(group, minlength=N_GROUPS)
        for metric, of_users in values.items():
            added = np.bincount(group, weights=of_users, minlength=N_GROUPS)
            self.sums[metric] = self.sums.get(metric, 0.0) + added

    def merge(self, other: UserGroups) -> None:
        """Adds the sums over other users."""
        self.counts += other.counts
        for metric, sums in other.sums.items():
            self.sums[metric] = self.sums.get(metric, 0.0) + sums


def difference_error(first: np.ndarray, second: np.ndarray, counts: np.ndarray) -> float:
    """Standard error of the difference between two averages over the same users; 0 for a single group.

    Groups are random, so their differences vary as those of users do: this is the error of a ratio of two sums over
    primary sampling units (Cochran, "Sampling techniques", 3rd edition 1977, section 6.4).

    Args:
        first, second: float64 [groups], sums over the users of each group.
        counts: float64 [groups], number of users in each group.
    """
    filled = counts > 0
    n_groups, n_users = int(filled.sum()), float(counts.sum())
    if n_groups < 2:
        return 0.0
    difference = (first - second)[filled]
    rest = difference - difference.sum() / n_users * counts[filled]
    return float(np.sqrt(n_groups / (n_groups - 1) * np.square(rest).sum()) / n_users)
