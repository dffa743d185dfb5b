"""Samplers based on embeddings of users and rows."""
