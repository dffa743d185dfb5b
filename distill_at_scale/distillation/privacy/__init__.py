"""Distill-CF with differential privacy for each user: DP-SGD from a noised start."""
