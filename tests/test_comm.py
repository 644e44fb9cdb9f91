"""Collectives: latency and bandwidth by hand, and measured dispatch and combine."""

from typing import Any

import pytest

from planner import files
from planner.comm import comm_time_s
from planner.errors import InfeasibleError
from planner.evaluation import build
from planner.files.engines import load_engine
from planner.ops import Comm, collectives
from planner.shard import Shard, shard
from planner.specs.calibration import CalibrationSpec
from planner.specs.deployment import Parallelism, Pool
from planner.specs.hardware import SystemSpec
from planner.step import ideal

US = 1e-6


def plain(
    topology: str = "switch", latency_s: float = 0.0, devices: int = 8, scale_out: bool = True
) -> tuple[SystemSpec, CalibrationSpec]:
    """100 GB/s inside, 10 GB/s outside, everything achieved, no floor."""
    hardware = files.load_hardware("hgx-h200")
    known = {"source": "test"}
    fact = {"source": "test", "confidence": "assumed"}
    data = hardware.system.model_dump()
    data["scale_up"] |= {
        "topology": topology,
        "devices": devices,
        "bytes_per_s": {"value": 100e9, **known},
        "peer_bytes_per_s": None if topology == "switch" else {"value": 25e9, **known},
        "latency_s": {"value": 1e-6, **known},
    }
    data["scale_out"] = scale_out and {
        "technology": "test",
        "bytes_per_s": {"value": 10e9, **fact},
        "latency_s": {"value": 5e-6, **fact},
    }
    system = SystemSpec.model_validate(data | {"scale_out": data["scale_out"] or None})
    exact, calibration = ideal(system, hardware.calibration)
    return (system if latency_s else exact), calibration


EXACT = plain()
"""No latency."""
SLOW = plain(latency_s=1.0)
"""1 us a message inside, 5 us outside."""


def seconds(kind: Any, ranks: int, inside: int, size: float, outer: float = 0.0, **k: Any) -> float:
    system, calibration = k.get("on", EXACT)
    comm = Comm("x", kind, ranks, inside, size, outer)
    return float(comm_time_s(comm, system, calibration))


# --- by hand ---------------------------------------------------------------------------------


def test_all_reduce_in_a_domain_moves_twice_seven_eighths() -> None:
    assert seconds("all_reduce", 8, 8, 8e6) == pytest.approx(2 * 7 / 8 * 8e6 / 100e9)
    # large: two messages; small: one, to everybody
    large = seconds("all_reduce", 8, 8, 8e6, on=SLOW)
    assert large == pytest.approx(2 * US + 2 * 7 / 8 * 8e6 / 100e9)
    small = seconds("all_reduce", 8, 8, 1e3, on=SLOW)
    assert small == pytest.approx(1 * US + 7 * 1e3 / 100e9)


def test_all_reduce_over_two_domains_sums_an_eighth_across() -> None:
    inside = 2 * 7 / 8 * 8e6 / 100e9
    across = 2 * (1 / 2) * 1e6 / 10e9
    # latencies follow each other, chunks pass both levels at once
    got = seconds("all_reduce", 16, 8, 8e6, on=SLOW)
    assert got == pytest.approx(2 * US + 2 * 5 * US + max(inside, across))
    larger = seconds("all_reduce", 64, 8, 80e6, on=SLOW)
    ring = 2 * 7 * 5 * US + 2 * (7 / 8) * 10e6 / 10e9
    tree = 2 * 3 * (5 * US + 10e6 / 10e9)
    assert larger == pytest.approx(2 * US + min(ring, tree))


def test_all_gather_brings_every_other_part() -> None:
    assert seconds("all_gather", 8, 8, 1e6, on=SLOW) == pytest.approx(US + 7e6 / 100e9)
    # two domains: one part from outside, then seven devices' two parts inside
    got = seconds("all_gather", 16, 8, 1e6, on=SLOW)
    assert got == pytest.approx(US + 5 * US + max(7 * 2 * 1e6 / 100e9, 1e6 / 10e9))
    assert seconds("reduce_scatter", 16, 8, 1e6, on=SLOW) == pytest.approx(got)


