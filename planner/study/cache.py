"""Answers kept on disk between runs."""

import json
import os
import sqlite3
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from planner.errors import InputError
from planner.study.row import Row


def cache_folder() -> Path:
    """``$MOE_PLANNER_CACHE``, else ``moe-planner`` in the user's cache folder."""
    named = os.environ.get("MOE_PLANNER_CACHE")
    if named:
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "moe-planner"


class Cache:
    """Rows by digest, in one SQLite file; only the asking process touches it."""

    def __init__(self, folder: Path | None = None) -> None:
        path = (folder or cache_folder()) / "answers.sqlite"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path, timeout=10)
            self._db.execute(
                "CREATE TABLE IF NOT EXISTS answers (digest TEXT PRIMARY KEY, row TEXT)"
            )
        except (OSError, sqlite3.Error) as error:
            raise InputError(
                "MOE_PLANNER_CACHE", str(path), f"cannot keep answers here: {error}; "
                "name another folder, or ask without the cache",
            ) from None  # fmt: skip

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._db.close()

    def get(self, digests: Iterable[str]) -> dict[str, Row]:
        """Rows that are kept, by digest."""
        found: dict[str, Row] = {}
        for each in digests:
            kept = self._db.execute("SELECT row FROM answers WHERE digest = ?", (each,)).fetchone()
            if kept:
                found[each] = json.loads(kept[0])
        return found

    def put(self, rows: Mapping[str, Row]) -> None:
        """Keep rows; a full disk loses nothing but the keeping."""
        try:
            with self._db:
                self._db.executemany(
                    "INSERT OR REPLACE INTO answers VALUES (?, ?)",
                    [(digest, json.dumps(row)) for digest, row in rows.items()],
                )
        except sqlite3.OperationalError:
            return
