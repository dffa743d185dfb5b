"""Training by gradients: the loop, what it reads, and the bases of the models that learn so."""
