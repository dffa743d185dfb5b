"""The cost of distilling rows in factors, whose steps touch a batch's rows and not all items."""

from __future__ import annotations

from distill_at_scale.data.dataset import Dataset
from distill_at_scale.distillation.distill_cf_config import OVERSAMPLE, DistillCFConfig

# CPU-seconds on the machine of the packaged rates; from 50 M rows of a million items (jobs/results/factored.json) and
# from a billion rows of as many (jobs/results/billion-rows.json).
_READ_ROW_S = 2e-7
# Of a row and a column of the item vectors, in all passes of the singular value decomposition.
_START_ENTRY_S = 1.15e-7
# Of a row of a batch and a column.
_STEP_ENTRY_S = 1.1e-8
# Of a pair of a synthetic user with another or a real one of a batch, in a step.
_STEP_PAIR_S = 1.2e-7
# Of a score of a validation user; half of it is ranking.
_SCORE_S, _USUAL_RANK = 8e-9, 64
# λ of ∞-AE before the first step; then λ of ∞-AE and of EASE, for the distilled rows and for the sketch.
_SEARCHES, _VALUES = 5, 5


def factored_cpu_s(config: DistillCFConfig, dataset: Dataset, numbers: list[int], steps: list[int]) -> float:
    """Returns the CPU-seconds of Distill-CF with a rank.

    Args:
        config: Its settings.
        dataset: Dataset to distill.
        numbers, steps: Numbers of synthetic users that are tried, and of steps for each.
    """
    assert config.rank is not None
    rank, train = config.rank, dataset.manifest.splits["train"]
    rows = min(config.real_rows, train)
    judged = min(config.validation_users, dataset.n_users) if dataset.manifest.splits.get("validation") else 0
    score_s = judged * dataset.n_items * _SCORE_S * (0.5 + 0.5 * rank / _USUAL_RANK)
    batch_rows = min(config.batch_size, dataset.n_users) * train / max(1, dataset.n_users)
    total = _READ_ROW_S * dataset.n_rows
    for number, n_steps in zip(numbers, steps):
        step_s = _STEP_ENTRY_S * batch_rows * rank + _STEP_PAIR_S * number * (number + config.batch_size)
        evaluations = _SEARCHES * _VALUES + n_steps / config.validate_every + 1
        total += _START_ENTRY_S * rows * (rank + OVERSAMPLE) + n_steps * step_s + evaluations * score_s
    return total
