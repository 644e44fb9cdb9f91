"""Moving KV cache from one pool to another."""

from typing import Literal, assert_never

from planner.errors import InfeasibleError, InputError
from planner.ops import Real
from planner.specs.hardware import AcceleratorSpec, CalibrationSpec, SystemSpec

Link = Literal["scale_up", "scale_out", "host"]
"""Inside one domain; over the network cards; through host memory."""


def kv_transfer_s(
    size_bytes: Real,
    link: Link,
    system: SystemSpec,
    calibration: CalibrationSpec,
    part: AcceleratorSpec | None = None,
    devices: int = 1,
    messages: int = 1,
) -> Real:
    r"""Time until ``size_bytes`` of cache have arrived.

    .. math:: t = m\,\alpha + \frac{B}{d\,\eta\,W}

    over ``d`` links of rate ``W`` side by side; ``m`` messages one after another pay latency.
    What of it hides behind the layers still being computed is the caller's choice.

    Parameters
    ----------
    size_bytes : cache of the request (replicated parts are sent once). [bytes]
    link : ``host``: device to host memory and up again, one after the other.
    part : needed for ``host``: its link to the host.
    devices : senders that share the bytes, each with its own link to a receiver.
    messages : transfers that wait for each other (layers, or blocks in flight at a time).

    Returns
    -------
    Time in seconds, in the shape of ``size_bytes``. [s]

    Raises
    ------
    InfeasibleError
        The system has no such link.
    InputError
        Fewer than one device or message.

    References
    ----------
    .. [1] R. Qin et al., "Mooncake", arXiv:2407.00079, section 4 (layer-wise transfer over RDMA).
    """
    if devices < 1 or messages < 1:
        raise InputError("", "kv_transfer", "needs at least one device and one message")
    links = calibration.links
    match link:
        case "scale_up":
            rate = float(system.scale_up.bytes_per_s) * float(links.scale_up_share)
            latency = float(system.scale_up.latency_s)
        case "scale_out":
            if system.scale_out is None:
                raise _missing(system.name, "network between domains")
            rate = float(system.scale_out.bytes_per_s) * float(links.scale_out_share)
            latency = float(system.scale_out.latency_s)
        case "host":
            if part is None or part.host_link_bytes_per_s is None:
                raise _missing(part.name if part else system.name, "known link to the host")
            rate = float(part.host_link_bytes_per_s) / 2
            latency = 2 * float(system.scale_up.latency_s)
        case _:
            assert_never(link)
    return messages * latency + size_bytes / (devices * rate)


def _missing(name: str, what: str) -> InfeasibleError:
    return InfeasibleError(f"KV transfer on {name}", 1, 0, "links", f"there is no {what}")
