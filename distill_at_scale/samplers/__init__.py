"""Samplers: each gives the train rows, users or graph nodes of a dataset a number; a budget is a threshold on it."""
