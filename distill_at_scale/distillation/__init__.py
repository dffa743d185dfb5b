"""Distillation: small synthetic datasets that are learned, not drawn; plain torch, no Ray."""
