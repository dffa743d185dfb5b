"""Samplers that go by the user–item graph: nodes are ordered, rows are kept with their ends."""
