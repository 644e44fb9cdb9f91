"""Laws of measured libraries: by hand, and what must hold whatever the numbers."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from planner import files
from planner.comm import (
    comm_load,
    comm_time_s,
    exchange_of,
    ideal_links,
    kv_link,
    kv_transfer_s,
    with_exchange,
)
from planner.comm.collectives import direct_load, ring_load
from planner.comm.exchange import phase_load
from planner.comm.network import Network
from planner.errors import InfeasibleError, InputError
from planner.ops import Comm
from planner.sourced import Sourced
from planner.specs.links import DirectLaw, PhaseLaw, RingLaw

US = 1e-6


def made(kind: Any, **numbers: float) -> Any:
    return kind.model_validate({k: Sourced(v, "test") for k, v in numbers.items()})


RING = {
    "floor_s": 5 * US, "step_s": 1 * US, "bandwidth_share": 0.8, "few_ranks_loss_share": 0.4,
    "ramp_s": 20 * US, "ramp_bytes": 1e6,
}  # fmt: skip
PHASE = {
    "floor_s": 15 * US, "base_s": 10 * US, "remote_s": 4 * US, "per_node_s": 1 * US,
    "per_doubling_s": 2 * US, "per_expert_s": 0.01 * US, "scale_up_share": 0.5,
    "scale_out_share": 0.9,
}  # fmt: skip
H800 = files.load_hardware("hgx-h800")
EXCHANGE = Comm(
    "dispatch", "all_to_all", 32, 8, 0.0, phase="dispatch", mode="low_latency", experts=256,
    message_bytes=7392.0,
)  # fmt: skip


def test_a_ring_by_hand() -> None:
    law: RingLaw = made(RingLaw, **RING)
    # 8 ranks, 1 MB through each: 5 + 7 + half of 20 us, and 1 MB at 0.8 (1 - 0.4 / 8) of 100 GB/s
    load = ring_load(law, 8, 1e6, 100e9)
    assert load.time_s == pytest.approx(22 * US + 1e6 / (0.8 * 0.95 * 100e9))


def test_one_shot_for_small_sums_and_two_for_large() -> None:
    law: DirectLaw = made(
        DirectLaw, floor_s=3 * US, second_shot_s=4 * US, step_s=0.0, one_shot_share=1.0,
        two_shot_share=1.0,
    )  # fmt: skip
    small, large = direct_load(law, 8, np.array([1e4, 1e7]), 100e9).time_s
    assert small == pytest.approx(3 * US + 7e4 / 100e9)
    assert large == pytest.approx(7 * US + 2 * 7 / 8 * 1e7 / 100e9)


def test_a_phase_by_hand() -> None:
    law: PhaseLaw = made(PhaseLaw, **PHASE)
    net = Network.of(EXCHANGE, H800.system, H800.calibration)
    assert (net.inside, net.nodes) == (8, 4)
    fixed = (10 + 4 + 3 * 1 + 2 * 2 + 2.56) * US
    load = phase_load(law, net, EXCHANGE, 0.0, 9e6)
    assert load.time_s == pytest.approx(fixed + 9e6 / (0.9 * 50e9))
    # nothing to send: the latency, but not less than the floor
    one = replace(EXCHANGE, ranks=8, experts=0)
    alone = Network.of(one, H800.system, H800.calibration)
    assert phase_load(law, alone, one, 0.0, 0.0).time_s == pytest.approx(15 * US)


def test_equal_stages_hold_each_other_up() -> None:
    law: PhaseLaw = made(PhaseLaw, **PHASE | {"floor_s": 0.0})
    net = Network.of(EXCHANGE, H800.system, H800.calibration)
    inner, outer = 100e9 * 1e-3, 45e9 * 1e-3  # a millisecond each
    both = phase_load(law, net, EXCHANGE, inner, outer)
    assert both.busy_s == pytest.approx(2**0.25 * 1e-3)


def test_the_first_release_sends_copies_for_its_own_node_over_the_network() -> None:
    comm = replace(EXCHANGE, ranks=8, bytes_per_rank=6.6e6)
    now = comm_time_s(comm, H800.system, H800.calibration)
    then = comm_time_s(
        comm, H800.system, with_exchange(H800.calibration, "deepep-low-latency-2025-02")
    )
    # 77 us in June 2025, 163 in February
    assert now / US == pytest.approx(77, rel=0.05)
    assert then / US == pytest.approx(163, rel=0.07)


def test_a_library_replaces_the_mode_it_was_measured_in() -> None:
    changed = with_exchange(H800.calibration, "deepep-normal-2025-02").links
    assert changed.normal == "deepep-normal-2025-02"
    assert changed.low_latency == "deepep-low-latency"
    with pytest.raises(InputError, match="no 'nccl' among its links; there are: deepep"):
        with_exchange(H800.calibration, "nccl")


def test_links_cannot_name_an_exchange_that_is_not_there() -> None:
    links = H800.calibration.links
    with pytest.raises(ValidationError, match="'pplx' is not among exchanges"):
        type(links).model_validate({**dict(links), "normal": "pplx"})


def test_a_ring_cannot_beat_the_stated_rate() -> None:
    with pytest.raises(ValidationError, match="of the stated rate"):
        made(RingLaw, **RING | {"few_ranks_loss_share": -0.9})


def test_without_laws_everything_stated_is_achieved() -> None:
    links = ideal_links(H800.calibration.links)
    assert exchange_of(EXCHANGE, links) is None
    assert not links.rings
    assert links.direct is None


# --- whatever the numbers ------------------------------------------------------------------------

PARTS = ("hgx-h100", "hgx-h200", "hgx-h800", "hgx-b200", "gb200-nvl72", "rtx-pro-6000-8gpu")


@given(
    st.sampled_from(PARTS),
    st.sampled_from(("all_reduce", "all_gather", "reduce_scatter", "all_to_all", "p2p")),
    st.sampled_from((2, 4, 8)),
    st.floats(1, 1e9),
    st.floats(1, 4),
)
def test_more_bytes_never_take_less_time(
    name: str, kind: Any, ranks: int, size: float, more: float
) -> None:
    hardware = files.load_hardware(name)
    one, two = (
        float(comm_time_s(
            Comm("x", kind, ranks, ranks, s, phase="combine", mode="normal"),
            hardware.system, hardware.calibration,
        ))
        for s in (size, size * more)
    )  # fmt: skip
    assert two >= one * (1 - 1e-12)


@given(st.sampled_from(PARTS), st.floats(1e3, 1e9))
def test_nothing_beats_the_stated_links(name: str, size: float) -> None:
    hardware = files.load_hardware(name)
    up = float(hardware.system.scale_up.bytes_per_s)
    for ranks in (2, 4, 8):
        gather = Comm("x", "all_gather", ranks, ranks, size)
        got = comm_time_s(gather, hardware.system, hardware.calibration)
        assert got > (ranks - 1) * size / up
        reduce = Comm("x", "all_reduce", ranks, ranks, size)
        assert comm_time_s(reduce, hardware.system, hardware.calibration) > size / up


def test_the_busiest_rank_sets_the_pace() -> None:
    comm = replace(EXCHANGE, bytes_per_rank=1e6, scale_out_bytes_per_rank=1e8)
    even = comm_load(comm, H800.system, H800.calibration)
    hot = comm_load(replace(comm, busiest_scale_out_share=2.0), H800.system, H800.calibration)
    assert hot.scale_out_s == pytest.approx(2 * even.scale_out_s)
    assert hot.scale_up_s == even.scale_up_s


# --- KV cache ------------------------------------------------------------------------------------


def test_kv_over_eight_cards_by_hand() -> None:
    over = kv_link("scale_out", H800.system, H800.calibration)
    rate = 50e9 * float(H800.calibration.links.scale_out_share)
    got = kv_transfer_s(1e9, over, devices=8, messages=61)
    assert got == pytest.approx(61 * over.latency_s + 1e9 / (8 * rate))


def test_kv_through_the_host_goes_down_and_up() -> None:
    over = kv_link("host", H800.system, H800.calibration, H800.accelerator)
    assert over.bytes_per_s == pytest.approx(float(H800.accelerator.host_link_bytes_per_s or 0) / 2)
    assert kv_link("scale_up", H800.system, H800.calibration).bytes_per_s > over.bytes_per_s


def test_a_link_that_is_not_there_is_refused() -> None:
    spark = files.load_hardware("dgx-spark")
    with pytest.raises(InfeasibleError, match="no network between domains"):
        kv_link("scale_out", spark.system, spark.calibration)
    with pytest.raises(InfeasibleError, match="no known link to the host"):
        kv_link("host", H800.system, H800.calibration)
    over = kv_link("scale_out", H800.system, H800.calibration)
    with pytest.raises(InputError, match="at least one device"):
        kv_transfer_s(1e9, over, devices=0)
