"""One forward step: consistency, bounds and published profiles."""

from typing import Any

import numpy as np
import pytest

from planner import files
from planner.ops import collectives
from planner.shard import shard
from planner.specs.deployment import Parallelism, Pool
from planner.step import StepModel, ideal

CASES: tuple[tuple[str, str, str, dict[str, int]], ...] = (
    ("deepseek-r1", "hgx-h200", "fp8", {"attention_tp": 8, "moe_tp": 8}),
    ("deepseek-r1", "hgx-h200", "fp8", {"attention_dp": 8, "moe_ep": 8}),
    ("deepseek-r1", "hgx-h800", "fp8", {"attention_dp": 128, "moe_ep": 128}),
    ("deepseek-r1", "hgx-h200", "fp8", {"attention_tp": 4, "attention_dp": 4, "moe_ep": 16}),
    ("deepseek-r1", "hgx-h100", "fp8", {"attention_tp": 8, "moe_tp": 8, "pp": 2}),
    ("deepseek-r1", "hgx-h100", "fp8", {"attention_dp": 8, "moe_ep": 8, "pp": 2}),
    ("deepseek-v3.2", "hgx-b200", "fp8", {"attention_dp": 8, "moe_ep": 8}),
    ("deepseek-v4-flash", "hgx-b200", "mxfp4_fp8", {"attention_dp": 4, "moe_ep": 4}),
    ("gpt-oss-120b", "hgx-h100", "mxfp4", {"attention_tp": 2, "moe_tp": 2}),
    ("qwen3.5-397b-a17b", "hgx-mi300x", "bf16", {"attention_tp": 8, "moe_ep": 8}),
    ("llama-3.1-70b", "hgx-a100", "bf16", {"attention_tp": 4, "moe_tp": 4}),
    ("qwen3-8b", "rtx-4090-pc", "bf16", {}),
)


def model(case: int, overlap: float = 0.0, **k: Any) -> StepModel:
    name, system, weights, degrees = CASES[case]
    hardware = files.load_hardware(k.get("system", system))
    local = shard(
        files.load_model(name),
        Pool(parallelism=Parallelism(**degrees), weights=weights),  # type: ignore[arg-type]
    )
    return StepModel(local, hardware.system, hardware.accelerator, hardware.calibration, overlap)


@pytest.mark.parametrize("case", range(len(CASES)))
@pytest.mark.parametrize("overlap", [0.0, 0.4, 1.0])
def test_the_laid_out_step_takes_the_time_of_the_closed_form(case: int, overlap: float) -> None:
    step = model(case, overlap)
    cap = step.shard.cap_tokens
    shapes = [(1, 1), (1, 5000), (3, 130), (8, 4096), (64, 1024), (200, 40000), (512, 10)]
    together = step.decode_step_s(
        np.array([float(s) for s, _ in shapes]), np.array([float(c) for _, c in shapes]), cap
    )
    for (sequences, context), in_array in zip(shapes, np.asarray(together), strict=True):
        laid_out = step.decode_step(sequences, context, cap)
        alone = step.decode_step_s(float(sequences), float(context), cap)
        assert laid_out.time_s == pytest.approx(float(alone), rel=1e-9)
        assert laid_out.time_s == pytest.approx(float(in_array), rel=1e-9)
        assert sum(laid_out.by_component().values()) == pytest.approx(laid_out.time_s)


@pytest.mark.parametrize("case", range(len(CASES)))
@pytest.mark.parametrize("overlap", [0.0, 0.4, 1.0])
def test_time_lies_between_the_longest_part_and_the_sum(case: int, overlap: float) -> None:
    step = model(case, overlap)
    cap = step.shard.cap_tokens
    for laid_out in (
        step.decode_step(1, 100, cap),
        step.decode_step(256, 5000, cap),
        step.prefill_step(8192, 4, 2048, cap),
    ):
        total = sum(p.time_s for p in laid_out.parts)
        assert max(p.time_s for p in laid_out.parts) <= laid_out.time_s
        assert laid_out.time_s <= total + laid_out.overhead_s + 1e-12
        assert laid_out.time_s == pytest.approx(total - laid_out.hidden_s + laid_out.overhead_s)
        assert 0 < laid_out.bound_s <= laid_out.time_s
        assert laid_out.bound_by in ("compute", "memory", "network")


