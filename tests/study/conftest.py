"""One small scenario for all studies."""

import pytest

from planner import files

SMALL = {"run.requests": 24, "run.warmup_requests": 4}


@pytest.fixture(scope="session")
def base():
    return files.load_scenario("r1-distill-7b-rtx5090", SMALL)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MOE_PLANNER_CACHE", str(tmp_path / "cache"))
