"""Multiprocessors that all-to-all kernels hold while another micro-batch computes."""

from functools import lru_cache

from planner.ops import Real
from planner.ops.collectives import message_bytes
from planner.shard import LocalMoe
from planner.sourced import Sourced
from planner.specs.hardware import AcceleratorSpec
from planner.step.stages import Stage

COMMUNICATION_SMS = Sourced(
    24,
    source="github deepseek-ai/profile-data (prefill trace, sm24); deepseek-ai/DeepEP README",
    note="multiprocessors set apart for normal all-to-all kernels while micro-batches overlap, on "
    "every part; low-latency kernels take none while a transfer is under way",
    confidence="assumed",
)

TRACED_SMS = 132
"""Multiprocessors of the H800 of that trace, taken where a part does not state its own."""

REMOTE_DMA = ("Google",)
"""Makers of parts whose cores start a copy to another part and go on computing.

References
----------
.. [1] JAX documentation, "Distributed Computing in Pallas for TPUs", docs.jax.dev (collectives by
   asynchronous remote DMA, beside computation).
"""

NORMAL_TRANSFER_HELD_UP = Sourced(
    0.26,
    source="github deepseek-ai/profile-data, prefill trace: computation waits 0.16 s of a step",
    note="share of their speed that normal all-to-all kernels lose while another micro-batch "
    "computes; fitted to that trace alone. A micro-benchmark beside matrix products (DeepEP issue "
    "184) has 0.15 for dispatch and 0.01 for combine",
    confidence="assumed",
)

DISPATCH_SM_BYTES_PER_S = Sourced(
    128 * 8 * 7168 * (1 + 4 / 128) / 60e-6,
    source="LMSYS, Deploying DeepSeek on 96 H100 (2025-05-05): dispatch unit test, 0.06 ms on SMs",
    note="bytes that low-latency dispatch sends and receives while it holds every multiprocessor: "
    "128 tokens to 8 experts in 8 bits; taken to grow with the bytes, on every part",
    confidence="assumed",
)

COMBINE_SM_BYTES_PER_S = Sourced(
    128 * 8 * 7168 * 2 / 50e-6,
    source="github deepseek-ai/DeepEP pull request 425: combine send 40 and receive 10 us",
    note="the same of combine: 128 tokens from 8 experts in 16 bits, on 8 devices",
    confidence="assumed",
)


def held_s(moe: LocalMoe, tokens: Real) -> dict[Stage, Real]:
    """Time for which low-latency kernels hold every multiprocessor, all layers. [s]

    Between sending and receiving they hold none, and other work runs.

    Parameters
    ----------
    tokens : of one rank; each goes to ``top_k`` experts, and as many come in. [tokens]

    References
    ----------
    .. [1] SGLang Team, "Deploying DeepSeek with PD Disaggregation and Large-Scale Expert
       Parallelism on 96 H100 GPUs", lmsys.org, 2025 (decode kernels use all multiprocessors while
       they send and receive, none in flight).
    .. [2] DeepSeek-AI, "DeepEP", github.com/deepseek-ai/DeepEP, README (receiving hooks).
    """
    sent, returned = message_bytes(moe)
    copies = moe.layers * moe.top_k * tokens
    return {
        "dispatch_sms": copies * sent / float(DISPATCH_SM_BYTES_PER_S),
        "combine_sms": copies * returned / float(COMBINE_SM_BYTES_PER_S),
    }


def communication_sm_share(part: AcceleratorSpec) -> Sourced:
    """Share of a part's multiprocessors that normal all-to-all kernels hold.

    References
    ----------
    .. [1] :data:`COMMUNICATION_SMS`: the kernels are launched with a number of multiprocessors,
       which does not grow with the part.
    """
    if part.vendor in REMOTE_DMA:
        source = "JAX documentation, Distributed Computing in Pallas for TPUs (remote DMA)"
        note = (
            f"{part.title}: nothing of it is taken to be set apart for traffic beside computation"
        )
        return Sourced(0.0, source, note, "assumed")
    units = float(part.multiprocessors or TRACED_SMS)
    own = f"{units:g}" if part.multiprocessors else f"{units:g}, {part.title} states none"
    return Sourced(
        float(COMMUNICATION_SMS) / units,
        COMMUNICATION_SMS.source,
        f"{float(COMMUNICATION_SMS):g} {COMMUNICATION_SMS.note} (of {own})",
        "assumed",
    )


@lru_cache(maxsize=64)
def beside_normal_kernels(part: AcceleratorSpec) -> AcceleratorSpec:
    """What normal all-to-all kernels leave of a part while micro-batches overlap.

    References
    ----------
    .. [1] DeepSeek-AI, "DeepSeek-V3 Technical Report", arXiv:2412.19437, section 3.2.2.
    """
    share = float(communication_sm_share(part))
    return without_multiprocessors(part, share) if share else part


def without_multiprocessors(part: AcceleratorSpec, share: float) -> AcceleratorSpec:
    """The part with a share of its multiprocessors gone.

    Products slow down in proportion.  So is memory taken to: with fewer multiprocessors fewer
    loads are under way, and all-to-all kernels read and write their buffers meanwhile.

    References
    ----------
    .. [1] SGLang, github.com/sgl-project/sglang, python/sglang/srt/operations_strategy.py (matrix
       products are told how many multiprocessors the all-to-all kernels leave).
    .. [2] J. D. C. Little, "A Proof for the Queuing Formula L = lambda W", Oper. Res. 9(3), 1961.
    """
    peaks, left = part.dense_flop_per_s, 1 - share
    return part.model_copy(
        update={
            "memory_bytes_per_s": _scaled(part.memory_bytes_per_s, left),
            "dense_flop_per_s": peaks.model_copy(
                update={name: _scaled(peak, left) for name, peak in peaks if peak is not None}
            ),
        }
    )


def _scaled(fact: Sourced, factor: float) -> Sourced:
    return Sourced(factor * fact, fact.source, fact.note, fact.confidence)
