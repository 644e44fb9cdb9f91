"""What an answer depends on, as one short name: scenario, changes, question, package."""

import hashlib
import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from planner import files
from planner.specs.scenario import Scenario


@lru_cache(maxsize=1)
def package_digest() -> str:
    """Name of this package as it is: its version, its sources, its shipped data.

    A changed formula or profile makes every kept answer stale, whatever the version says.
    """
    from planner import __version__

    total = hashlib.sha256(__version__.encode())
    package = Path(__file__).parents[1]
    found = [*package.rglob("*.py"), *files.catalogue_root().glob("*.yaml")]
    found += files.profile_root().rglob("*.yaml")
    for path in sorted(found):
        total.update(path.name.encode())
        total.update(path.read_bytes())
    return f"{__version__}+{total.hexdigest()[:12]}"


def plain(scenario: Scenario) -> dict[str, Any]:
    """A scenario as plain values, everything it names written out."""
    return scenario.model_dump(mode="json")


def digest(*parts: Any) -> str:
    """SHA-256 of plain values, whatever the order of their keys."""
    written = json.dumps(parts, sort_keys=True, default=str, separators=(",", ":"))
    return hashlib.sha256(written.encode()).hexdigest()


def differences(old: Any, new: Any, path: str = "") -> list[str]:
    """Say where two plain values differ: ``slo.tpot_p95_s: 0.05 before, 0.04 now``."""
    if isinstance(old, dict) and isinstance(new, dict):
        found = []
        for key in sorted({*old, *new}):
            found += differences(old.get(key), new.get(key), f"{path}.{key}" if path else str(key))
        return found
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        pairs = enumerate(zip(old, new, strict=True))
        return [line for i, (a, b) in pairs for line in differences(a, b, f"{path}.{i}")]
    return [] if old == new else [f"{path}: {_short(old)} before, {_short(new)} now"]


def _short(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else text[:57] + "..."
