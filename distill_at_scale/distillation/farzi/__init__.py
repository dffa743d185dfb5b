"""Farzi: distills a log of sequences into a few latent sequences."""

from __future__ import annotations

from distill_at_scale.distillation.farzi import levels
from distill_at_scale.distillation.farzi.consensus import consensus
from distill_at_scale.distillation.farzi.distiller import Farzi
from distill_at_scale.distillation.farzi.fitting import fit_sequences, settings_for
from distill_at_scale.distillation.farzi.initial_sequences import initial_sequences, initial_teachers
from distill_at_scale.distillation.farzi.initialisation import (
    Teacher,
    initialise_from_teachers,
    most_sequences,
    real_sequences,
)
from distill_at_scale.distillation.farzi.inner_loop import InnerLoop, run_inner_loop, train_student
from distill_at_scale.distillation.farzi.latent import LatentSequences
from distill_at_scale.distillation.farzi.matching import MatchPoint, gradients_loss, states_loss
from distill_at_scale.distillation.farzi.outer_loss import (
    OuterBatch,
    OuterBatches,
    dissimilarity,
    outer_loss,
    target_vectors,
)
from distill_at_scale.distillation.farzi.quantisation import dequantise, quantise
from distill_at_scale.distillation.farzi.real import drawn_rows
from distill_at_scale.distillation.farzi.teachers import WindowExamples, is_snapshot_epoch, teacher_model
from distill_at_scale.distillation.farzi_config import FarziConfig, FarziLoopConfig

__all__ = [
    "Farzi",
    "FarziConfig",
    "FarziLoopConfig",
    "InnerLoop",
    "LatentSequences",
    "MatchPoint",
    "OuterBatch",
    "OuterBatches",
    "Teacher",
    "WindowExamples",
    "consensus",
    "dequantise",
    "dissimilarity",
    "drawn_rows",
    "fit_sequences",
    "gradients_loss",
    "initial_sequences",
    "initial_teachers",
    "initialise_from_teachers",
    "is_snapshot_epoch",
    "levels",
    "most_sequences",
    "outer_loss",
    "quantise",
    "real_sequences",
    "run_inner_loop",
    "settings_for",
    "states_loss",
    "target_vectors",
    "teacher_model",
    "train_student",
]
