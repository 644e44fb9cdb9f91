"""What a part and a system are, as their makers state it.  Never what was measured on them."""

from typing import Annotated, Literal

from pydantic import Field

from planner.errors import InputError
from planner.sourced import Sourced
from planner.specs.base import Count, Positive, Share, Spec

Precision = Literal["bf16", "fp8", "fp4", "int8"]
"""Number format a matrix unit multiplies in."""


class PeakRates(Spec):
    """Dense (no structured sparsity) matrix-unit peaks. [FLOP/s]"""

    bf16: Positive
    fp8: Positive | None = None
    fp4: Positive | None = None
    int8: Positive | None = None

    def precisions(self) -> tuple[str, ...]:
        """Name the precisions this part multiplies in."""
        return tuple(name for name, value in self if value is not None)


class AcceleratorSpec(Spec):
    """One accelerator: datasheet facts only."""

    name: str
    title: str
    vendor: str
    architecture: str = ""
    dense_flop_per_s: PeakRates
    memory_bytes: Positive
    """As the driver reports it where known, else nominal (the note says which). [bytes]"""
    memory_bytes_per_s: Positive
    """Datasheet peak of HBM (or GDDR, LPDDR) bandwidth. [bytes/s]"""
    host_link_bytes_per_s: Positive | None = None
    """PCIe or chip-to-chip link to the host, one direction. [bytes/s]"""
    max_power_w: Positive | None = None
    purchase_usd: Positive | None = None
    """Price of one device, mid of the range where a range is known. [USD]"""
    notes: str = ""

    def peak_flop_per_s(self, precision: Precision) -> float:
        """Dense peak [FLOP/s]; raise InputError where the part has no such units."""
        peak: Sourced | None = getattr(self.dense_flop_per_s, precision)
        if peak is None:
            has = ", ".join(self.dense_flop_per_s.precisions())
            raise InputError(
                self.name, "weights", f"no {precision} matrix units; this part multiplies in {has}"
            )
        return float(peak)


Topology = Literal["switch", "mesh", "torus2d", "torus3d", "pcie", "none"]


class ScaleUp(Spec):
    """The fast domain: NVLink/NVSwitch, xGMI, ICI, HCCS, or just PCIe."""

    technology: str
    devices: Count
    """Devices in one domain of this system."""
    topology: Topology
    bytes_per_s: Positive
    """All links of one device together, one direction. [bytes/s]"""
    peer_bytes_per_s: Positive | None = None
    """One direction to a single peer where that is less (mesh, torus link). [bytes/s]"""
    latency_s: Positive
    """One message, start to end, at zero size. [s]"""


class ScaleOut(Spec):
    """The network between domains."""

    technology: str
    bytes_per_s: Positive
    """Per device, one direction. [bytes/s]"""
    latency_s: Positive


class SystemSpec(Spec):
    """Accelerators as they are bought: a server, a rack, a slice, a workstation."""

    name: str
    title: str
    accelerator: str
    """Name of the accelerator profile."""
    devices_per_node: Count
    """Devices bought (and priced) together."""
    scale_up: ScaleUp
    scale_out: ScaleOut | None = None
    """``None``: single domain only."""
    server_power_w_per_device: Positive | None = None
    """All-in server power a device: device, CPUs, NICs, fans. [W]"""
    max_nodes: Count | None = None
    """Nodes one deployment can join, where the fabric bounds it."""
    purchase_usd: Positive | None = None
    """Price of one node. [USD]"""
    notes: str = ""


class Price(Spec):
    """What one device-hour costs somewhere, on a date."""

    accelerator: str
    provider: str
    term: Literal[
        "on-demand",
        "spot",
        "market",
        "reserved-1yr",
        "reserved-3yr",
        "capacity-block",
        "monthly",
        "ownership",
        "index",
        "internal",
        "procurement",
        "projection",
    ]
    usd_per_device_hour: Positive
    retrieved: str
    """When the price was read: ``YYYY``, ``YYYY-MM`` or ``YYYY-MM-DD``."""


class ApiPrice(Spec):
    """What a hosted model costs per token, on a date. [USD per million tokens]"""

    name: str
    title: str
    input_usd_per_million_tokens: Positive
    cached_input_usd_per_million_tokens: Positive | None = None
    output_usd_per_million_tokens: Positive
    valid: str
    """When this price held."""


class PriceList(Spec):
    """One file of prices."""

    devices: tuple[Price, ...] = ()
    apis: tuple[ApiPrice, ...] = ()


OpFamily = Literal["gemm", "grouped_gemm", "attention_prefill", "attention_decode", "elementwise"]


class Achieved(Spec):
    """Share of the binding peak that one family of operators reaches, and its floor.

    ``time = max(flop / (compute_share * peak), bytes / (memory_share * bandwidth)) + floor_s``
    """

    compute_share: Share
    memory_share: Share
    floor_s: Annotated[Sourced, Field(ge=0)]
    """Fixed cost of one kernel inside a captured graph. [s]"""


class LinkShares(Spec):
    """Share of a link's stated bandwidth that a collective reaches."""

    scale_up_share: Share
    scale_out_share: Share
    all_to_all_scale_up_share: Share
    all_to_all_scale_out_share: Share


class CalibrationSpec(Spec):
    """Achieved shares for some parts.  Until measured, every number here is an assumption."""

    name: str
    accelerators: tuple[str, ...] = ()
    """Parts this applies to; empty: every part without its own."""
    gemm: dict[Precision, Achieved]
    grouped_gemm: dict[Precision, Achieved]
    attention_prefill: Achieved
    attention_decode: Achieved
    elementwise: Achieved
    links: LinkShares
    idle_power_share: Share
    """Idle power over maximum power of the device."""
    step_overhead_s: Annotated[Sourced, Field(ge=0)]
    """Host time of one engine step that nothing hides (schedule, launch, sample). [s]"""


class Reference(Spec):
    """Where a source key leads."""

    title: str
    url: str = ""
    retrieved: str = ""
