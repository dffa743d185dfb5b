"""Samplers: each gives the train rows, users or graph nodes of a dataset a number; a budget is a threshold on it."""

from distill_at_scale.samplers.sampler import SAMPLERS, Sampler, find_sampler

__all__ = ["SAMPLERS", "Sampler", "find_sampler"]
