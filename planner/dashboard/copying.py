"""What is on screen as a command, as Python, as a file."""

import json
import shlex
from collections.abc import Mapping
from typing import Any


def command(
    verb: str, name: str, overrides: Mapping[str, Any], options: Mapping[str, Any] | None = None
) -> str:
    """The command line that answers the same question.

    >>> command("step", "r1", {"steady.context_tokens": 4096.0, "routing": None})
    'moe-planner step r1 --set steady.context_tokens=4096 --set routing=null'
    """
    words = ["moe-planner", verb, name]
    for path, value in overrides.items():
        words += ["--set", f"{path}={json.dumps(_plain(value))}"]
    for option, value in (options or {}).items():
        words += [f"--{option}", str(value)]
    return shlex.join(words)


def python(
    call: str, name: str, overrides: Mapping[str, Any], options: Mapping[str, Any] | None = None
) -> str:
    """Python that answers the same question; ``call`` is a function of the Python door."""
    changes = {path: _plain(value) for path, value in overrides.items()}
    body = "".join(f"    {path!r}: {value!r},\n" for path, value in changes.items())
    given = f"{name!r}, {{\n{body}}}" if body else repr(name)
    asked = "".join(f", {option}={value!r}" for option, value in (options or {}).items())
    return (
        f"import planner\n\nscenario = planner.load_scenario({given})\n"
        f"found = {call}(scenario{asked})\n"
    )


def yaml_text(raw: Mapping[str, Any], overrides: Mapping[str, Any]) -> str:
    """A scenario file with the changes written into it."""
    import yaml

    data: dict[str, Any] = json.loads(json.dumps(raw))
    for path, value in overrides.items():
        *parents, last = path.split(".")
        here = data
        for step in parents:
            if not isinstance(here.get(step), dict):
                here[step] = {}
            here = here[step]
        here[last] = _plain(value)
    return yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=100)


def _plain(value: Any) -> Any:
    """Whole numbers without a point, as people write them."""
    return int(value) if isinstance(value, float) and value.is_integer() else value
