"""How fast quality rises with the rows, as other logs taught.

The rungs of one log are few and noisy: their slope tells less of the way to all rows than the place that a curve has
reached. On logs of several families the local exponent of a personalised model, d ln q / d ln p, falls with its quality
q and, a little, with the users n of the sample: a + b ln q + c ln n. It was learned from models in closed form (ease,
svd_ae, infinite_ae); jobs/results/README.md has its errors, by family of logs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_TINY = 1e-9
# Errors of ln q below this count as none, so that the logs that are told exactly do not decide.
_SMALL = 0.03
_ROUNDS = 100


@dataclass(frozen=True)
class Growth:
    """The law a + b ln q + c ln n.

    Attributes:
        offset, level, users: a, b and c.
    """

    offset: float
    level: float
    users: float

    def rise(self, quality: np.ndarray, share: float, users: float) -> np.ndarray:
        """ln of what all rows give beyond a share of them; at least 0, float64 as ``quality``.

        Args:
            quality: Quality at that share, in [0, 1].
            share: Share of the train rows, in (0, 1].
            users: Number of users there.
        """
        exponent = self.offset + self.level * np.log(np.maximum(quality, _TINY)) + self.users * np.log(max(users, 1.0))
        return np.maximum(exponent, 0.0) * -np.log(share)


def learn_growth(
    quality: np.ndarray, share: np.ndarray, users: np.ndarray, at_all: np.ndarray, logs: Sequence[str]
) -> Growth:
    """Fits the law to forecasts whose truth is known, by least absolute errors of ln q, every log weighing alike.

    Absolute errors, smooth near 0, by reweighted least squares: a few tiny logs are far off whatever the law says.

    Args:
        quality, share, users: float64 [n], of each curve's largest rung.
        at_all: float64 [n], quality on all rows.
        logs: Name of the log of each.
    """
    rows = -np.log(share)
    x = np.stack([rows, rows * np.log(np.maximum(quality, _TINY)), rows * np.log(np.maximum(users, 1.0))], axis=1)
    y = np.log(np.maximum(at_all, _TINY) / np.maximum(quality, _TINY))
    _, log, count = np.unique(np.array(logs), return_inverse=True, return_counts=True)
    each = 1.0 / count[log]
    weights = each
    found = np.zeros(3)
    for _ in range(_ROUNDS):
        root = np.sqrt(weights)
        found = np.linalg.lstsq(x * root[:, None], y * root, rcond=None)[0]
        weights = each / np.hypot(y - x @ found, _SMALL)
    return Growth(*map(float, found))
