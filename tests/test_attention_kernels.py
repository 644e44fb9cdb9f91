"""Whose attention a pool runs, and on which kernel of it."""

import pytest

from planner import evaluation, files
from planner.errors import InputError
from planner.evaluation import Replica
from planner.evaluation.assumptions import assumptions
from planner.evaluation.spread import law_log_sd
from planner.files.engines import load_engine
from planner.ops import AttentionDecode, AttentionPrefill
from planner.roofline import achieved, call_of
from planner.sourced import Sourced
from planner.specs.calibration import KIN, Achieved, standing_in, width_suffix
from planner.specs.deployment import Parallelism, Pool


def _replica(
    engine: str, system: str = "hgx-h100", model: str = "qwen3-235b-a22b", **more: str
) -> Replica:
    pool = Pool(
        parallelism=Parallelism(attention_tp=8, moe_ep=8),
        weights="fp8",
        engine=load_engine(engine),
        **more,
    )  # type: ignore[arg-type]
    return evaluation.build(files.load_model(model), files.load_hardware(system), pool)


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
def test_attention_runs_as_the_engine_calls_it(engine: str) -> None:
    shipped, found = files.load_calibration("h100-sxm"), _replica(engine).hardware.calibration
    own = shipped.attention_kernels[engine]
    assert found.attention_of == engine
    assert found.attention_decode_variants["gqa"] == own.decode["gqa"]
    assert found.attention_prefill_variants["gqa"] == own.prefill["gqa"]
    assert own.decode["gqa"] != shipped.attention_decode_variants["gqa"]
    assert found.provenance is not None
    sigma = found.provenance.residual_sigma
    assert sigma["attention_decode/gqa"] == sigma[f"attention_decode/gqa/{engine}"]
    assert law_log_sd("attention_decode/gqa", found) == sigma["attention_decode/gqa"]


def test_what_an_engine_has_no_rows_of_is_the_parts_own() -> None:
    """vLLM's tables have MLA within whole layers only; SGLang's have its decode."""
    shipped = files.load_calibration("h100-sxm")
    vllm, sglang = (
        _replica(e, model="deepseek-r1").hardware.calibration for e in ("vllm", "sglang")
    )
    assert vllm.attention_decode == shipped.attention_decode
    assert sglang.attention_decode == shipped.attention_kernels["sglang"].decode["mla"]
    assert sglang.attention_prefill == shipped.attention_prefill


def test_prompts_on_an_8_bit_cache_are_multiplied_as_the_engine_does() -> None:
    """All in 8 bits, each by a law of its own."""
    shipped = files.load_calibration("h100-sxm")
    for engine, law in (
        ("vllm", shipped.attention_kernels["vllm"].prefill["gqa_fp8_cache"]),
        ("sglang", shipped.attention_kernels["sglang"].prefill["gqa_fp8_cache"]),
        ("tensorrt-llm", shipped.attention_prefill_variants["gqa_fp8_cache"]),
    ):
        replica = _replica(engine, kv="fp8")
        (op,) = replica.step.prefill_attention_ops(1.0, 1.0, 1.0)
        assert op.variant == "gqa_fp8_cache"
        assert achieved(op, replica.hardware.calibration) == law
        assert law.multiplies == "fp8"


@pytest.mark.parametrize("system", ["hgx-b200", "hgx-h20"])
@pytest.mark.parametrize(
    ("engine", "eight"), [("tensorrt-llm", True), ("vllm", False), ("sglang", False)]
)
def test_prompts_of_latent_attention_are_multiplied_in_8_bits_by_tensorrt_llm(
    engine: str, eight: bool, system: str
) -> None:
    """Also where the part has no calls of the engine's own (H20)."""
    shipped = files.load_hardware(system).calibration
    replica = _replica(engine, system=system, model="deepseek-r1", kv="fp8")
    (op,) = replica.step.prefill_attention_ops(1.0, 1.0, 1.0)
    law = shipped.attention_prefill_variants["mla_fp8_cache"]
    assert op.variant == "mla_fp8_cache"
    assert law.multiplies == "fp8"
    found = achieved(op, replica.hardware.calibration)
    assert found == (law if eight else shipped.attention_prefill)


