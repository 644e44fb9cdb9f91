"""Promises of the code about itself: units, sources, sizes, start-up, layers."""

import ast
import inspect
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

import pytest
from pydantic import BaseModel

import planner
from planner.sourced import Sourced

PACKAGE = Path(planner.__file__).parent
SPECS = (
    "arrivals", "base", "deployment", "hardware", "lengths", "links", "model", "money",
    "operations", "provenance", "scenario", "workload",
)  # fmt: skip
FORMULAS = (
    "arch.attention", "arch.core", "arch.flop", "arch.kv", "arch.parameters", "arch.storage",
    "shard", "ops.op", "ops.layer", "ops.collectives", "roofline", "comm", "comm.collectives",
    "comm.exchange", "comm.libraries", "comm.load", "comm.topology",
    "comm.transfer", "step", "memory",
    "cost.serving", "cost.rent", "cost.own", "cost.payback", "cost.margin", "cost.split",
    "workloads.lengths", "workloads.renewals", "workloads.sessions", "workloads.trace",
    "workloads.traffic",
)  # fmt: skip
CITED = tuple(n for n in FORMULAS if n.startswith(("arch", "ops", "cost")) or n == "roofline")
UNITS = (
    "_s", "_bytes", "_bytes_per_s", "_flop", "_flop_per_s", "_tokens", "_tokens_per_s", "_w", "_j",
    "_usd", "_usd_per_hour", "_usd_per_device_hour", "_usd_per_million_tokens", "_share",
    "_share_per_year", "_usd_per_kwh", "_usd_per_kw_month", "_g_per_kwh", "_years", "_per_month",
    "pue",
)  # fmt: skip
RATES = {"bf16", "fp8", "fp4", "int8"}
"""Fields of the table of peaks, which is itself called ``dense_flop_per_s``."""
COUNTS = {"multiprocessors", "total_parameters", "active_parameters", "score"}
"""Sourced numbers without a dimension: a count, and a published mark in percent."""


def specs() -> list[type[BaseModel]]:
    found = []
    for name in SPECS:
        module = import_module(f"planner.specs.{name}")
        found += [
            kind for _, kind in inspect.getmembers(module, inspect.isclass)
            if issubclass(kind, BaseModel) and kind.__module__ == module.__name__
        ]  # fmt: skip
    return found


def holds(annotation: Any, kind: type) -> bool:
    if isinstance(annotation, type):
        return issubclass(annotation, kind)
    return any(holds(part, kind) for part in get_args(annotation))


def ends_in_a_unit(name: str) -> bool:
    return ("_" + name).endswith(UNITS) or name.endswith(("_w_per_device",))


def public_functions(name: str) -> list[tuple[str, Any]]:
    module: ModuleType = import_module(f"planner.{name}")
    own = [
        (n, f) for n, f in inspect.getmembers(module, inspect.isfunction)
        if f.__module__ == module.__name__ and not n.startswith("_")
    ]  # fmt: skip
    for n, kind in inspect.getmembers(module, inspect.isclass):
        if kind.__module__ == module.__name__ and not n.startswith("_"):
            own += [(f"{n}.{m}", f) for m, f in inspect.getmembers(kind, inspect.isfunction)
                    if not m.startswith("_") and f.__module__ == module.__name__]  # fmt: skip
    return own


# --- units -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", specs(), ids=lambda kind: kind.__name__)
def test_a_sourced_number_ends_in_its_unit(kind: type[BaseModel]) -> None:
    for name, field in kind.model_fields.items():
        if holds(field.annotation, Sourced):
            assert ends_in_a_unit(name) or name in RATES | COUNTS, f"{kind.__name__}.{name}"


@pytest.mark.parametrize("kind", specs(), ids=lambda kind: kind.__name__)
def test_no_field_has_a_unit_that_misleads(kind: type[BaseModel]) -> None:
    for name in kind.model_fields:
        words = name.split("_")
        assert not {"flops", "gb", "gib", "tb", "ms", "us", "gbps", "tflops", "mhz"} & set(words)


# --- formulas ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FORMULAS)
def test_every_public_formula_is_described(name: str) -> None:
    for function, body in public_functions(name):
        assert (body.__doc__ or "").strip(), f"planner.{name}.{function}"


@pytest.mark.parametrize("name", CITED)
def test_every_formula_says_where_it_is_from(name: str) -> None:
    module = import_module(f"planner.{name}")
    for function, body in public_functions(name):
        if "." in function:  # a method: its class carries the reference
            body = getattr(module, function.split(".")[0])  # noqa: PLW2901
        if "achieved" in function or "saving" in function:
            continue  # a look-up and a difference
        assert "References" in (body.__doc__ or ""), f"planner.{name}.{function}"


def test_the_models_of_time_say_where_they_are_from() -> None:
    for name, functions in {
        "comm": ["comm_time_s"],
        "roofline": ["op_time"],
        "shard": ["shard"],
        "memory": ["footprint", "activation_bytes", "communication_bytes"],
    }.items():
        for function in functions:
            body = getattr(import_module(f"planner.{name}"), function)
            assert "References" in body.__doc__, f"planner.{name}.{function}"


# --- the tree ----------------------------------------------------------------------------------

SOURCES = sorted(PACKAGE.rglob("*.py"))


def test_no_file_hides_two_ideas() -> None:
    long = {
        str(path.relative_to(PACKAGE)): lines
        for path in SOURCES
        if (lines := len(path.read_text("utf-8").splitlines())) > 400
    }
    assert not long


def test_every_module_says_what_it_is() -> None:
    silent = [str(p) for p in SOURCES if not ast.get_docstring(ast.parse(p.read_text("utf-8")))]
    assert not silent


def test_the_tree_speaks_of_its_subject_only() -> None:
    root = PACKAGE.parent
    # spelt in parts, so that this file does not hold them itself
    words = [
        "/" + "work/",
        "shared" + "/reference",
        "FACTS" + ".md",
        "sub" + "agent",
        "the br" + "ief",
    ]
    folders = ["planner", "tests", "scenarios", "hardware_profiles", "scripts", "docs"]
    files = [
        path
        for folder in folders
        for path in (root / folder).rglob("*")
        if path.suffix in {".py", ".yaml", ".md", ".toml", ".html", ".css", ".json", ".txt"}
    ]
    found = []
    for path in files:
        text = path.read_text("utf-8").lower()
        found += [(str(path.relative_to(root)), w) for w in words if w.lower() in text]
    assert not found


# --- start-up ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "statement",
    ["import planner", "import planner.files, planner.evaluation, planner.search"],
)
def test_importing_pulls_in_nothing_heavy(statement: str) -> None:
    code = (
        f"import sys; {statement}; print(*sorted({{name.split('.')[0] for name in sys.modules}}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True,
        cwd=PACKAGE.parent,
    )  # fmt: skip
    heavy = {"scipy", "pandas", "plotly", "streamlit", "torch", "pyarrow", "dask", "matplotlib"}
    assert not heavy & set(done.stdout.split())
