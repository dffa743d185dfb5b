"""Measuring recommenders: ranking metrics over the whole catalogue, streamed and mergeable."""

from distill_at_scale.evaluation.metrics import inverse_propensities
from distill_at_scale.evaluation.ranking import EvaluationResult, RankingEvaluator, evaluate

__all__ = ["EvaluationResult", "RankingEvaluator", "evaluate", "inverse_propensities"]
