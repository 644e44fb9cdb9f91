"""Write fitted links into the calibrations that travel with the package."""

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from planner import files
from planner.calibrate.links import (
    FEBRUARY,
    ONE_SIDED,
    SYSTEMS,
    PartLinks,
    fit_links,
    link_shares,
    transferred_errors,
)
from planner.calibrate.write import _lines, covariance_json
from planner.sourced import Sourced
from planner.specs.base import Spec
from planner.specs.calibration import LinkShares
from planner.specs.provenance import Provenance

Law = TypeVar("Law", bound=Spec)

FIRST = "h100-sxm"
"""Measured on several nodes; other parts take from it what their rows do not tell."""
SIBLINGS = {
    "h200-sxm": "h100-sxm", "b300-sxm": "b200-sxm", "gb200-nvl72": "b200-sxm",
    "gb300-nvl72": "gb200-nvl72",
}  # fmt: skip
"""Measured part -> part whose links are held against its rows."""
RINGS_OF = {"h800-sxm": "h100-sxm"}
"""Part with measured exchanges alone -> part whose collectives it takes."""
ONE_SIDED_OF = {"gb300-nvl72": "gb200-nvl72"}
"""Part without rows of the one-sided exchange -> part whose it takes."""
EARLIER_OF = {"h100-sxm": "h800-sxm"}
"""Part -> part on which the first release of DeepEP was measured."""
TRANSFERRED = {
    "h20": "h200-sxm", "gh200": "h200-sxm", "h100-nvl": "h100-sxm", "h100-pcie": "rtx-pro-6000",
    "rtx-5090": "rtx-pro-6000",
}  # fmt: skip
"""Part without measured links -> part with the same kind of links."""


def ship_links(folder: Path, parts: Sequence[str] = ()) -> list[Path]:
    """Fit or transfer the ``links:`` of ``parts`` (all without) in the calibrations of ``folder``.

    H100 comes first, since others take from it what they do not tell.  Other sections stay as
    they are.  Takes about a second a part, and the optional tables for all but H100 and H800.
    """
    found: dict[str, PartLinks] = {}
    made: dict[str, LinkShares] = {}
    paths = []
    for part in SYSTEMS:
        if parts and part not in parts:
            continue
        found[part] = fit_links(part, made.get(FIRST))
        base = files.load_calibration(part).links
        links = link_shares(found[part], base, made.get(FIRST))
        made[part] = _with_siblings(part, links, found, made)
        paths.append(_write(folder, part, made[part]))
        fits = {tuple(name.split("/", 1)): fit for name, fit in found[part].fits.items()}
        (folder / "covariance").mkdir(exist_ok=True)
        beside = folder / "covariance" / f"{part}-links.json"
        beside.write_text(covariance_json(fits, {}), "utf-8")  # type: ignore[arg-type]
    for part, sibling in TRANSFERRED.items():
        if not parts or part in parts:
            paths.append(_write(folder, part, _copied(part, sibling, _links(sibling, made))))
    return paths


def _links(part: str, made: dict[str, LinkShares]) -> LinkShares:
    return made.get(part) or files.load_calibration(part).links


def _with_siblings(
    part: str, links: LinkShares, found: dict[str, PartLinks], made: dict[str, LinkShares]
) -> LinkShares:
    update: dict[str, object] = {}
    if part in RINGS_OF:
        other = _links(RINGS_OF[part], made)
        note = f"as measured on {RINGS_OF[part]}"
        update["rings"] = {k: _marked(law, note) for k, law in other.rings.items()}
        update["direct"] = other.direct and _marked(other.direct, note)
    if part in ONE_SIDED_OF:
        law = _links(ONE_SIDED_OF[part], made).exchanges[ONE_SIDED]
        law = _marked(law, f"as measured on {ONE_SIDED_OF[part]}")
        update |= {"exchanges": {**links.exchanges, ONE_SIDED: law}}
        update |= {"low_latency": ONE_SIDED, "normal": ONE_SIDED}
    if part in EARLIER_OF:
        earlier = {
            name: _marked(law, f"as measured on {EARLIER_OF[part]}")
            for name, law in _links(EARLIER_OF[part], made).exchanges.items()
            if name.endswith(FEBRUARY)
        }
        update["exchanges"] = {**links.exchanges, **earlier}
    sibling = SIBLINGS.get(part)
    if sibling and links.provenance:
        other_fits = (
            fit_links(sibling, one_node=True)
            if sibling == FIRST
            else found.get(sibling) or fit_links(sibling)
        )
        held = (*links.provenance.held_out, *transferred_errors(found[part], other_fits))
        update["provenance"] = links.provenance.model_copy(update={"held_out": held})
    return links.model_copy(update=update)


def _copied(part: str, sibling: str, other: LinkShares) -> LinkShares:
    """The laws of a sibling, every number marked as an assumption."""
    own = files.load_calibration(part).links
    note = f"as measured on {sibling}"
    made = other.provenance
    return own.model_copy(
        update={
            "rings": {k: _marked(law, note) for k, law in other.rings.items()},
            "direct": other.direct and _marked(other.direct, note),
            "exchanges": {k: _marked(law, note) for k, law in other.exchanges.items()},
            "low_latency": other.low_latency,
            "normal": other.normal,
            "provenance": made
            and Provenance(
                fitted=made.fitted, transferred_from=sibling, residual_sigma=made.residual_sigma
            ),
        }
    )


def _marked(law: Law, note: str) -> Law:
    """The same numbers, each an assumption on another part."""
    update: dict[str, object] = {}
    for name in type(law).model_fields:
        value = getattr(law, name)
        if isinstance(value, Sourced):
            update[name] = Sourced(float(value), value.source, note, "assumed")
        elif isinstance(value, Spec):
            update[name] = _marked(value, note)
    return law.model_copy(update=update)


def _write(folder: Path, part: str, links: LinkShares) -> Path:
    """Replace the ``links:`` section of one calibration."""
    path = folder / f"{part}.yaml"
    lines = path.read_text("utf-8").splitlines()
    start = lines.index("links:")
    end = next(i for i in range(start + 1, len(lines)) if not lines[i].startswith(" "))
    section = _lines("links", links, 0)
    path.write_text("\n".join([*lines[:start], *section, *lines[end:]]) + "\n", "utf-8")
    return path
