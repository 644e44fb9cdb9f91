import pytest

from planner import files


@pytest.fixture(scope="session")
def r1():
    """DeepSeek-R1's expert layers: 58 x 256, top-8 in 4 of 8 groups."""
    return files.load_model("deepseek-r1").moe
