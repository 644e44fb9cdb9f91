"""Dispatch of tokens to their experts, and the way back."""

import math

import numpy as np

from planner.comm.load import Load
from planner.comm.network import Network
from planner.ops import Comm, Real
from planner.specs.links import ExchangeLaw, PhaseLaw


def exchange_load(net: Network, comm: Comm, law: ExchangeLaw | None) -> Load:
    """One all-to-all by a measured library, by a plain collective, or by latency and bandwidth.

    Both levels work at once; the one that is busy longest on the busiest rank sets the time.

    Parameters
    ----------
    law : None: as ``all_to_all`` shares of the links say.

    References
    ----------
    .. [1] DeepSeek-AI, "DeepEP", github.com/deepseek-ai/DeepEP, docs/legacy.md.
    """
    inner: Real = comm.bytes_per_rank * comm.busiest_share
    outer: Real = comm.scale_out_bytes_per_rank * comm.busiest_scale_out_share
    if law is not None:
        phase = law.combine if comm.phase == "combine" else law.dispatch
        if law.one_copy_a_rank:
            inner = inner * comm.one_copy_share
        if law.in_node == "scale_out":
            inner, outer = inner * 0.0, outer + inner
        return phase_load(phase, net, comm, inner, outer, law.sms)
    links, wide = net.links, net.nodes > 1
    up = inner / (net.up_all_bytes_per_s * float(links.all_to_all_scale_up_share))
    out = outer / (net.out_bytes_per_s * float(links.all_to_all_scale_out_share)) if wide else 0.0
    latency = np.where(np.greater(out, up) & wide, net.out_latency_s, net.up_latency_s)
    return Load(latency + float(links.all_to_all_floor_s or 0.0), up, out)


def phase_load(
    law: PhaseLaw, net: Network, comm: Comm, inner: Real, outer: Real, sms: Real | None = None
) -> Load:
    """Load of one dispatch or combine.

    Parameters
    ----------
    comm : for its experts and the size of a message.
    inner, outer : bytes of one rank over scale-up and scale-out. [bytes]
    sms : SMs that copy.

    References
    ----------
    .. [1] ``planner.specs.links.PhaseLaw``: the formula.
    """
    fixed = (
        float(law.base_s)
        + (float(law.remote_s) if net.nodes > 1 else 0.0)
        + float(law.per_node_s) * (net.nodes - 1)
        + float(law.per_doubling_s) * math.log2(net.nodes)
        + float(law.per_expert_s) * comm.experts
    )
    if law.message_bytes_per_s:
        fixed += comm.message_bytes / float(law.message_bytes_per_s)
    fanned_out = (net.inside / 8) ** -float(law.ranks_loss_share or 0.0)
    up_share = min(1.0, float(law.scale_up_share) * fanned_out)
    out_share = float(law.scale_out_share or net.links.all_to_all_scale_out_share)
    if law.wide_nodes and net.nodes > law.wide_nodes:
        out_share *= (net.nodes / law.wide_nodes) ** -float(law.wide_loss_share or 0.0)
    copy: Real = 0.0
    if law.sm_bytes_per_s and sms is not None:
        moved = inner + float(law.forward_share or 0.0) * outer
        byte_s = 1 / float(law.sm_bytes_per_s)
        if law.sm_message_s and comm.message_bytes:
            byte_s += float(law.sm_message_s) / comm.message_bytes
        copy = moved * byte_s / sms
    up = inner / (net.up_all_bytes_per_s * up_share)
    out = outer / (net.out_bytes_per_s * out_share)
    return Load(fixed, up, out, copy, float(law.floor_s), blended=True)
