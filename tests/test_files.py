"""Strict YAML into specs: every fault is one InputError with place, field, value and remedy."""

import pickle
from pathlib import Path
from typing import Any

import pytest
import yaml

from planner import files
from planner.errors import InfeasibleError, InputError, PlannerError
from planner.files import profiles
from planner.files.yaml_io import load_spec, read_yaml
from planner.sourced import Sourced
from planner.specs.hardware import AcceleratorSpec
from planner.specs.model import ModelSpec

H200 = profiles.profile_root() / "accelerators" / "h200-sxm.yaml"


def fault(path: Path, kind: type[Any] = AcceleratorSpec) -> InputError:
    with pytest.raises(InputError) as caught:
        load_spec(path, kind)
    return caught.value


def changed(folder: Path, **fields: Any) -> Path:
    """The profile of H200 with some fields replaced."""
    data = yaml.safe_load(H200.read_text("utf-8")) | fields
    path = folder / "part.yaml"
    path.write_text(yaml.safe_dump(data, sort_keys=False), "utf-8")
    return path


def fact(value: Any) -> dict[str, Any]:
    return {"value": value, "source": "test"}


# --- values ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value", "problem"),
    [
        ("memory_bytes_per_s", 4.8, "4.8 TB/s is written 4.8e12"),
        ("memory_bytes_per_s", -4.8e12, "-4.8e+12 is not a bandwidth"),
        ("memory_bytes", 141, "141 GB is written 141e9"),
        ("max_power_w", 0.7, "0.7 kW is written 700"),
        ("purchase_usd", 30, "25 kUSD is written 25000"),
    ],
)
def test_a_number_of_the_wrong_size_says_how_it_is_written(
    tmp_path: Path, field: str, value: float, problem: str
) -> None:
    path = changed(tmp_path, **{field: fact(value)})
    error = fault(path)
    assert error.field == field
    assert problem in error.problem
    line = 1 + [row.split(":")[0] for row in path.read_text().splitlines()].index(field)
    assert error.where == f"{path}:{line}"


def test_a_bare_number_is_no_fact(tmp_path: Path) -> None:
    error = fault(changed(tmp_path, memory_bytes_per_s=4.8e12))
    assert error.field == "memory_bytes_per_s"
    assert "a fact needs its source: write {value: NUMBER, source: KEY}" in error.problem
    assert "4800000000000.0" in error.problem


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "fast", None])
def test_what_is_no_number_is_refused(tmp_path: Path, value: Any) -> None:
    assert fault(changed(tmp_path, memory_bytes=fact(value))).field.startswith("memory_bytes")


@pytest.mark.parametrize(
    ("given", "meant"),
    [("memory_byte", "memory_bytes"), ("max_powr_w", "max_power_w"), ("titel", "title")],
)
def test_an_unknown_key_says_which_was_meant(tmp_path: Path, given: str, meant: str) -> None:
    error = fault(changed(tmp_path, **{given: fact(1)}))
    assert (error.field, error.problem) == (given, f"unknown key; did you mean {meant}?")


def test_a_missing_field_is_named(tmp_path: Path) -> None:
    error = fault(changed(tmp_path, dense_flop_per_s={"fp8": fact(1e15)}))
    assert (error.field, error.problem) == ("dense_flop_per_s.bf16", "is missing")


def test_several_faults_give_the_first_and_a_count(tmp_path: Path) -> None:
    error = fault(changed(tmp_path, memory_bytes=fact(1), max_power_w=fact(1)))
    assert error.problem.endswith("(and 1 more)")


# --- files -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "line", "problem"),
    [
        (b"name: x\nlist: [1,\n", ":3", "malformed YAML"),
        (b"name: x\nother: 1\nname: y\n", ":3", "key 'name' is given twice"),
        (b"a: {b: 1, b: 2}\n", ":1", "key 'b' is given twice"),
        (b"name: x\n\tb: 1\n", ":2", "malformed YAML"),
        (b"name: *nowhere\n", ":1", "undefined alias"),
        (b"name: x\n---\nname: y\n", ":2", "another document"),
        (b"name: !!python/object:os.system x\n", ":1", "could not determine a constructor"),
        (b"", "", "expected fields (`name: value`), found none"),
        (b"# nothing here\n", "", "expected fields"),
        (b"- 1\n- 2\n", "", "expected fields"),
        (b"just text\n", "", "expected fields"),
        (b"\x00\xff\xfe\x01", "", "it is not UTF-8 text"),
        (b"name: \x07\n", "", "control characters are not allowed"),
    ],
)
def test_an_unsound_file_names_itself_and_its_line(
    tmp_path: Path, content: bytes, line: str, problem: str
) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes(content)
    error = fault(path)
    assert error.where == f"{path}{line}"
    assert problem in error.problem


