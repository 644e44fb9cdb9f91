"""Settings of every test."""

from hypothesis import settings

settings.register_profile("planner", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("planner")
