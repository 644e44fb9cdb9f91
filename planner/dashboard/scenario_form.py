"""Which scenario is asked about: a shipped one, or an uploaded file; and taking it along."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import streamlit as st

from planner import files
from planner.dashboard import copying, state, uploads
from planner.dashboard.drawing import ask_format
from planner.dashboard.frame import refuse
from planner.errors import PlannerError
from planner.files.profiles import names_in
from planner.specs.scenario import Scenario

Download = str | bytes | Callable[[], str] | Callable[[], bytes]
"""A file's content, or what makes it when it is asked for."""
UPLOADED = "uploaded"


@dataclass(frozen=True)
class Source:
    """Where a scenario is from."""

    name: str
    content: bytes | None = None
    """Of an upload; None: shipped."""

    def load(self, overrides: Mapping[str, Any] | None = None) -> Scenario:
        """Read it with changes.

        Raises
        ------
        InputError
            As :func:`planner.load_scenario`.
        """
        if self.content is not None:
            return uploads.scenario(self.content, overrides)
        return files.load_scenario(self.name, overrides)

    def raw(self) -> dict[str, Any]:
        """The file as it is written; a workload that it names is written out."""
        if self.content is not None:
            with uploads.stored(self.content, ".yaml", uploads.LARGEST_YAML_BYTES) as path:
                return dict(files.read_yaml(path).data)
        path = files.scenario_root() / f"{self.name}.yaml"
        data = dict(files.read_yaml(path).data)
        if isinstance(data.get("workload"), str):
            data["workload"] = files.read_yaml(path.parent / data["workload"]).data
        return data


@lru_cache(maxsize=1)
def shipped() -> dict[str, Mapping[str, Any]]:
    """Shipped scenarios as they are written, by name."""
    root = files.scenario_root()
    names = [*names_in(root), *(f"published/{n}" for n in names_in(root / "published"))]
    return {name: files.read_yaml(root / f"{name}.yaml").data for name in names}


def pick(eligible: Callable[[Mapping[str, Any]], bool], first: str) -> Source:
    """Ask for a scenario that the page can answer; the link's, the last one, or ``first``."""
    names = [name for name, data in shipped().items() if eligible(data)]
    before = st.session_state.get("scenario", first)
    start = state.chosen("scenario", names, before if before in names else first)
    left, right = st.columns([3, 1], vertical_alignment="bottom")
    with left:
        name = st.selectbox(
            "Scenario", names, names.index(start), key=state.key(f"{first}:scenario"),
            format_func=lambda n: str(shipped()[n].get("title") or n),
            help="Shipped examples; the open one is a link you can share.",
        )  # fmt: skip
    st.session_state["scenario"] = name
    with right, st.popover("Upload YAML", icon=":material/upload_file:", width="stretch"):
        given = st.file_uploader("Scenario file", type=["yaml", "yml"], key=f"{first}:upload")
        st.caption(
            "A scenario file of at most 256 kB. It stays on this machine; links do not carry it."
        )
    if given is None:
        return Source(str(name))
    source = Source(UPLOADED, given.getvalue())
    try:
        found = source.load()
        if not eligible(source.raw()):
            st.error("This page needs a scenario with a `deployment`; the example above is shown.")
            return Source(str(name))
    except PlannerError as error:
        refuse(error)
        return Source(str(name))
    st.info(f"Shown: your upload, {state.plain(found.title or found.name)}.")
    return source


@dataclass(frozen=True)
class Asked:
    """A question as the other doors take it."""

    verb: str
    """Of the command line."""
    call: str
    """Function of the Python door."""
    overrides: Mapping[str, Any]
    options: Mapping[str, Any] = field(default_factory=dict)
    """Of the command and the function alike."""


def take_along(source: Source, asked: Asked, more: Mapping[str, Download]) -> None:
    """Command, Python, YAML and further downloads (file name -> text) of what is on screen."""
    st.subheader("Take it along", anchor=False)
    name = "scenario.yaml" if source.content is not None else source.name
    changes, options = asked.overrides, asked.options
    shell, code = st.tabs(["Command line", "Python"])
    shell.code(
        copying.command(asked.verb, name, changes, options), language="bash", wrap_lines=True
    )
    code.code(copying.python(asked.call, name, changes, options), language="python")
    written: dict[str, Download] = {
        "scenario.yaml": copying.yaml_text(source.raw(), changes), **more
    }  # fmt: skip
    ask_format()
    files_written = list(written.items())
    for at in range(0, len(files_written), 4):
        for column, (file, text) in zip(st.columns(4), files_written[at : at + 4], strict=False):
            column.download_button(
                file, text, file, key=f"{asked.verb}:download:{file}", on_click="ignore",
                icon=":material/download:", width="stretch",
            )  # fmt: skip
