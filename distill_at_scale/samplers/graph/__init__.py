"""Samplers based on the user–item graph: nodes are ordered, and rows are kept with both of their nodes."""
