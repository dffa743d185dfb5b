"""The workers of `distill`: synthetic rows and latent sequences."""
