"""The workers of `distill`."""
