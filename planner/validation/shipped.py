"""Measured runs that travel with the package: figures of SemiAnalysis InferenceX, Apache-2.0."""

from functools import lru_cache

from planner import files
from planner.files.runs import read_runs
from planner.specs.runs import Run


@lru_cache(maxsize=1)
def shipped_runs() -> tuple[Run, ...]:
    """Every run of ``hardware_profiles/measurements/serving/``."""
    folder = files.profile_root() / "measurements" / "serving"
    found = (read_runs(path)[0] for path in sorted(folder.glob("*.jsonl")))
    return tuple(run for runs in found for run in runs)
