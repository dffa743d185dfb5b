"""Learning curves: what a model's quality and cost on all rows will be, from fits on nested samples."""