def test_all_to_all_takes_the_slower_network() -> None:
    inner = US + 1e6 / 100e9
    assert seconds("all_to_all", 16, 8, 1e6, 1e4, on=SLOW) == pytest.approx(inner)
    outer = 5 * US + 1e6 / 10e9
    assert seconds("all_to_all", 16, 8, 1e6, 1e6, on=SLOW) == pytest.approx(outer)


def test_a_message_to_the_next_stage() -> None:
    assert seconds("p2p", 2, 2, 1e6, on=SLOW) == pytest.approx(US + 1e6 / 100e9)
    assert seconds("p2p", 2, 1, 1e6, on=SLOW) == pytest.approx(5 * US + 1e6 / 10e9)


def test_without_a_switch_two_devices_share_one_link() -> None:
    for topology in ("mesh", "torus2d", "torus3d"):
        assert seconds("all_reduce", 2, 2, 1e6, on=plain(topology)) == pytest.approx(1e6 / 25e9)
    assert seconds("all_reduce", 5, 5, 1e6, on=plain("mesh")) == pytest.approx(1.6e6 / 100e9)


def test_messages_in_a_torus_cross_several_links() -> None:
    # 16 x 16, closed: mean distance 4 + 4 links, each with a quarter of 100 GB/s in a direction
    torus = plain("torus2d", devices=256)
    assert seconds("all_to_all", 256, 256, 1e6, on=torus) == pytest.approx(1e6 * 8 / 100e9)


def test_a_network_that_does_not_exist_is_refused() -> None:
    with pytest.raises(InfeasibleError, match="no network between domains") as caught:
        seconds("all_reduce", 16, 8, 1e6, on=plain(scale_out=False))
    assert (caught.value.needed, caught.value.available) == (16, 8)


# --- expert traffic --------------------------------------------------------------------------


def cut(weights: Any = "fp8", model: str = "deepseek-r1", **degrees: int) -> Shard:
    return shard(files.load_model(model), Pool(parallelism=Parallelism(**degrees), weights=weights))


WIDE = cut(attention_dp=128, moe_ep=128)


def test_bytes_of_a_token_to_and_from_its_experts() -> None:
    dispatch, combine = collectives.expert_comms(WIDE, 128.0, 8, dedup=False)  # one token a rank
    per_copy = 7168 + 7168 / 128 * 4, 7168 * 2
    assert per_copy == (7392, 14336)
    # 8 copies over 16 nodes: 120 of 128 ranks are on others, 7 in the same node
    assert dispatch.scale_out_bytes_per_rank == pytest.approx(8 * 7392 * 120 / 128)
    assert dispatch.bytes_per_rank == pytest.approx(8 * 7392 * 7 / 128)
    assert combine.scale_out_bytes_per_rank == pytest.approx(8 * 14336 * 120 / 128)
    assert dispatch.count == combine.count == 58


def test_dispatch_in_four_bits_carries_a_scale_per_16() -> None:
    dispatch, combine = collectives.expert_comms(
        cut("nvfp4", attention_dp=8, moe_ep=8), 8.0, 8, dedup=False
    )
    assert dispatch.bytes_per_rank == pytest.approx(8 * (7168 / 2 + 7168 / 16) * 7 / 8)
    assert combine.bytes_per_rank == pytest.approx(8 * 14336 * 7 / 8)


def test_latent_experts_send_the_narrow_vector() -> None:
    dispatch, _ = collectives.expert_comms(
        cut("bf16", "kimi-k3", attention_dp=8, moe_ep=8), 8.0, 8, dedup=False
    )
    model = files.load_model("kimi-k3")
    assert model.moe is not None
    assert model.moe.latent_size == 3584
    assert dispatch.bytes_per_rank == pytest.approx(model.moe.top_k * 3584 * 2 * 7 / 8)


