"""Farzi: a log of sequences distilled into a few latent ones."""

from __future__ import annotations

from distill_at_scale.distillation.farzi.consensus import consensus
from distill_at_scale.distillation.farzi.distiller import Farzi
from distill_at_scale.distillation.farzi.fitting import fit_sequences, settings_for
from distill_at_scale.distillation.farzi.initialisation import Teacher, real_sequences, start_from_teachers
from distill_at_scale.distillation.farzi.inner_loop import InnerLoop, run_inner_loop, train_student
from distill_at_scale.distillation.farzi.latent import LatentSequences
from distill_at_scale.distillation.farzi.outer_loss import OuterBatch, OuterBatches, outer_loss, unlikeness
from distill_at_scale.distillation.farzi.quantisation import dequantise, quantise
from distill_at_scale.distillation.farzi.real import drawn_rows
from distill_at_scale.distillation.farzi.start import start_by, starters
from distill_at_scale.distillation.farzi.teachers import WindowExamples, is_on_the_way, teacher_model
from distill_at_scale.distillation.farzi_config import FarziConfig, FarziLoopConfig

__all__ = [
    "Farzi",
    "FarziConfig",
    "FarziLoopConfig",
    "InnerLoop",
    "LatentSequences",
    "OuterBatch",
    "OuterBatches",
    "Teacher",
    "WindowExamples",
    "consensus",
    "dequantise",
    "drawn_rows",
    "fit_sequences",
    "is_on_the_way",
    "outer_loss",
    "quantise",
    "real_sequences",
    "run_inner_loop",
    "settings_for",
    "start_by",
    "start_from_teachers",
    "starters",
    "teacher_model",
    "train_student",
    "unlikeness",
]
