"""Farzi: a log of sequences distilled into a few latent ones."""

from __future__ import annotations

from distill_at_scale.distillation.farzi.distiller import Farzi, FarziConfig
from distill_at_scale.distillation.farzi.latent import LatentSequences
from distill_at_scale.distillation.farzi.lessons import Lesson, Lessons, outer_loss
from distill_at_scale.distillation.farzi.schooling import Curriculum, school, train_student
from distill_at_scale.distillation.farzi.start import Teacher, real_sequences, start_from_teachers

__all__ = [
    "Curriculum",
    "Farzi",
    "FarziConfig",
    "LatentSequences",
    "Lesson",
    "Lessons",
    "Teacher",
    "outer_loss",
    "real_sequences",
    "school",
    "start_from_teachers",
    "train_student",
]