def test_tensorrt_llm_runs_the_parts_own() -> None:
    shipped = files.load_calibration("h100-sxm")
    for engine in ("tensorrt-llm", "generic"):
        found = _replica(engine).hardware.calibration
        assert not found.attention_of
        assert found.attention_decode_variants == shipped.attention_decode_variants


def test_a_deployment_names_another_engines_attention() -> None:
    assert (
        _replica("tensorrt-llm", attention_kernel="vllm").hardware.calibration.attention_of
        == "vllm"
    )
    assert not _replica("vllm", attention_kernel="default").hardware.calibration.attention_of
    with pytest.raises(InputError, match=r"attention_kernel.*'fa4'.*default, vllm, sglang"):
        _replica("vllm", attention_kernel="fa4")


def test_a_report_says_whose_attention_was_taken() -> None:
    said = {each.name: each for each in assumptions(_replica("vllm"))}
    assert said["attention kernels"].source == "measured: vllm"
    assert "attention kernels" not in {each.name for each in assumptions(_replica("generic"))}


@pytest.mark.parametrize(
    ("model", "decode", "prefill"),
    [
        ("qwen3-235b-a22b", "gqa", "gqa"),
        ("gpt-oss-120b", "gqa_64", "gqa_64"),
        ("qwen3-next-80b-a3b", "gqa_256", "gqa_256"),
        ("mimo-v2-flash", "gqa_192", "gqa_192"),
        ("olmoe-1b-7b", "mha", "gqa"),
        ("deepseek-r1", None, None),
    ],
)
def test_heads_run_on_the_kernel_of_their_width(
    model: str, decode: str | None, prefill: str | None
) -> None:
    pool = Pool(parallelism=Parallelism(), weights="bf16" if model != "gpt-oss-120b" else "mxfp4")
    step = evaluation.build(files.load_model(model), files.load_hardware("hgx-b300"), pool).step
    ops = [
        *step.decode_attention_ops(1.0, 100.0, 100.0),
        *step.prefill_attention_ops(1.0, 1.0, 1.0),
    ]
    assert {op.variant for op in ops if isinstance(op, AttentionDecode) and op.cached_heads} >= {
        decode
    }
    assert {op.variant for op in ops if isinstance(op, AttentionPrefill) and op.heads} >= {prefill}


def test_widths_by_hand() -> None:
    named = {width: width_suffix(width) for width in (32, 64, 80, 128, 160, 192, 256)}
    assert named == {32: "_64", 64: "_64", 80: "", 128: "", 160: "_192", 192: "_192", 256: "_256"}


def test_a_kernel_without_shares_is_timed_by_the_closest_of_its_kin() -> None:
    assert standing_in({"gqa", "gqa_64"}, "mha_64_fp8_cache") == "gqa_64"
    assert standing_in({"gqa", "gqa_64_fp8_cache"}, "mha_64_fp8_cache") == "gqa_64_fp8_cache"
    assert standing_in({"gqa"}, "gqa_256_fp8_cache") == "gqa"
    assert standing_in({"gqa", "gqa_256", "gqa_256_fp8_cache"}, "gqa_192_fp8_cache") == (
        "gqa_256_fp8_cache"
    )
    assert standing_in({"mha"}, "gqa") is None
    for kernel, others in KIN.items():
        assert kernel not in others


def test_tiles_of_cached_heads_by_hand() -> None:
    """100 sequences of 8 cached heads at 10 ns each are 8 us, beside 5 of floor."""
    law = Achieved(
        compute_share=Sourced(1.0, "t"), memory_share=Sourced(1.0, "t"), floor_s=Sourced(5e-6, "t"),
        query_share=Sourced(1.0, "t"), row_s=Sourced(10e-9, "t"),
    )  # fmt: skip
    op = AttentionDecode("x", 100.0, 0.0, 0.0, 0.0, 0.0, 0.0, cached_heads=8.0)
    part = files.load_accelerator("h100-sxm")
    assert call_of(op, part, law).time_s(law) == pytest.approx(13e-6)
    shipped = files.load_calibration("h100-sxm").attention_kernels["vllm"].decode["gqa"]
    assert 5e-9 < float(shipped.row_s or 0) < 5e-8
