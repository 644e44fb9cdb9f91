"""Multiprocessors that normal all-to-all kernels leave, part by part."""

import pytest

from planner import files
from planner.evaluation.assumptions import assumptions
from planner.evaluation.replica import build
from planner.specs.deployment import Limits, Parallelism, Pool
from planner.step.multiprocessors import beside_normal_kernels, communication_sm_share

LEFT = {
    "h800-sxm": 108 / 132,
    "b200-sxm": 124 / 148,
    "h20": 54 / 78,
    "mi300x": 280 / 304,
    "gaudi3": 108 / 132,  # states none: as the part of the trace
}


@pytest.mark.parametrize("name", LEFT)
def test_twenty_four_of_the_parts_own_multiprocessors_are_set_apart(name: str) -> None:
    part = files.load_accelerator(name)
    left = beside_normal_kernels(part)
    assert left.peak_flop_per_s("fp8") / part.peak_flop_per_s("fp8") == pytest.approx(LEFT[name])
    assert left.memory_bytes_per_s / part.memory_bytes_per_s == pytest.approx(LEFT[name])


@pytest.mark.parametrize("name", ["tpu-v5e", "tpu-v6e", "tpu-v7-ironwood"])
def test_of_parts_with_remote_dma_nothing_is_set_apart(name: str) -> None:
    part = files.load_accelerator(name)
    assert beside_normal_kernels(part) is part
    assert communication_sm_share(part).confidence == "assumed"


def test_the_share_of_the_part_at_hand_is_listed_as_an_assumption() -> None:
    pool = Pool(
        parallelism=Parallelism(attention_dp=16, moe_ep=16), weights="fp8", overlap="two_batch",
        limits=Limits(max_sequences=16, max_step_tokens=8192),
    )  # fmt: skip
    for system, units in (("hgx-h200", 132), ("hgx-b200", 148)):
        replica = build(files.load_model("deepseek-v3"), files.load_hardware(system), pool)
        found = {a.name: a for a in assumptions(replica)}["overlap.communication_sm_share"]
        assert found.value == pytest.approx(24 / units)
        assert f"of {units}" in found.note
