"""Distillation: small synthetic datasets learned by optimisation, in plain torch without Ray."""
