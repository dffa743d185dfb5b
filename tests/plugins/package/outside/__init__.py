"""A package of somebody else's, that adds to distill_at_scale without a change to it."""
