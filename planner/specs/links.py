"""What was measured of the links: few parameters a library, each with a physical meaning."""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from planner.sourced import Sourced
from planner.specs.base import Count, Share, Spec


def _within(low: float, high: float, quantity: str) -> AfterValidator:
    def check(value: Sourced) -> Sourced:
        if not low <= value <= high:
            raise ValueError(f"{float(value):g} is not {quantity} (expected {low:g} to {high:g})")
        return value

    return AfterValidator(check)


FixedS = Annotated[Sourced, _within(0, 1e-1, "a fixed time in seconds; 3 us is written 3e-6")]
"""Fixed time that may be nothing. [s]"""
SizeBytes = Annotated[Sourced, _within(1, 1e12, "a size in bytes")]
RateBytesPerS = Annotated[Sourced, _within(1e6, 1e15, "a rate in bytes/s")]
ForwardShare = Annotated[Sourced, _within(0, 10, "a cost relative to another")]
LossShare = Annotated[Sourced, _within(-3, 2, "a loss")]


class RingLaw(Spec):
    r"""A library collective (NCCL) inside one domain.

    .. math:: t = f + s\,(p - 1) + D \frac{w}{w + w_0} + \frac{w}{W\,\eta\,(1 - a / p)}

    for ``p`` ranks and ``w`` bytes through each rank's links: latency of ``p - 1`` steps, the
    longer start of the protocols that large messages change to, and the rate of those.
    """

    floor_s: FixedS
    """``f``: launch and flags, whatever the ranks. [s]"""
    step_s: FixedS
    """``s``: each further rank. [s]"""
    bandwidth_share: Share
    """``eta``: of the stated rate, with many ranks."""
    few_ranks_loss_share: LossShare
    """``a``: share lost by few ranks; negative where a shared bus slows with more."""
    ramp_s: FixedS
    """``D``: what large messages start later. [s]"""
    ramp_bytes: SizeBytes
    """``w0``: size at which half of it is paid. [bytes]"""

    @model_validator(mode="after")
    def _never_faster_than_stated(self) -> Self:
        most = float(self.bandwidth_share) * (1 - min(0.0, float(self.few_ranks_loss_share)) / 2)
        if most > 1 or self.few_ranks_loss_share >= 2:
            raise ValueError(
                f"bandwidth_share: two ranks would reach {most:.3g} of the stated rate"
            )
        return self


class DirectLaw(Spec):
    r"""All-reduce of the serving engines: peers read each other's memory, no ring.

    One shot (everybody reads all): :math:`f_1 + s (p-1) + (p - 1) n / (\eta_1 W)`; two shots
    (scatter the sums, gather them): :math:`f_1 + f_2 + s (p-1) + 2 \frac{p-1}{p} n / (\eta_2 W)`.
    """

    floor_s: FixedS
    second_shot_s: FixedS
    """``f_2``: another barrier. [s]"""
    step_s: FixedS
    one_shot_share: Share
    two_shot_share: Share


class PhaseLaw(Spec):
    r"""Dispatch or combine of an expert exchange.

    .. math:: t = \max\bigl(f,\; b + [N > 1]\, b_o + b_n (N - 1) + b_2 \log_2 N
              + b_e E + z / r_1 + \lVert x / W_u', y / W_o', c \rVert_4\bigr), \qquad
              c = \frac{x + \kappa y}{S} \Bigl(\frac{1}{r} + \frac{m}{z}\Bigr)

    with ``x`` bytes over scale-up and ``y`` over scale-out a rank, ``N`` nodes, ``E`` experts,
    messages of ``z`` bytes, ``S`` SMs that copy for ``c`` seconds.
    """

    floor_s: FixedS
    """``f``: the least an exchange takes; part of it passes while the first bytes move. [s]"""
    base_s: FixedS
    """``b``: what is added to the time of the bytes. [s]"""
    remote_s: FixedS
    """``b_o``: leaving the node at all (network card, remote flags). [s]"""
    per_node_s: FixedS
    """``b_n``: each further node (counts are exchanged with all of them). [s]"""
    per_doubling_s: FixedS
    """``b_2``: each doubling of the nodes. [s]"""
    per_expert_s: FixedS
    """``b_e``: each expert of the model (counts and flags). [s]"""
    message_bytes_per_s: RateBytesPerS | None = None
    """``r_1``: rate of the first token's way through the copies of one SM. [B/s]"""
    scale_up_share: Share
    scale_out_share: Share | None = None
    """None: never measured over scale-out; ``all_to_all_scale_out_share`` stands in."""
    ranks_loss_share: LossShare | None = None
    """``gamma``: the share of scale-up falls as (ranks / 8) to minus this."""
    wide_loss_share: LossShare | None = None
    """The share of scale-out falls as (nodes / wide_nodes) to minus this, beyond ``wide_nodes``."""
    wide_nodes: Count | None = None
    sm_bytes_per_s: RateBytesPerS | None = None
    """``r``: bytes one SM copies; None: copying never binds. [B/s]"""
    sm_message_s: FixedS | None = None
    """``m``: time of one SM on a message, whatever its bytes. [s]"""
    forward_share: ForwardShare | None = None
    """``kappa``: cost to an SM of a byte that crosses scale-out over one that does not."""


class ExchangeLaw(Spec):
    """One library's expert exchange in one mode."""

    dispatch: PhaseLaw
    combine: PhaseLaw
    one_copy_a_rank: bool = False
    """A token goes once to each rank that holds some of its experts, not once an expert."""
    in_node: Literal["scale_up", "scale_out"] = "scale_up"
    """What carries the copies to ranks of the own node."""
    sms: Count | None = None
    """SMs the kernel holds while it runs; None: it holds none while bytes travel."""
    copied_from: str = Field(default="", description="Part it was measured on, if another one.")
