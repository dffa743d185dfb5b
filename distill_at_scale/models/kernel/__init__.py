"""Kernel ridge regression with the neural tangent kernel: exact, by landmarks, and by conjugate gradients."""
