"""Which library's measured exchange a collective uses."""

from planner.errors import InputError
from planner.ops import Comm
from planner.specs.calibration import CalibrationSpec, LinkShares
from planner.specs.deployment import ALL_GATHER
from planner.specs.links import ExchangeLaw


def exchange_of(comm: Comm, links: LinkShares) -> ExchangeLaw | None:
    """Law of an expert exchange; None where nothing was measured for its mode.

    References
    ----------
    .. [1] The calibration's ``links``: ``low_latency`` and ``normal`` name one of ``exchanges``.
    """
    name = {"low_latency": links.low_latency, "normal": links.normal}.get(comm.mode, "")
    return links.exchanges.get(name)


def with_exchange(calibration: CalibrationSpec, library: str) -> CalibrationSpec:
    """The same calibration with another library's kernels, by its name among ``exchanges``.

    A library that was measured in one mode (its name ends in it) replaces that mode's alone.

    Raises
    ------
    InputError
        The calibration has no such exchange.
    """
    links = calibration.links
    if library not in links.exchanges:
        known = ", ".join([*links.exchanges, ALL_GATHER])
        raise InputError(
            calibration.name, "exchange", f"no {library!r} among its links; there are: {known}"
        )
    fields = {"low_latency": library, "normal": library}
    if "low-latency" in library:
        del fields["normal"]
    elif "normal" in library:
        del fields["low_latency"]
    return calibration.model_copy(update={"links": links.model_copy(update=fields)})


def ideal_links(links: LinkShares) -> LinkShares:
    """Everything achieved and nothing fixed: stated rates alone set the time."""
    update: dict[str, object] = {
        "rings": {}, "direct": None, "exchanges": {}, "low_latency": "", "normal": "",
        "collective_floor_s": 0.0, "all_to_all_floor_s": 0.0,
    }  # fmt: skip
    update |= {name: 1.0 for name in type(links).model_fields if name.endswith("_share")}
    return links.model_copy(update=update)
