"""Evaluation of recommenders: ranking metrics over the whole catalogue, streamed and mergeable."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from distill_at_scale.evaluation.metrics import inverse_propensities
    from distill_at_scale.evaluation.ranking import EvaluationResult, RankingEvaluator, evaluate

# The command line's help and completion need only the names of the metrics.
_HOMES = {
    "inverse_propensities": "metrics",
    **dict.fromkeys(("EvaluationResult", "RankingEvaluator", "evaluate"), "ranking"),
}

__all__ = ["EvaluationResult", "RankingEvaluator", "evaluate", "inverse_propensities"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