def test_node_limited_routing_sends_at_most_four_copies() -> None:
    # 8 groups on 8 nodes, 4 of them a token: 4 (1 - (3/4)^8) = 3.6 nodes, not 8 experts
    assert WIDE.moe is not None
    assert collectives.distinct_nodes(WIDE.moe, 8) == pytest.approx(4 * (1 - 0.75**8))
    for nodes in (2, 3, 4, 5, 6, 7, 8):
        assert 1 < collectives.distinct_nodes(WIDE.moe, nodes) <= min(4, nodes)
    local = cut(attention_dp=64, moe_ep=64)
    dispatch, combine = collectives.expert_comms(local, 64.0, 8, dedup=True)
    assert dispatch.scale_out_bytes_per_rank == pytest.approx(3.6 * 7392 * 7 / 8, rel=1e-3)
    assert dispatch.scale_out_bytes_per_rank < 29.6e3
    assert combine.scale_out_bytes_per_rank < 57.3e3


def test_two_groups_a_node_are_counted_by_cases() -> None:
    # 4 nodes of 2 groups; a node holds 0, 1, 2 of the 4 chosen with C(2,j) C(6,4-j) / C(8,4)
    missed = (15 * 1 + 40 * 0.75**8 + 15 * 0.5**8) / 70
    assert WIDE.moe is not None
    assert collectives.distinct_nodes(WIDE.moe, 4) == pytest.approx(4 * (1 - missed))


def test_without_a_limit_copies_go_to_the_distinct_nodes() -> None:
    local = cut("bf16", "qwen3-235b-a22b", attention_dp=32, moe_ep=32)
    assert local.moe is not None
    expected = 4 * (1 - 0.75**8)
    assert collectives.distinct_nodes(local.moe, 4) == pytest.approx(expected)


@pytest.mark.parametrize(("name", "measured_us"), [("dispatch", 192.0), ("combine", 369.0)])
def test_deepep_on_h800_with_128_ranks(name: str, measured_us: float) -> None:
    hardware = files.load_hardware("hgx-h800")
    comms = collectives.expert_comms(WIDE, 128.0 * 128, 8, dedup=False)
    (comm,) = (c for c in comms if c.name.endswith(name))
    once_s = comm_time_s(comm, hardware.system, hardware.calibration) / comm.count
    assert once_s / US == pytest.approx(measured_us, rel=0.15)


def test_ideal_wire_time_of_128_tokens() -> None:
    # 128 x 8 copies at 50 GB/s: 151 and 294 us, were all of them remote
    hardware = files.load_hardware("hgx-h800")
    system, calibration = ideal(hardware.system, hardware.calibration)
    remote = 120 / 128
    for comm, whole_us in zip(
        collectives.expert_comms(WIDE, 128.0 * 128, 8, dedup=False), (151.4, 293.6), strict=True
    ):
        once_s = comm_time_s(comm, system, calibration) / comm.count
        assert once_s / US == pytest.approx(whole_us * remote, rel=1e-3)


# --- which collectives there are ---------------------------------------------------------------


def kinds(local: Shard, domain: int = 8) -> dict[str, str]:
    comms = [
        *collectives.token_comms(local, 8.0, domain),
        *collectives.expert_comms(local, 8.0 * local.attention_dp, domain, dedup=False),
        *collectives.head_comms(local, 8.0, domain),
    ]
    return {c.name: c.kind for c in comms}


def test_one_device_exchanges_nothing() -> None:
    assert kinds(cut()) == {}


def test_tensor_parallelism_sums_twice_a_layer() -> None:
    local = cut(attention_tp=8, moe_tp=8)
    assert kinds(local) == {
        "attention/all_reduce": "all_reduce",
        "dense_mlp/all_reduce": "all_reduce",
        "expert_network/all_reduce": "all_reduce",
        "lm_head/all_gather": "all_gather",
    }
    comms = [
        *collectives.token_comms(local, 8.0, 8),
        *collectives.expert_comms(local, 8.0, 8, dedup=False),
    ]
    assert sum(c.count for c in comms) == 61 + 3 + 58
    assert {c.bytes_per_rank for c in comms} == {8 * 7168 * 2}


