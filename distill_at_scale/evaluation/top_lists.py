"""The top-10 lists of some users, by which two fits of a model are compared: how much of a list changes?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from distill_at_scale.data import hashing

N_LISTS = 256
"""Users whose lists are kept, about."""
LENGTH = 10


@dataclass
class TopLists:
    """Lists of users who are drawn by their number, so the same in every evaluation on a dataset.

    Attributes:
        share: Probability of a user.
        lists: Number of the user → items, the best first.
    """

    share: float
    lists: dict[int, list[int]] = field(default_factory=dict)

    @staticmethod
    def of(n_users: int) -> TopLists:
        """For a dataset with that many users."""
        return TopLists(min(N_LISTS / max(n_users, 1), 1.0))

    def add(self, users: np.ndarray, items: np.ndarray, valid: np.ndarray) -> None:
        """Adds the lists, int32 [b, K] with their valid entries, of users int64 [b]."""
        for k in np.flatnonzero(hashing.drawn(hashing.stream("evaluate/lists"), users, self.share)):
            self.lists[int(users[k])] = items[k, :LENGTH][valid[k, :LENGTH]].tolist()

    def merge(self, other: TopLists) -> None:
        """Adds the lists of other users."""
        self.lists |= other.lists


def changed_share(first: Mapping[int, Sequence[int]], second: Mapping[int, Sequence[int]]) -> float | None:
    """Returns the share of a user's list that the other list lacks, as a mean over the users of both; None without
    any."""
    shares = [
        1.0 - len({*first[user]} & {*second[user]}) / len(first[user])
        for user in first.keys() & second.keys()
        if first[user]
    ]
    return float(np.mean(shares)) if shares else None