def test_a_folder_or_nothing_cannot_be_read(tmp_path: Path) -> None:
    assert fault(tmp_path).problem == "cannot be read: Is a directory"
    nothing = tmp_path / "none.yaml"
    assert str(fault(nothing)) == f"{nothing}: cannot be read: No such file or directory"


def test_deep_nesting_is_an_error_like_any_other(tmp_path: Path) -> None:
    path = changed(tmp_path, name="x")
    with path.open("a") as file:
        file.write("extra: " + "[" * 3000 + "]" * 3000 + "\n")
    assert fault(path).where.startswith(f"{path}:")


def test_a_list_cannot_be_a_key(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("name: x\n? [a, b]\n: 1\n")
    assert fault(path).where == f"{path}:2"


def test_an_unquoted_date_is_text(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("retrieved: 2026-01-05\n")
    assert read_yaml(path).data["retrieved"] == "2026-01-05"


@pytest.mark.parametrize("value", [float("nan"), "fast", None])
def test_a_fact_without_a_number_is_not_told_to_give_its_source(tmp_path: Path, value: Any) -> None:
    assert "needs its source" not in fault(changed(tmp_path, memory_bytes=fact(value))).problem


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("4.8e12", 4.8e12), ("989e12", 989e12), ("1e-6", 1e-6), ("-3", -3), ("1_000", 1000),
        ("no", "no"), ("on", "on"), ("yes", "yes"), ("off", "off"), ("y", "y"), ("NO", "NO"),
        ("true", True), ("False", False), ("null", None), ("~", None), ("1.5", 1.5),
        ("'4.8e12'", "4.8e12"), ("h200-sxm", "h200-sxm"),
    ],
)  # fmt: skip
def test_plain_values_are_read_as_they_look(tmp_path: Path, text: str, value: Any) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(f"a: {text}\n")
    read = read_yaml(path).data["a"]
    assert read == value
    assert type(read) is type(value)


# --- names -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("load", "name", "meant"),
    [
        (files.load_model, "deepseek-r9", "deepseek-r1"),
        (files.load_system, "hgx-h2000", "hgx-h200"),
        (files.load_accelerator, "h200-smx", "h200-sxm"),
        (files.load_hardware, "hgx-mi300", "hgx-mi300x"),
    ],
)
def test_an_unknown_name_says_which_was_meant(load: Any, name: str, meant: str) -> None:
    with pytest.raises(InputError, match=f"'{name}' is not known; did you mean {meant}"):
        load(name)


def test_a_name_like_nothing_lists_what_there_is() -> None:
    with pytest.raises(InputError, match=r"known: .*deepseek-r1.*qwen3-8b"):
        files.load_model("zzzz")


def test_a_name_cannot_leave_the_catalogue() -> None:
    for name in ("../pyproject", "/etc/passwd", "../planner/catalogue/qwen3-8b"):
        with pytest.raises(InputError):
            files.load_model(name)


def test_a_path_is_a_name_too(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text((profiles.catalogue_root() / "qwen3-8b.yaml").read_text("utf-8"), "utf-8")
    assert files.load_model(str(path)) == files.load_model("qwen3-8b")


def test_aliases_lead_to_their_model() -> None:
    for name in profiles.model_names():
        for alias in files.load_model(name).aliases:
            assert files.load_model(alias).name == name


def test_unequal_partitions_of_the_layers_are_refused(tmp_path: Path) -> None:
    data = yaml.safe_load((profiles.catalogue_root() / "qwen3-8b.yaml").read_text("utf-8"))
    data["dense_mlp"]["layers"] += 1
    path = tmp_path / "model.yaml"
    path.write_text(yaml.safe_dump(data), "utf-8")
    assert "attention covers 36 layers" in fault(path, ModelSpec).problem


# --- errors ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [
        InputError("x.yaml:3", "slo.tpot_p95_s", "must be > 0, got -3"),
        InfeasibleError("HBM per device", 90e9, 77e9, "bytes", "use more devices"),
    ],
)
def test_errors_survive_pickling(error: PlannerError) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert vars(again) == vars(error)


def test_errors_read_as_sentences() -> None:
    assert str(InputError("x.yaml:3", "a.b", "must be > 0, got -3")) == (
        "x.yaml:3: a.b: must be > 0, got -3"
    )
    assert str(InfeasibleError("HBM per device", 90e9, 77e9, "bytes", "use more")) == (
        "HBM per device: needs 90 GB, has 77 GB; use more"
    )


def test_sourced_numbers_survive_pickling_and_arithmetic() -> None:
    number = Sourced(4.8e12, source="x", note="y", confidence="recalled")
    again = pickle.loads(pickle.dumps(number))
    assert (again, again.source, again.note, again.confidence) == (4.8e12, "x", "y", "recalled")
    assert type(number / 2) is float
    assert number.doubtful
