"""Scenarios whose prompts and answers have pools of their own."""

from pathlib import Path
from typing import Any

import pytest

from planner import evaluation, files
from planner.errors import InputError
from planner.evaluation.pools import fleet_of, handover, prefill_bill_share, transfer_name
from planner.report import pages, tables
from planner.report.answer import headline
from planner.specs.deployment import Disaggregated
from planner.specs.scenario import Scenario

PREFILL: dict[str, Any] = {
    "replicas": 2, "parallelism": {"attention_tp": 8, "moe_ep": 8}, "weights": "fp8",
}  # fmt: skip
DECODE: dict[str, Any] = {
    "parallelism": {"attention_dp": 16, "moe_ep": 16}, "weights": "fp8",
    "limits": {"max_sequences": 64},
}  # fmt: skip
SHORT = {
    "run.duration_s": 12, "run.warmup_s": 2, "routing": None,
    "workload.arrivals.requests_per_s": 4,
}  # fmt: skip


def scenario(**deployment: Any) -> Scenario:
    pools = {"prefill": PREFILL, "decode": DECODE, **deployment}
    return files.load_scenario("r1-chat", {**SHORT, "deployment": pools})


@pytest.fixture(scope="module")
def result() -> evaluation.Result:
    return evaluation.evaluate(scenario())


def pools_of(asked: Scenario) -> tuple[tuple[evaluation.FleetPool, ...], Disaggregated]:
    deployment = asked.deployment
    assert isinstance(deployment, Disaggregated)
    return fleet_of(asked, deployment), deployment


def test_devices_nodes_and_money_are_of_both_pools(result: evaluation.Result) -> None:
    assert result.devices == 2 * 8 + 16
    assert result.nodes == 4
    hourly = float(result.costs[0].price.usd_per_device_hour) * 32
    assert result.costs[0].usd_per_hour == pytest.approx(hourly)


def test_prompts_pay_for_the_prefill_pool(result: evaluation.Result) -> None:
    cost, done = result.costs[0], result.metrics.steady
    paid = cost.usd_per_million_input_tokens * done.input_tokens_per_s * 3600 / 1e6
    assert paid == pytest.approx(cost.usd_per_hour * 16 / 32)


def test_every_request_is_answered_and_each_pool_does_its_part(result: evaluation.Result) -> None:
    assert result.metrics.finished == result.metrics.arrived > 0
    prefill, decode = result.pools
    assert (prefill.pool.role, decode.pool.role) == ("prefill", "decode")
    assert 0 < prefill.busy_share < 1
    assert 0 < decode.busy_share <= 1
    assert result.records.prefill_replicas == 2
    held = result.records.decode_s[:2].sum()
    assert held == pytest.approx(0)


def test_both_pools_are_shown(result: evaluation.Result) -> None:
    assert [pool["role"] for pool in result.to_dict()["pools"]] == ["prefill", "decode"]
    assert [row[0] for row in tables.pools(result).rows] == ["prefill", "decode"]
    assert "2 prefill replicas of TP8 EP8" in headline(result)
    assert "1 decode replica of DP16 EP16" in headline(result)
    notes = [note for block in pages.blocks(result) for note in block.notes]
    assert any(note.startswith("Prefill pool: KV cache") for note in notes)
    named = {a.name for a in result.assumptions}
    assert {"transfer", "transfer_overlap_share"} <= named


def test_heads_of_eight_senders_arrive_over_the_one_link_of_their_receiver() -> None:
    one = {"weights": "bf16", "limits": {"max_sequences": 8}}
    asked = files.load_scenario(
        "r1-chat",
        {**SHORT, "model": "qwen3-8b", "deployment": {
            "prefill": {**one, "parallelism": {"attention_tp": 8, "moe_tp": 8}},
            "decode": {**one, "parallelism": {"attention_tp": 1}},
            "transfer": "scale_out",
        }},
    )  # fmt: skip
    pools, deployment = pools_of(asked)
    prefill, decode = (pool.replica.memory.kv_bytes_per_token for pool in pools)
    assert decode == pytest.approx(8 * prefill)
    hardware = asked.hardware[0]
    out = hardware.system.scale_out
    assert out is not None
    rate = float(out.bytes_per_s) * float(hardware.calibration.links.scale_out_share)
    assert handover(pools, deployment, 1000.0).s_per_token == pytest.approx(decode / rate)


