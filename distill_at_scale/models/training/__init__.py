"""Gradient training: the loop, its inputs, and the base classes of the models trained by it."""
