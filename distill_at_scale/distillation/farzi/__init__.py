"""Farzi: a log of sequences distilled into a few latent ones."""

from __future__ import annotations

from distill_at_scale.distillation.farzi.config import FarziConfig
from distill_at_scale.distillation.farzi.consensus import consensus
from distill_at_scale.distillation.farzi.distiller import Farzi
from distill_at_scale.distillation.farzi.fitting import fit_sequences, settings_for
from distill_at_scale.distillation.farzi.latent import LatentSequences
from distill_at_scale.distillation.farzi.lessons import Lesson, Lessons, outer_loss, unlikeness
from distill_at_scale.distillation.farzi.packing import pack, unpack
from distill_at_scale.distillation.farzi.real import drawn_rows
from distill_at_scale.distillation.farzi.recipe import FarziRecipe, start_by, starters
from distill_at_scale.distillation.farzi.schooling import Curriculum, school, train_student
from distill_at_scale.distillation.farzi.start import Teacher, real_sequences, start_from_teachers
from distill_at_scale.distillation.farzi.teachers import WindowExamples, is_on_the_way, teacher_model

__all__ = [
    "Curriculum",
    "Farzi",
    "FarziConfig",
    "FarziRecipe",
    "LatentSequences",
    "Lesson",
    "Lessons",
    "Teacher",
    "WindowExamples",
    "consensus",
    "drawn_rows",
    "fit_sequences",
    "is_on_the_way",
    "outer_loss",
    "pack",
    "real_sequences",
    "school",
    "settings_for",
    "start_by",
    "start_from_teachers",
    "starters",
    "teacher_model",
    "train_student",
    "unlikeness",
    "unpack",
]
