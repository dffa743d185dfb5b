"""Kernel ridge regression with the neural tangent kernel: exact, by landmarks, by conjugate gradients."""
