"""Moving KV cache from one pool to another."""

from dataclasses import dataclass
from typing import Literal, assert_never

from planner.errors import InfeasibleError, InputError
from planner.ops import Real
from planner.specs.calibration import CalibrationSpec
from planner.specs.hardware import AcceleratorSpec, SystemSpec

Link = Literal["scale_up", "scale_out", "host"]
"""Inside one domain; over the network cards; through host memory."""


@dataclass(frozen=True, slots=True)
class KvLink:
    """What one device's link gives to a plain stream of bytes."""

    bytes_per_s: float
    latency_s: float


def kv_link(
    link: Link,
    system: SystemSpec,
    calibration: CalibrationSpec,
    part: AcceleratorSpec | None = None,
) -> KvLink:
    """Rate reached and latency of a named link.

    Parameters
    ----------
    link : ``host``: device to host memory and up again, one after the other, at the stated rate.
    part : needed for ``host``: its link to the host.

    Raises
    ------
    InfeasibleError
        The system has no such link.

    References
    ----------
    .. [1] R. Qin et al., "Mooncake", arXiv:2407.00079, section 4 (transfer engine over RDMA).
    """
    up, out, shares = system.scale_up, system.scale_out, calibration.links
    match link:
        case "scale_up":
            rate = float(up.bytes_per_s) * float(shares.scale_up_share)
            return KvLink(rate, float(up.latency_s))
        case "scale_out":
            if out is None:
                raise _missing(system.name, "network between domains")
            rate = float(out.bytes_per_s) * float(shares.scale_out_share)
            return KvLink(rate, float(out.latency_s))
        case "host":
            if part is None or part.host_link_bytes_per_s is None:
                raise _missing(part.name if part else system.name, "known link to the host")
            return KvLink(float(part.host_link_bytes_per_s) / 2, 2 * float(up.latency_s))
        case _:
            assert_never(link)


def kv_transfer_s(size_bytes: Real, over: KvLink, devices: int = 1, messages: int = 1) -> Real:
    r"""Time until ``size_bytes`` of cache have arrived.

    .. math:: t = m\,\alpha + \frac{B}{d\,W}

    over ``d`` links of rate ``W`` side by side; ``m`` messages one after another pay latency.
    What of it hides behind the layers still being computed is the caller's choice.

    Parameters
    ----------
    size_bytes : cache of the request (replicated parts are sent once). [bytes]
    over : the link of one device, see ``kv_link``.
    devices : senders that share the bytes, each with its own link to a receiver.
    messages : transfers that wait for each other (layers, or blocks in flight at a time).

    Returns
    -------
    Time in seconds, in the shape of ``size_bytes``. [s]

    Raises
    ------
    InputError
        Fewer than one device or message.

    References
    ----------
    .. [1] R. Qin et al., "Mooncake", arXiv:2407.00079, section 5 (layer-wise transfer).
    """
    if devices < 1 or messages < 1:
        raise InputError("", "kv_transfer", "needs at least one device and one message")
    return messages * over.latency_s + size_bytes / (devices * over.bytes_per_s)


def _missing(name: str, what: str) -> InfeasibleError:
    return InfeasibleError(f"KV transfer on {name}", 1, 0, "links", f"there is no {what}")
