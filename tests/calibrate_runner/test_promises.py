"""Promises of the runner about itself: it travels alone, and its page says what it does."""

import ast
import re
import sys
from collections import Counter
from pathlib import Path

import pytest

import planner
from planner.calibrate.runner.plan_cuda import cuda_plan
from planner.calibrate.runner.recorded import Recorded

ROOT = Path(planner.__file__).parents[1]
MODULES = sorted((ROOT / "planner" / "calibrate" / "runner").glob("*.py"))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_a_module_imports_python_numpy_and_its_neighbours_alone(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            assert node.level == 1
            continue
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        for name in names:
            assert name.split(".")[0] in {"numpy", *sys.stdlib_module_names}, f"{path}: {name}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_a_module_holds_one_idea(path: Path) -> None:
    assert len(path.read_text("utf-8").splitlines()) < 400


def test_the_page_counts_the_points_of_each_round() -> None:
    page = (ROOT / "docs" / "gpu-campaign.md").read_text("utf-8")
    said = {int(r): int(n) for r, n in re.findall(r"^\| (\d) \| (\d+) \|", page, re.MULTILINE)}
    assert said == Counter(p.rank for p in cuda_plan())
    between = len(cuda_plan(8)) - len(cuda_plan())
    assert f"({between} points)" in page


@pytest.mark.parametrize("experts", [256, 384, 8, 128])
def test_the_page_counts_the_points_of_recorded_counts(experts: int) -> None:
    page = (ROOT / "docs" / "gpu-campaign.md").read_text("utf-8")
    (line,) = re.findall(r"adds (\d+) points \(128 experts: (\d+)\)", page)
    added = len(cuda_plan(1, Recorded((1,) * experts))) - len(cuda_plan())
    assert added == int(line[experts == 128])
