"""How the learning rate changes over a training."""

from __future__ import annotations

from typing import Literal

Schedule = Literal["constant", "linear"]
WARM = 0.1
"""Share of the steps over which a linear schedule rises."""


def rate_share(schedule: Schedule, step: int, n_steps: int) -> float:
    """Returns the share of the learning rate that a step takes.

    Args:
        schedule: ``constant``, or ``linear``: a rise over the first tenth of the steps, times a fall to 0 after the
            last one.
        step: Number of steps before it, below ``n_steps``.
        n_steps: Number of steps of the whole training.
    """
    if schedule == "constant":
        return 1.0
    return min(1.0, (step + 1) / (WARM * n_steps)) * (1 - step / n_steps)
