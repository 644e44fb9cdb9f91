"""Which library multiplies a pool's experts."""

from dataclasses import replace

import pytest

from planner import evaluation, files
from planner.errors import InputError
from planner.evaluation import Replica
from planner.evaluation.assumptions import assumptions
from planner.evaluation.expert_kernels import library_of
from planner.evaluation.spread import law_log_sd
from planner.files.engines import load_engine
from planner.ops import Given, GroupedGemm
from planner.ops.tiles import LOAD_SPREAD
from planner.roofline import achieved, op_time
from planner.specs.deployment import Parallelism, Pool


def _replica(engine: str = "generic", system: str = "hgx-h200", **changes: object) -> Replica:
    division = {"attention_tp": 8, "moe_tp": 8} | changes.pop("parallelism", {})  # type: ignore[operator]
    pool = Pool(
        parallelism=Parallelism(**division), weights="fp8", engine=load_engine(engine), **changes
    )  # type: ignore[arg-type]
    return evaluation.build(files.load_model("deepseek-r1"), files.load_hardware(system), pool)


def _built(
    model: str, weights: str, engine: str = "generic", system: str = "hgx-h200", **changes: str
) -> Replica:
    """One replica of eight devices, tensor-parallel."""
    division = Parallelism(attention_tp=8, moe_tp=8)
    pool = Pool(parallelism=division, weights=weights, engine=load_engine(engine), **changes)  # type: ignore[arg-type]
    return evaluation.build(files.load_model(model), files.load_hardware(system), pool)


@pytest.mark.parametrize(
    ("engine", "library"),
    [("sglang", "triton"), ("vllm", "triton-vllm"), ("tensorrt-llm", "cutlass")],
)
def test_experts_run_on_the_kernels_of_the_engine(engine: str, library: str) -> None:
    shipped = files.load_calibration("h200-sxm")
    found = _replica(engine).hardware.calibration
    assert found.experts_of["fp8"] == library
    assert found.grouped_gemm["fp8"] == shipped.expert_kernels[library]["fp8"]
    assert found.provenance is not None
    sigma = found.provenance.residual_sigma
    assert sigma["grouped_gemm/fp8"] == sigma[f"grouped_gemm/fp8/{library}"]


def test_an_engine_without_preferences_runs_the_parts_own() -> None:
    found = _replica().hardware.calibration
    assert found.grouped_gemm == files.load_calibration("h200-sxm").grouped_gemm
    assert not found.experts_of


def test_tokens_sent_to_their_experts_feed_the_parts_own() -> None:
    apart = {"attention_tp": 1, "attention_dp": 8, "moe_tp": 1, "moe_ep": 8}
    replica = _replica("sglang", parallelism=apart)
    assert replica.shard.uses_all_to_all
    assert not replica.hardware.calibration.experts_of


def test_a_deployment_names_its_own_library() -> None:
    assert _replica("sglang", experts_kernel="cutlass").hardware.calibration.experts_of == {
        "fp8": "cutlass"
    }
    assert not _replica("sglang", experts_kernel="default").hardware.calibration.experts_of
    with pytest.raises(InputError, match=r"experts_kernel.*'marlin'.*default, cutlass, triton"):
        _replica("sglang", experts_kernel="marlin")


def test_a_library_without_shares_of_the_format_is_refused() -> None:
    """CUTLASS's bf16 products are B300's own there; Triton's of SGLang expand no MXFP4."""
    with pytest.raises(
        InputError, match=r"'cutlass' has no shares of bf16 experts.*default, triton"
    ):
        _built("deepseek-r1", "bf16", experts_kernel="cutlass", system="hgx-b300")
    with pytest.raises(
        InputError, match=r"'triton' has no shares of mxfp4 experts.*default, marlin"
    ):
        _built("gpt-oss-120b", "mxfp4", experts_kernel="triton")


def test_a_report_names_only_what_the_experts_run_on() -> None:
    """SGLang's 16-bit library is not what FP4-stored experts use, nor are other stored formats."""
    own = {each.name for each in assumptions(_built("gpt-oss-120b", "mxfp4", "sglang"))}
    assert "expert kernels" not in own
    h20 = _built("deepseek-r1", "fp8", system="hgx-h20")
    assert h20.hardware.calibration.stored_experts
    assert not [each.name for each in assumptions(h20) if "stored_experts" in each.name]


def test_the_chosen_library_changes_the_step_and_is_said() -> None:
    own, other = _replica("sglang"), _replica("sglang", experts_kernel="default")
    assert float(own.step.decode_step_s(64.0, 2048.0, None)) != pytest.approx(
        float(other.step.decode_step_s(64.0, 2048.0, None)), rel=0.01
    )
    said = {each.name: each for each in assumptions(own)}
    assert said["expert kernels"].source == "measured: triton"


def test_experts_of_a_stored_format_have_times_of_their_own() -> None:
    """gpt-oss on Hopper: four bits expanded in the kernel, not a bf16 product of fewer bytes."""
    hardware = files.load_hardware("hgx-h200")
    calibration = hardware.calibration
    op = GroupedGemm("x", 64.0, 32.0, 2880, 5760, "bf16", 0.53125, storage="mxfp4")
    assert achieved(op, calibration) == calibration.stored_experts["mxfp4"]
    assert achieved(replace(op, storage="bf16"), calibration) == calibration.grouped_gemm["bf16"]
    own, as_bf16 = (
        float(op_time(each, hardware.accelerator, calibration).time_s)
        for each in (op, replace(op, storage=None))
    )
    assert own > 1.2 * as_bf16