def test_overlap_hides_expert_traffic_and_nothing_else() -> None:
    plain, half, full = (model(2, share).decode_step(128, 4096, None) for share in (0.0, 0.5, 1.0))
    traffic = plain.by_component()["expert_network"]
    assert plain.hidden_s == 0
    assert half.hidden_s == pytest.approx(0.5 * traffic)
    assert plain.time_s - half.time_s == pytest.approx(half.hidden_s)
    # all of it hides behind computation as far as that lasts
    busy = plain.time_s - plain.overhead_s - traffic
    assert full.hidden_s == pytest.approx(min(traffic, busy))
    local = model(0, 1.0).decode_step(128, 4096, None)
    assert local.hidden_s == 0  # an all-reduce cannot be hidden


def test_a_pipeline_round_advances_every_sequence_once() -> None:
    two = model(4)
    one_stage = StepModel(two.shard, two.system, two.part, two.calibration)
    tokens = two.tokens(64.0).time_s
    assert tokens == pytest.approx(2 * one_stage.total(*_ops(one_stage, 32.0)).time_s)


def _ops(step: StepModel, tokens: float) -> tuple[Any, Any]:
    from planner.ops import layer

    domain = step.system.scale_up.devices
    return (
        layer.token_ops(step.shard, tokens),
        collectives.token_comms(step.shard, tokens, domain),
    )


def test_two_micro_batches_read_the_weights_twice() -> None:
    whole = model(0, system="hgx-h100").decode_step(8, 1000, None)
    halves = model(4).decode_step(8, 1000, None)  # twice the devices, the same weights in all
    memory = [
        sum(p.memory_s for p in s.parts if p.name.startswith("attention/q"))
        for s in (whole, halves)
    ]
    # 2 rounds over 31 of 61 layers; half the rows each
    assert memory[1] / memory[0] == pytest.approx(2 * 31 / 61, rel=6e-3)


def test_causal_pairs_of_a_prompt_are_capped_one_by_one() -> None:
    # V3.2: min(i, 2048) over 10,000 positions: (2048^2 / 2 + 7952 x 2048) / 10,000 a token
    step = model(6)
    exact = 10_000.0 / 2, (2048**2 / 2 + 7952 * 2048) / 10_000
    cores = [
        step.prefill_attention(1000.0, 1000 * exact[0], 1000 * exact[1], how)
        for how in (True, False)
    ]
    laid_out = step.prefill_step(1000, 1, 10_000, 2048)
    (part,) = (p for p in laid_out.parts if p.name == "attention/mla_prefill")
    assert part.time_s == pytest.approx(min(float(c[0].time_s) for c in cores))


# --- published -------------------------------------------------------------------------------


def test_speed_of_light_of_the_expert_network() -> None:
    # 32 tokens x 8 copies x (7,392 + 14,336) bytes / 50 GB/s a layer, as far as they leave the
    # node.  With 9 experts and 7,000 x (1 + 2) bytes: 120.96 us, 61 layers, twice: 14.76 ms.
    layer_s = (1 + 2) * 32 * 9 * 7000 / 50e9
    assert 61 * 2 * layer_s == pytest.approx(14.76e-3, rel=1e-3)
    step = model(2)
    system, calibration = ideal(step.system, step.calibration)
    step = StepModel(step.shard, system, step.part, calibration)
    _, traffic_s = step.experts(32.0 * 128, prefill=False)
    assert traffic_s == pytest.approx(58 * 32 * 8 * (7392 + 14336) / 50e9 * 120 / 128)


def test_speed_of_light_of_one_token_is_the_weights_it_meets() -> None:
    # 20.4 GB of experts and 17.2 GB of the rest (of which 8 x 0.99 are copies) over 38.4 TB/s
    step = model(0).decode_step(1, 1, None)
    assert step.bound_by == "memory"
    assert step.bound_s == pytest.approx((20.4e9 + 17.2e9 + 7.95e9) / 38.4e12, rel=0.02)


def test_decode_throughput_of_a_published_h800_profile() -> None:
    # EP128, 128 sequences a device, 4,096 tokens of context: 18,600 tokens/s a node without overlap
    step = model(2).decode_step(128, 4096, None)
    per_node = 8 * 128 / step.time_s
    assert 18_600 / 1.5 < per_node < 18_600 * 1.5


def test_single_stream_on_eight_h200_is_several_times_its_speed_of_light() -> None:
    step = model(0).decode_step(1, 1500, None)
    assert 3 < step.time_s / step.bound_s < 12
    assert 1 / step.time_s < 200  # tokens/s: no published run does better without speculation
