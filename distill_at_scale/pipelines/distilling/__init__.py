"""Distillation on worker groups."""
