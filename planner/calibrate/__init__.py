"""Kernel timings: measured by the runner or read from tables, fitted, and held to account."""