def test_expert_parallelism_under_tensor_parallel_attention_still_sums() -> None:
    # every device has every token: no all-to-all
    assert kinds(cut(attention_tp=8, moe_ep=8)) == kinds(cut(attention_tp=8, moe_tp=8))


def test_data_parallel_attention_dispatches_and_combines() -> None:
    assert kinds(cut(attention_dp=8, moe_ep=8)) == {
        "expert_network/dispatch": "all_to_all",
        "expert_network/combine": "all_to_all",
    }


def test_data_parallel_attention_over_split_experts_gathers_and_scatters() -> None:
    assert kinds(cut(attention_dp=8, moe_tp=8)) == {
        "expert_network/all_gather": "all_gather",
        "expert_network/reduce_scatter": "reduce_scatter",
    }


def test_a_pipeline_sends_to_the_next_stage() -> None:
    local = cut(attention_tp=8, moe_tp=8, pp=2)
    (send,) = (c for c in collectives.token_comms(local, 8.0, 8) if c.kind == "p2p")
    assert send.ranks_in_domain == 1  # the next stage is another node
    assert send.bytes_per_rank == 8 * 7168 * 2 / 8


def test_layers_without_a_cache_need_no_context_collectives() -> None:
    pool = Pool(
        parallelism=Parallelism(attention_tp=8, moe_tp=8, context_parallel=4), weights="bf16"
    )
    local = shard(files.load_model("qwen3.5-397b-a17b"), pool)
    gathers = [c for c in collectives.token_comms(local, 1.0, 8) if c.name == "attention/cp_gather"]
    assert [c.count for c in gathers] == [15]  # of 60 layers


def test_ranks_that_gather_take_every_token_and_give_back_sums() -> None:
    pool = Pool(
        parallelism=Parallelism(attention_dp=8, moe_ep=8), weights="nvfp4", exchange="all-gather"
    )
    local = shard(files.load_model("deepseek-r1"), pool)
    assert not local.uses_all_to_all
    gather, scatter = collectives.expert_comms(local, 80.0, 8, dedup=False)  # ten tokens a rank
    assert (gather.kind, scatter.kind) == ("all_gather", "reduce_scatter")
    assert gather.bytes_per_rank == pytest.approx(10 * (7168 / 2 + 7168 / 16))
    assert scatter.bytes_per_rank == pytest.approx(10 * 7168 * 2)
    eight = shard(files.load_model("deepseek-r1"), pool.model_copy(update={"weights": "fp8"}))
    gather, _ = collectives.expert_comms(eight, 80.0, 8, dedup=False)  # converted where computed
    assert gather.bytes_per_rank == pytest.approx(10 * 7168 * 2)


@pytest.mark.parametrize(
    ("engine", "system", "exchange", "gathers"),
    [
        ("tensorrt-llm", "hgx-b200", "", True),
        ("tensorrt-llm", "gb200-nvl72", "", False),
        ("vllm", "gb200-nvl72", "", True),
        ("vllm", "hgx-b200", "deepep-low-latency", False),
        ("sglang", "hgx-b200", "", False),
    ],
)
def test_an_engine_gathers_where_it_does_and_nothing_else_is_asked(
    engine: str, system: str, exchange: str, gathers: bool
) -> None:
    pool = Pool(
        parallelism=Parallelism(attention_dp=8, moe_ep=8), weights="nvfp4", exchange=exchange,
        engine=load_engine(engine),
    )  # fmt: skip
    built = build(files.load_model("deepseek-r1"), files.load_hardware(system), pool)
    assert built.shard.gathers_tokens is gathers


def test_an_overlap_of_expert_traffic_needs_an_all_to_all() -> None:
    pool = Pool(
        parallelism=Parallelism(attention_dp=8, moe_ep=8), weights="fp8", overlap="two_batch",
        engine=load_engine("vllm"),
    )  # fmt: skip
    built = build(files.load_model("deepseek-r1"), files.load_hardware("hgx-h200"), pool)
    assert built.shard.uses_all_to_all
