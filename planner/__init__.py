"""Cost and performance of Mixture-of-Experts inference."""
