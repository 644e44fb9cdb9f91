"""Multiprocessors that normal all-to-all kernels hold while another micro-batch computes."""

from planner.sourced import Sourced
from planner.specs.hardware import AcceleratorSpec

COMMUNICATION_SM_SHARE = Sourced(
    24 / 132,
    source="github deepseek-ai/profile-data (prefill trace, sm24); deepseek-ai/DeepEP README",
    note="multiprocessors set apart for normal all-to-all kernels (24 of 132) while micro-batches "
    "overlap; low-latency kernels take none while a transfer is under way",
    confidence="assumed",
)


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
