"""Typed access to a parsed ``config.json``; every fault becomes one InputError."""

import json
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from planner.errors import InputError

_LARGEST = 10**9
"""No count of an architecture comes near this; larger ones are typing errors."""


@dataclass(frozen=True, slots=True)
class Fields:
    """One JSON object of the file, with the names it can be asked for.

    Several names mean synonyms: the first that is present and not null is read.
    """

    path: Path
    text: str
    data: dict[str, Any]
    prefix: str = ""

    def fail(self, name: str, problem: str) -> NoReturn:
        """Raise the InputError for field ``name``."""
        raise InputError(self._where(name), f"{self.prefix}{name}", problem)

    def has(self, name: str) -> bool:
        """Whether the field is there and not null."""
        return self.data.get(name) is not None

    def integer(
        self, *names: str, default: int | None = None, least: int = 1, most: int = _LARGEST
    ) -> int:
        """Whole number from ``least`` to ``most``; required unless there is a default."""
        name = self._present(names)
        if name is None:
            return self._missing(names) if default is None else default
        value = self.data[name]
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            self.fail(name, f"must be a whole number, got {_short(value)}")
        if not least <= value <= most:
            self.fail(name, f"must be between {least} and {most:,}, got {_short(value)}")
        return value

    def optional_integer(self, *names: str) -> int | None:
        """As ``integer``, None where the field is absent or null."""
        return None if self._present(names) is None else self.integer(*names)

    def flag(self, name: str, default: bool = False) -> bool:
        """True or false."""
        value = self.data.get(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            self.fail(name, f"must be true or false, got {_short(value)}")
        return value

    def word(self, name: str, default: str = "") -> str:
        """Text."""
        value = self.data.get(name)
        if value is None:
            return default
        if not isinstance(value, str):
            self.fail(name, f"must be text, got {_short(value)}")
        return value

    def table(self, name: str) -> "Fields":
        """A nested object; required."""
        value = self.data.get(name)
        if value is None:
            self._missing((name,))
        if not isinstance(value, dict):
            self.fail(name, f"must be an object {{...}}, got {_short(value)}")
        return Fields(self.path, self.text, value, f"{self.prefix}{name}.")

    def items(self, name: str, *allowed: Hashable, length: int | None = None) -> list[Any]:
        """A list whose members are all ``allowed`` (any where none is named)."""
        value = self.data.get(name)
        if value is None:
            self._missing((name,))
        if not isinstance(value, list):
            self.fail(name, f"must be a list, got {_short(value)}")
        if length is not None and len(value) < length:
            self.fail(name, f"needs an entry for each of the {length} layers, has {len(value)}")
        members = value[:length] if length is not None else value
        for member in members:
            if allowed and (isinstance(member, bool | list | dict) or member not in allowed):
                known = ", ".join(map(str, allowed))
                self.fail(name, f"entry {_short(member)} is not known; known: {known}")
        return list(members)

    def _present(self, names: Sequence[str]) -> str | None:
        return next((name for name in names if self.has(name)), None)

    def _missing(self, names: Sequence[str]) -> NoReturn:
        others = f" (or one of {', '.join(names[1:])})" if len(names) > 1 else ""
        self.fail(names[0], f"is missing; add it{others}")

    def _where(self, name: str) -> str:
        """``file:line`` where the field stands, plain ``file`` where it does not."""
        start = 0
        for step in (*self.prefix.split(".")[:-1], name):
            start = self.text.find(f'"{step}"', start)
            if start < 0:
                return str(self.path)
        line = self.text.count("\n", 0, start) + 1
        return f"{self.path}:{line}"


def read_json(path: Path) -> Fields:
    """Parse ``path``, or the ``config.json`` in it where it is a directory.

    Raises
    ------
    InputError
        The file cannot be read, is not JSON, gives a key twice or holds no object.
    """
    path = path / "config.json" if path.is_dir() else path
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(str(path), "", f"cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise InputError(str(path), "", "is not UTF-8 text; expected a config.json") from None
    try:
        data = json.loads(text, object_pairs_hook=_no_key_twice)
    except json.JSONDecodeError as error:
        problem = f"malformed JSON at column {error.colno}: {error.msg}"
        raise InputError(f"{path}:{error.lineno}", "", problem) from None
    except (ValueError, RecursionError) as error:
        raise InputError(str(path), "", f"malformed JSON: {error}") from None
    if not isinstance(data, dict):
        raise InputError(str(path), "", "expected a JSON object {...} with a model's configuration")
    return Fields(path, text, data)


def _no_key_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"key {twice!r} is given twice")
    return found


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