def test_a_cache_takes_its_bytes_over_the_links_rate() -> None:
    asked = scenario(decode={**DECODE, "parallelism": {"attention_tp": 8, "moe_tp": 8}})
    pools, deployment = pools_of(asked)
    law = handover(pools, deployment, 1000.0)
    hardware = asked.hardware[0]
    out = hardware.system.scale_out
    assert out is not None
    rate = float(out.bytes_per_s) * float(hardware.calibration.links.scale_out_share)
    # 61 layers of 512 latent and 64 rope elements in bf16, the same on every rank
    assert law.s_per_token == pytest.approx(61 * 576 * 2 / rate)
    assert law.latency_s == pytest.approx(float(out.latency_s))


def test_data_parallel_ranks_send_side_by_side_but_none_the_faster() -> None:
    layout = {"parallelism": {"attention_dp": 8, "moe_ep": 8}, "weights": "fp8"}
    one, deployment = pools_of(scenario())
    many, spread = pools_of(scenario(prefill=layout))
    alone, beside = handover(one, deployment, 1000.0), handover(many, spread, 1000.0)
    assert beside.s_per_token == pytest.approx(alone.s_per_token / 8)
    mean_s = 1000 * alone.s_per_token + alone.latency_s
    assert 1000 * beside.s_per_token + beside.latency_s == pytest.approx(mean_s)


def test_caches_stay_in_the_domain_where_both_pools_are_in_it() -> None:
    half = {"parallelism": {"attention_tp": 4, "moe_tp": 4}, "weights": "nvfp4"}
    both = {"prefill": half, "decode": half}
    asked = files.load_scenario("r1-chat", {**SHORT, "system": "gb200-nvl72", "deployment": both})
    assert transfer_name(*pools_of(asked)) == "scale_up"
    assert transfer_name(*pools_of(scenario())) == "scale_out"
    assert transfer_name(*pools_of(scenario(transfer="scale_up"))) == "scale_up"


def test_the_prefill_pool_may_be_another_system() -> None:
    asked = scenario(prefill_system="hgx-b200")
    pools, _ = pools_of(asked)
    parts = [pool.replica.hardware.accelerator.name for pool in pools]
    assert parts == ["b200-sxm", "h200-sxm"]
    usd = [16 * float(pool.replica.hardware.prices[0].usd_per_device_hour) for pool in pools]
    assert prefill_bill_share(pools) == pytest.approx(usd[0] / sum(usd))
    back = files.apply_overrides(asked, {"deployment.prefill_system": None})
    assert back.prefill_hardware is None


def test_each_pool_takes_its_engines_fit_for_pools_apart() -> None:
    pools, _ = pools_of(scenario(engine="sglang"))
    aggregated = files.load_scenario("r1-chat", {"deployment": {**PREFILL, "engine": "sglang"}})
    assert aggregated.decoding is not None
    alone = evaluation.build(aggregated.model, aggregated.hardware[0], aggregated.decoding)
    for pool in pools:
        overheads = pool.replica.pool.engine.overheads
        assert overheads.moe_factor == alone.pool.engine.overheads.moe_factor
        assert overheads.request_host_s != alone.pool.engine.overheads.request_host_s


BAD = {
    "kv": ("  decode: {parallelism: {}, weights: fp8, kv: fp8}", "prefill.kv bf16"),
    "engine": ("  decode: {parallelism: {}, weights: fp8, engine: vlm}", "3: deployment.decode."),
    "typo": ("  decode: {parallelism: {}, wieghts: fp8}", "3: deployment.decode.weights"),
    "alone": ("  transfer: scale_out", "deployment.decode: is missing"),
    "system": (
        "  decode: {parallelism: {}, weights: fp8}\n  prefill_system: nope",
        "4: deployment.prefill_system: 'nope' is not known",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_fault_is_named_with_its_place(case: str, tmp_path: Path) -> None:
    line, said = BAD[case]
    path = tmp_path / "pools.yaml"
    path.write_text(
        "deployment:\n  prefill: {parallelism: {}, weights: fp8}\n"
        f"{line}\nname: x\nmodel: deepseek-r1\nsystem: hgx-h200\n"
    )
    with pytest.raises(InputError) as caught:
        files.load_scenario(path)
    assert said in str(caught.value)
