"""What a part and a system are, as their makers state it.  Never what was measured on them."""

from math import prod
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from planner.errors import InputError
from planner.sourced import Sourced
from planner.specs.base import Count, Spec, within

FlopPerS = Annotated[
    Sourced, within(1e11, 1e17, "a rate in FLOP/s", "989 TFLOP/s is written 989e12")
]
"""Rate of a matrix unit. [FLOP/s]"""

BytesPerS = Annotated[
    Sourced, within(1e8, 1e15, "a bandwidth in bytes/s", "4.8 TB/s is written 4.8e12")
]
"""Bandwidth of a memory or a link. [bytes/s]"""

MemoryBytes = Annotated[
    Sourced, within(1e9, 1e13, "a memory size in bytes", "141 GB is written 141e9")
]
"""Memory of one device. [bytes]"""

CacheBytes = Annotated[Sourced, within(1e6, 1e9, "a cache size in bytes", "50 MB is written 50e6")]
"""Cache on the chip of one device. [bytes]"""

Multiprocessors = Annotated[
    Sourced, within(1, 1e4, "a number of multiprocessors", "an H100 SXM has 132")
]
"""Streaming multiprocessors, compute units or cores of one device."""

LatencyS = Annotated[Sourced, within(1e-8, 1e-2, "a latency in seconds", "2 us is written 2e-6")]
"""Time of one message at zero size. [s]"""

OverheadS = Annotated[Sourced, within(0, 1e-1, "a fixed time in seconds", "3 us is written 3e-6")]
"""Fixed time that may be nothing. [s]"""

PowerW = Annotated[Sourced, within(10, 1e5, "a power in watts", "0.7 kW is written 700")]
"""Power of one device or of its share of a server. [W]"""

Usd = Annotated[Sourced, within(100, 1e9, "a price in USD", "25 kUSD is written 25000")]
"""Purchase price of a device or a node. [USD]"""

Precision = Literal["bf16", "fp8", "fp4", "int8"]
"""Number format a matrix unit multiplies in."""


class PeakRates(Spec):
    """Dense (no structured sparsity) matrix-unit peaks. [FLOP/s]"""

    bf16: FlopPerS
    fp8: FlopPerS | None = None
    fp4: FlopPerS | None = None
    int8: FlopPerS | None = None

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
    memory_bytes: MemoryBytes
    """As the driver reports it where known, else nominal (the note says which). [bytes]"""
    memory_bytes_per_s: BytesPerS
    """Datasheet peak of HBM (or GDDR, LPDDR) bandwidth. [bytes/s]"""
    multiprocessors: Multiprocessors | None = None
    """Units that run blocks of a kernel."""
    cache_bytes: CacheBytes | None = None
    """Last cache on the chip, which all units share. [bytes]"""
    host_link_bytes_per_s: BytesPerS | None = None
    """PCIe or chip-to-chip link to the host, one direction. [bytes/s]"""
    max_power_w: PowerW | None = None
    purchase_usd: Usd | None = None
    """Price of one device, mid of the range where a range is known. [USD]"""
    notes: str = ""

    def peak_flop_per_s(self, precision: Precision) -> float:
        """Dense peak [FLOP/s]; raise InputError where the part has no such units."""
        peak: Sourced | None = getattr(self.dense_flop_per_s, precision)
        if peak is None:
            has = ", ".join(self.dense_flop_per_s.precisions())
            store = "; nvfp4_w4a16 stores four bits and multiplies in bf16" * (precision == "fp4")
            raise InputError(
                self.name,
                "weights",
                f"no {precision} matrix units; this part multiplies in {has}{store}",
            )
        return float(peak)


Topology = Literal["switch", "mesh", "torus2d", "torus3d", "pcie", "none"]


class ScaleUp(Spec):
    """The fast domain: NVLink/NVSwitch, xGMI, ICI, HCCS, or just PCIe."""

    technology: str
    devices: Count
    """Devices in one domain of this system."""
    topology: Topology
    bytes_per_s: BytesPerS
    """All links of one device together, one direction. [bytes/s]"""
    peer_bytes_per_s: BytesPerS | None = None
    """One direction to a single peer where that is less (mesh, torus link). [bytes/s]"""
    latency_s: LatencyS
    """One message, start to end, at zero size. [s]"""
    torus: Annotated[tuple[Count, ...], Field(max_length=3)] = ()
    """Devices along each axis of a torus; empty elsewhere, or where it is not known."""

    @model_validator(mode="after")
    def _axes_multiply_to_devices(self) -> Self:
        if self.torus and self.topology != f"torus{len(self.torus)}d":
            raise ValueError(f"torus: {len(self.torus)} axes do not make a {self.topology}")
        if self.torus and prod(self.torus) != self.devices:
            raise ValueError(
                f"torus: {self.torus} is {prod(self.torus)} devices, not {self.devices}"
            )
        if self.peer_bytes_per_s is not None and self.peer_bytes_per_s > self.bytes_per_s:
            raise ValueError(
                "peer_bytes_per_s: one peer gets at most bytes_per_s, all links together"
            )
        return self


class ScaleOut(Spec):
    """The network between domains."""

    technology: str
    bytes_per_s: BytesPerS
    """Per device, one direction. [bytes/s]"""
    latency_s: LatencyS


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
    server_power_w_per_device: PowerW | None = None
    """All-in server power a device: device, CPUs, NICs, fans. [W]"""
    max_nodes: Count | None = None
    """Nodes one deployment can join, where the fabric bounds it."""
    purchase_usd: Usd | None = None
    """Price of one node. [USD]"""
    notes: str = ""


class Reference(Spec):
    """Where a source key leads."""

    title: str
    url: str = ""
    retrieved: str = ""
