"""A bigger load never takes less time, a better machine never more."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner import files
from planner.comm import comm_time_s
from planner.ops import Comm
from planner.shard import shard
from planner.specs.deployment import Parallelism, Pool
from planner.specs.hardware import AcceleratorSpec, SystemSpec
from planner.specs.scenario import Hardware
from planner.step import StepModel

LAYOUTS: tuple[tuple[str, str, dict[str, int]], ...] = (
    ("deepseek-r1", "fp8", {"attention_tp": 8, "moe_tp": 8}),
    ("deepseek-r1", "fp8", {"attention_dp": 16, "moe_ep": 16}),
    ("deepseek-r1", "fp8", {"attention_tp": 8, "attention_dp": 16, "moe_ep": 128}),
    ("deepseek-r1", "fp8", {"attention_tp": 8, "moe_tp": 8, "pp": 2}),
    ("deepseek-v3.2", "fp8", {"attention_dp": 8, "moe_ep": 8}),
    ("gpt-oss-120b", "bf16", {"attention_tp": 4, "moe_ep": 4}),
    ("qwen3.5-397b-a17b", "bf16", {"attention_tp": 2, "attention_dp": 4, "moe_ep": 8}),
)
SYSTEMS = ("hgx-h200", "hgx-h800", "hgx-b200", "hgx-mi300x")
SEQUENCES = st.floats(1, 2000)
CONTEXT = st.floats(1, 200_000)
OVERLAP = st.sampled_from([0.0, 0.5, 1.0])
HARDWARE = {name: files.load_hardware(name) for name in SYSTEMS}


def improved(hardware: Hardware, factors: dict[str, float]) -> Hardware:
    """The same hardware with some of its rates multiplied and its latencies divided."""
    part, system = hardware.accelerator.model_dump(), hardware.system.model_dump()
    for peak in part["dense_flop_per_s"].values():
        if peak:
            peak["value"] *= factors.get("flop", 1.0)
    part["memory_bytes_per_s"]["value"] *= factors.get("memory", 1.0)
    for level in ("scale_up", "scale_out"):
        system[level]["bytes_per_s"]["value"] *= factors.get(level, 1.0)
        system[level]["latency_s"]["value"] /= factors.get("latency", 1.0)
    if system["scale_up"]["peer_bytes_per_s"]:
        system["scale_up"]["peer_bytes_per_s"]["value"] *= factors.get("scale_up", 1.0)
    return hardware.model_copy(
        update={
            "accelerator": AcceleratorSpec.model_validate(part),
            "system": SystemSpec.model_validate(system),
        }
    )


def model(layout: int, hardware: Hardware, overlap: float) -> StepModel:
    name, weights, degrees = LAYOUTS[layout]
    local = shard(
        files.load_model(name),
        Pool(parallelism=Parallelism(**degrees), weights=weights),  # type: ignore[arg-type]
    )
    return StepModel(local, hardware.system, hardware.accelerator, hardware.calibration, overlap)


MODELS = st.builds(
    lambda layout, system, overlap: model(layout, HARDWARE[system], overlap),
    st.integers(0, len(LAYOUTS) - 1),
    st.sampled_from(SYSTEMS),
    OVERLAP,
)


@given(MODELS, SEQUENCES, SEQUENCES, CONTEXT, CONTEXT)
def test_more_sequences_or_context_never_take_less_time(
    step: StepModel, a: float, b: float, c: float, d: float
) -> None:
    cap = step.shard.cap_tokens
    few, many = sorted((a, b))
    short, long = sorted((c, d))
    times = [
        float(step.decode_step_s(s, n, cap)) for s, n in ((few, short), (few, long), (many, long))
    ]
    assert times[0] <= times[1] * (1 + 1e-12)
    assert times[1] <= times[2] * (1 + 1e-12)


@given(MODELS, st.floats(1, 16384), st.floats(1, 16384), CONTEXT)
def test_more_prompt_tokens_never_take_less_time(
    step: StepModel, a: float, b: float, context: float
) -> None:
    few, many = sorted((a, b))
    cap = step.shard.cap_tokens
    less, more = (step.prefill_step(n, 1, context, cap).time_s for n in (few, many))
    assert less <= more * (1 + 1e-12)


@given(
    st.integers(0, len(LAYOUTS) - 1),
    st.sampled_from(SYSTEMS),
    OVERLAP,
    st.sampled_from(["flop", "memory", "scale_up", "scale_out", "latency"]),
    st.floats(1, 4),
    SEQUENCES,
)
def test_a_better_machine_never_takes_longer(
    layout: int, system: str, overlap: float, what: str, factor: float, sequences: float
) -> None:
    plain, better = (
        model(layout, hardware, overlap)
        for hardware in (HARDWARE[system], improved(HARDWARE[system], {what: factor}))
    )
    cap = plain.shard.cap_tokens
    assert better.decode_step(sequences, 3000, cap).time_s <= plain.decode_step(
        sequences, 3000, cap
    ).time_s * (1 + 1e-12)
    assert better.prefill_step(4096, 2, 2048, cap).time_s <= plain.prefill_step(
        4096, 2, 2048, cap
    ).time_s * (1 + 1e-12)


@given(MODELS, SEQUENCES, CONTEXT)
def test_nothing_beats_the_speed_of_light(
    step: StepModel, sequences: float, context: float
) -> None:
    cap = step.shard.cap_tokens
    for laid_out in (
        step.decode_step(sequences, context, cap),
        step.prefill_step(sequences * 8, 1, context, cap),
    ):
        assert laid_out.bound_s <= laid_out.time_s
        assert max(p.time_s for p in laid_out.parts) <= laid_out.time_s * (1 + 1e-12)
        whole = sum(p.time_s for p in laid_out.parts) + laid_out.overhead_s
        assert laid_out.time_s <= whole * (1 + 1e-12)


@given(MODELS, SEQUENCES, CONTEXT)
def test_hiding_more_traffic_never_takes_longer(
    step: StepModel, sequences: float, context: float
) -> None:
    cap = step.shard.cap_tokens
    times = []
    for share in (0.0, 0.3, 1.0):
        other = StepModel(step.shard, step.system, step.part, step.calibration, share)
        times.append(float(other.decode_step_s(sequences, context, cap)))
    assert times[0] >= times[1] * (1 - 1e-12)
    assert times[1] >= times[2] * (1 - 1e-12)


# --- collectives -------------------------------------------------------------------------------

KINDS = ("all_reduce", "all_gather", "reduce_scatter", "all_to_all", "p2p")
BYTES = st.floats(0, 1e9)


def comm_s(kind: Any, ranks: int, size: float, outer: float, system: str = "hgx-h200") -> float:
    hardware = HARDWARE[system]
    inside = min(ranks, hardware.system.scale_up.devices)
    comm = Comm("x", kind, ranks, inside, size, outer if ranks > inside else 0.0)
    return float(comm_time_s(comm, hardware.system, hardware.calibration))


@pytest.mark.parametrize("kind", KINDS)
@given(st.integers(2, 64), BYTES, BYTES, BYTES, BYTES)
def test_more_bytes_never_take_less_time(
    kind: str, ranks: int, a: float, b: float, c: float, d: float
) -> None:
    few, many = sorted((a, b))
    less, more = sorted((c, d))
    assert comm_s(kind, ranks, few, less) <= comm_s(kind, ranks, many, more) * (1 + 1e-12)


@pytest.mark.parametrize("kind", KINDS)
@given(st.sampled_from([2, 4, 8]), st.sampled_from([1, 2, 4, 8]), BYTES)
def test_more_ranks_behind_a_switch_never_take_less_time(
    kind: str, inside: int, times: int, size: float
) -> None:
    for more in (inside * 2, 8 * times * 2):
        assert comm_s(kind, inside, size, size) <= comm_s(kind, more, size, size) * (1 + 1e-12)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("system", SYSTEMS)
@given(st.integers(2, 64), BYTES, BYTES)
def test_no_collective_beats_its_bytes_over_the_bandwidth(
    kind: str, system: str, ranks: int, size: float, outer: float
) -> None:
    up, out = HARDWARE[system].system.scale_up, HARDWARE[system].system.scale_out
    assert out is not None
    inside = min(ranks, up.devices)
    # what one device must at least send or receive inside its domain, in units of its part
    moved = {"all_reduce": (inside - 1) / inside, "all_to_all": 1, "p2p": 0}
    assert comm_s(kind, ranks, size, outer, system) >= (
        size * moved.get(kind, inside - 1) / up.bytes_per_s
    )
    if kind == "all_to_all" and ranks > inside:
        assert comm_s(kind, ranks, size, outer, system) >= outer / out.bytes_per_s
