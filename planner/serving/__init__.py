"""Requests through a serving cluster, one event per stretch of engine steps."""