@pytest.mark.parametrize(
    ("model", "weights", "engine", "system", "library"),
    [
        ("gpt-oss-120b", "mxfp4", "vllm", "hgx-h200", ""),
        ("gpt-oss-120b", "mxfp4", "tensorrt-llm", "hgx-h200", "trtllm-triton"),
        ("deepseek-v4-flash", "mxfp4_fp8", "vllm", "hgx-h200", "marlin"),
        ("deepseek-v4-flash", "mxfp4_fp8", "sglang", "hgx-h100", "marlin"),
        ("deepseek-v4-flash", "mxfp4_fp8", "sglang", "hgx-b200", ""),
    ],
)
def test_stored_experts_run_on_the_kernels_of_the_engine(
    model: str, weights: str, engine: str, system: str, library: str
) -> None:
    """Experts with biases (gpt-oss) have kernels of their own; parts with FP4 units expand none."""
    replica = _built(model, weights, engine, system)
    calibration = replica.hardware.calibration
    assert library_of(calibration, replica.shard) == library
    shipped = files.load_calibration(calibration.name)
    known = shipped.expert_kernels[library] if library else shipped.stored_experts
    assert calibration.stored_experts["mxfp4"] == known["mxfp4"]


@pytest.mark.parametrize(
    ("model", "system", "parallelism", "library"),
    [
        ("qwen3-30b-a3b", "hgx-h100", {}, "triton"),  # 128 experts of 768: SGLang has a file
        ("glm-4.5", "hgx-h200", {"attention_tp": 8, "moe_tp": 8}, "triton-untuned"),  # 160 of 192
        ("mixtral-8x7b", "hgx-h100", {"attention_tp": 2, "moe_tp": 2}, "triton"),  # 8 of 7,168
        ("qwen3-30b-a3b", "hgx-b300", {}, "triton-untuned"),
        ("qwen3-30b-a3b", "hgx-a100", {}, "triton"),  # no such gap there
    ],
)
def test_tiles_are_those_the_library_has_for_the_shape(
    model: str, system: str, parallelism: dict[str, int], library: str
) -> None:
    division = Parallelism(**parallelism)
    for named in ("", "triton"):
        pool = Pool(
            parallelism=division, weights="bf16", engine=load_engine("sglang"), experts_kernel=named
        )
        replica = evaluation.build(files.load_model(model), files.load_hardware(system), pool)
        assert library_of(replica.hardware.calibration, replica.shard) == library
    said = {each.name: each for each in assumptions(replica)}
    assert said["expert kernels"].source == f"measured: {library}"
    assert said["lm_head.kernels_to_choose"].confidence == "assumed"


def test_untuned_tiles_take_two_to_three_times_as_long_for_prompts() -> None:
    """8 experts of 1,792 (Mixtral on eight H100): 517 TFLOP/s tuned; of 14,336 on one 217."""
    shipped, part = files.load_calibration("h100-sxm"), files.load_accelerator("h100-sxm")
    given = Given(8192.0, 16384.0, 8192.0 * 4096, 8, 8)
    op = GroupedGemm("x", 16384.0, 8.0, 4096, 2 * 1792, "bf16", 2.0, given=given)
    tuned, untuned = (
        float(op_time(op, part, shipped.model_copy(update={"grouped_gemm": kernels})).time_s)
        for kernels in (shipped.expert_kernels[name] for name in ("triton", "triton-untuned"))
    )
    assert 2.0 < untuned / tuned < 3.0


def test_expanding_in_marlin_halves_the_rate_of_prompts() -> None:
    """16,384 tokens of 256 experts of 2,048 wide: its tables have 2.4 times Triton's time."""
    shipped = files.load_calibration("h200-sxm")
    part = files.load_hardware("hgx-h200").accelerator
    op = GroupedGemm("x", 98304.0, 256.0, 4096, 4096, "bf16", 0.53125, storage="mxfp4")
    own = float(op_time(op, part, shipped).time_s)
    stored = {**shipped.stored_experts, "mxfp4": shipped.expert_kernels["marlin"]["mxfp4"]}
    marlin = shipped.model_copy(update={"stored_experts": stored})
    assert 1.8 < float(op_time(op, part, marlin).time_s) / own < 2.8


def test_a_step_names_the_law_of_its_stored_experts() -> None:
    pool = Pool(parallelism=Parallelism(attention_tp=8, moe_tp=8), weights="mxfp4")
    replica = evaluation.build(
        files.load_model("gpt-oss-120b"), files.load_hardware("hgx-b200"), pool
    )
    step = replica.step.prefill_step(1024.0, 1.0, 1024.0, replica.cap_tokens)
    laws = {part.law for part in step.parts}
    assert "grouped_gemm/mxfp4" in laws
    made = replica.hardware.calibration.provenance
    assert made is not None
    own = law_log_sd("grouped_gemm/mxfp4", replica.hardware.calibration)
    assert own == made.residual_sigma["grouped_gemm/mxfp4"]
    assert own != law_log_sd("grouped_gemm/fp4", replica.hardware.calibration)


def test_a_report_says_that_whole_tiles_rest_on_how_far_loads_differ() -> None:
    """OpenAI's Triton kernels on Hopper compute whole tiles; DeepGEMM has none of the kind."""
    tiles = {each.name: each.value for each in assumptions(_built("gpt-oss-120b", "mxfp4"))}
    assert tiles["expert tiles"] == LOAD_SPREAD
    assert "expert tiles" not in {each.name for each in assumptions(_replica())}
