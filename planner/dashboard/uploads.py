"""What people upload: size-limited, parsed without executing anything, no path taken from it."""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from planner import files
from planner.errors import InputError
from planner.specs.scenario import Scenario

LARGEST_YAML_BYTES = 256 * 1024
PROSE = ("title", "notes", "note", "source", "statement", "conditions", "retrieved", "provider")
"""Fields that are text for people; everywhere else a path is refused."""
NAMED = {
    "model": files.model_names, "baseline_model": files.model_names, "system": files.system_names,
}  # fmt: skip
FILE_ENDS = (".yaml", ".yml", ".json", ".csv", ".npz", ".npy", ".jsonl", ".parquet", ".gz")


@contextmanager
def stored(content: bytes, suffix: str, largest: int, name: str = "upload") -> Iterator[Path]:
    """An upload as a file of its own for as long as it is read; errors name it as ``name``.

    Raises
    ------
    InputError
        It is larger than ``largest``, or what reading it raises.
    """
    if len(content) > largest:
        raise InputError(name, "", f"has {len(content):,} bytes; at most {largest:,} are read here")
    with tempfile.TemporaryDirectory(prefix="moe-planner-") as folder:
        path = Path(folder) / f"upload{suffix}"
        path.write_bytes(content)
        try:
            yield path
        except InputError as error:
            where = error.where.replace(str(path), name)
            problem = error.problem.replace(str(path), name)
            raise InputError(where, error.field, problem) from None


def scenario(content: bytes, overrides: Mapping[str, Any] | None = None) -> Scenario:
    """Read an uploaded scenario; it may name what is shipped, but no file.

    Raises
    ------
    InputError
        It is too large, no sound scenario, or leads to a file of this machine.
    """
    with stored(content, ".yaml", LARGEST_YAML_BYTES, "upload.yaml") as path:
        refuse_paths(files.read_yaml(path).data)
        return files.load_scenario(path, overrides)


def refuse_paths(data: Any, field: str = "") -> None:
    """Refuse every value that could be the path of a file.

    >>> refuse_paths({"model": "deepseek-r1", "title": "a/b"})
    >>> refuse_paths({"workload": "../secret.yaml"})
    Traceback (most recent call last):
    planner.errors.InputError: upload.yaml: workload: an uploaded scenario cannot name files: ...
    """
    if isinstance(data, dict):
        for name, value in data.items():
            if name not in PROSE:
                refuse_paths(value, f"{field}.{name}" if field else str(name))
    elif isinstance(data, list):
        for i, value in enumerate(data):
            refuse_paths(value, f"{field}.{i}")
    elif isinstance(data, str):
        known = NAMED.get(field)
        is_path = any(sign in data for sign in ("/", "\\", "\0")) or data.endswith(FILE_ENDS)
        if is_path and not (known and data in known()):
            raise InputError(
                "upload.yaml", field,
                f"an uploaded scenario cannot name files: {data[:60]!r}; write it out instead",
            )  # fmt: skip
