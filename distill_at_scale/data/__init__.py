"""Logs, Datasets and their storage. This package does not import Ray."""
