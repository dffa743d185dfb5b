"""Samplers that go by where users and rows lie in a space of embeddings."""
