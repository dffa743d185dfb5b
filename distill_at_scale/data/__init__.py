"""Logs, Datasets and the storage they lie on. No Ray here."""
