"""Predictions held against what was measured and published."""
