"""The work behind measured rows is the work of ``planner.ops``."""

from typing import Any

import numpy as np
import pytest

from planner import files
from planner.calibrate.calls import Peaks, stated_peaks
from planner.calibrate.features import law_of, predict_s, works
from planner.calibrate.rows import Origin, Table
from planner.errors import InputError
from planner.evaluation.attention_kernels import with_attention_kernels
from planner.ops import AttentionDecode, AttentionPrefill, Elementwise, Gemm, GroupedGemm
from planner.roofline import op_time
from planner.specs.calibration import CalibrationSpec
from planner.specs.deployment import Parallelism, Pool

PART, CALIBRATION = files.load_accelerator("h200-sxm"), files.load_calibration("h200-sxm")


def table(op: str, dtype: str, labels: dict[str, str] | None = None, **columns: Any) -> Table:
    arrays = {name: np.atleast_1d(np.asarray(v, dtype=float)) for name, v in columns.items()}
    rows = len(next(iter(arrays.values())))
    return Table(op, dtype, "k", Origin("h200-sxm", "test"), arrays, np.ones(rows), labels or {})


def predicted(measured: Table, calibration: CalibrationSpec = CALIBRATION) -> float:
    parts = works(measured, stated_peaks(PART))
    return float(predict_s(parts, {w.key: law_of(calibration, w.key) for w in parts})[0])


def expected(*ops: Any, calibration: CalibrationSpec = CALIBRATION) -> float:
    return sum(float(op_time(op, PART, calibration).time_s) for op in ops)


@pytest.mark.parametrize(
    ("dtype", "precision", "width"), [("bf16", "bf16", 2.0), ("fp8_block", "fp8", 1 + 4 / 16384)]
)
def test_a_row_is_predicted_as_its_op(dtype: str, precision: Any, width: float) -> None:
    sizes = {"m": 96, "k": 7168, "n": 4096}
    own = expected(Gemm("x", 96.0, 7168, 4096, precision, width))
    converted_s = 96 * float(CALIBRATION.gemm[precision].token_s or 0.0)
    unconverted = table("gemm", dtype, **sizes)
    assert predicted(unconverted) == pytest.approx(own - converted_s)
    if dtype == "fp8_block":
        row = table("gemm", dtype, {"includes": "quantise"}, **sizes)
        (quantised,) = (w for w in works(row, stated_peaks(PART)) if w.family == "conversion")
        laws = {("gemm", "fp8"): CALIBRATION.gemm["fp8"], quantised.key: CALIBRATION.elementwise}
        both = predict_s(works(row, stated_peaks(PART)), laws)[0]
        assert both == pytest.approx(own + quantised.time_s(CALIBRATION.elementwise)[0])
    grouped = table("grouped_gemm", dtype, pairs=512, touched=32, k=7168, n=4096)
    op = GroupedGemm("x", 512.0, 32.0, 7168, 4096, precision, width)
    assert predicted(grouped) == pytest.approx(expected(op))


def test_a_moe_layer_is_two_products_and_three_passes() -> None:
    row = table(
        "moe_layer", "fp8_block", {"distribution": "balanced"}, group_tokens=256, experts=256,
        local_experts=32, top_k=8, hidden=7168, intermediate=2048,
    )  # fmt: skip
    width = 1 + 4 / 16384
    assert predicted(row) == pytest.approx(
        expected(
            GroupedGemm("up", 256.0, 32.0, 7168, 4096, "fp8", width),
            GroupedGemm("down", 256.0, 32.0, 2048, 7168, "fp8", width),
            Elementwise("permute", 256 * 7168 * 2.0),
            Elementwise("gate", 5.0 * 2048 * 256),
            Elementwise("combine", 256 * 7168 * 4.0),
        )
    )


def test_balanced_routing_touches_every_expert_before_it_repeats_one() -> None:
    row = table(
        "moe_layer", "bf16", {"distribution": "balanced"}, group_tokens=[1, 4, 64],
        experts=[256] * 3, local_experts=[256] * 3, top_k=[8] * 3, hidden=[64] * 3,
        intermediate=[64] * 3,
    )  # fmt: skip
    up = works(row, stated_peaks(PART))[0]
    assert up.size.tolist() == [1.0, 1.0, 2.0]


def test_attention_rows_are_predicted_as_their_ops() -> None:
    latent = table(
        "attention_decode", "bf16", {"variant": "mla"}, sequences=64, context_tokens=64 * 4096,
        heads=128, kv_lora_rank=512, rope_dim=64,
    )  # fmt: skip
    seen = 64.0 * 4096
    op = AttentionDecode("x", 64.0, seen, seen, 2 * 128 * 1088.0, 1152.0, 128 * 1088.0)
    assert predicted(latent) == pytest.approx(expected(op))
    halved = table(
        "attention_decode", "bf16", {"variant": "mla", "kv_dtype": "fp8"}, sequences=64,
        context_tokens=64 * 4096, heads=128, kv_lora_rank=512, rope_dim=64,
    )  # fmt: skip
    op = AttentionDecode(
        "x", 64.0, seen, seen, 2 * 128 * 1088.0, 576.0, 128 * 1088.0, variant="mla_fp8_cache"
    )
    assert CALIBRATION.attention_decode_variants["mla_fp8_cache"].multiplies == "fp8"
    assert predicted(halved) == pytest.approx(expected(op))
    prompt = table(
        "attention_prefill", "bf16", {"variant": "mla"}, sequences=2, tokens=8192, heads=128,
        kv_heads=128, head_dim=192, v_head_dim=128,
    )  # fmt: skip
    pairs = 2 * 4096 * 4097 / 2
    core = AttentionPrefill(
        "x", 8192.0, pairs, pairs, 2 * 128 * 320.0, 128 * 320.0, longest_tokens=4096.0
    )
    assert CALIBRATION.attention_prefill.token_s
    assert CALIBRATION.attention_prefill.compute_curve
    assert predicted(prompt) == pytest.approx(expected(core))
    grouped = table(
        "attention_prefill", "bf16", {"variant": "gqa"}, sequences=2, tokens=8192, heads=64,
        kv_heads=8, head_dim=128, v_head_dim=128,
    )  # fmt: skip
    core = AttentionPrefill(
        "x", 8192.0, pairs, pairs, 2 * 64 * 256.0, 64 * 256.0, variant="gqa", heads=64.0,
        key_elements=8 * 256.0, longest_tokens=4096.0,
    )  # fmt: skip
    assert CALIBRATION.attention_prefill_variants["gqa"].query_share
    assert predicted(grouped) == pytest.approx(expected(core))


def test_attention_of_an_engine_is_predicted_as_its_ops() -> None:
    """Tiles of cached heads in decode, and prompts on an 8-bit cache, which multiply in 8 bits."""
    pool = Pool(parallelism=Parallelism(), weights="bf16", attention_kernel="vllm")
    vllm = with_attention_kernels(CALIBRATION, pool)
    eight = {"variant": "gqa", "kv_dtype": "fp8"}
    decode = table(
        "attention_decode", "bf16", eight, sequences=512, context_tokens=512 * 256, heads=64,
        kv_heads=8, head_dim=128,
    )  # fmt: skip
    seen = 512.0 * 256
    op = AttentionDecode(
        "x", 512.0, seen, seen, 4 * 64 * 128.0, 2 * 8 * 128.0, 2 * 64 * 128.0,
        variant="gqa_fp8_cache", cached_heads=8.0,
    )  # fmt: skip
    assert vllm.attention_decode_variants["gqa_fp8_cache"].row_s
    assert predicted(decode, vllm) == pytest.approx(expected(op, calibration=vllm))
    prompt = table(
        "attention_prefill", "bf16", {**eight, "library": "vllm"}, sequences=2, tokens=8192,
        heads=64, kv_heads=8, head_dim=128, v_head_dim=128,
    )  # fmt: skip
    pairs = 2 * 4096 * 4097 / 2
    core = AttentionPrefill(
        "x", 8192.0, pairs, pairs, 2 * 64 * 256.0, 64 * 256.0, variant="gqa_fp8_cache", heads=64.0,
        key_elements=8 * 256.0, longest_tokens=4096.0,
    )  # fmt: skip
    law = vllm.attention_prefill_variants["gqa_fp8_cache"]
    assert law.multiplies == "fp8"
    assert law.written_elements == 512
    assert predicted(prompt, vllm) == pytest.approx(expected(core, calibration=vllm))


@pytest.mark.parametrize("sequences", [2, 64, 4096])
@pytest.mark.parametrize(("part", "kept"), [("rtx-pro-6000", True), ("b200-sxm", False)])
def test_prompts_that_stay_on_chip_or_fill_tiles_are_predicted_as_their_ops(
    part: str, kept: bool, sequences: int
) -> None:
    """128 tokens each, 8 heads: 1 to 2,100 MB, which 128 MB of L2 keep, partly keep and do not."""
    accelerator, calibration = files.load_accelerator(part), files.load_calibration(part)
    law = calibration.attention_prefill_variants["gqa"]
    assert bool(law.kept_part) == kept
    assert (law.tile_rows == 256) == (not kept)
    tokens, peaks = 128.0 * sequences, stated_peaks(accelerator)
    measured = table(
        "attention_prefill", "bf16", {"variant": "gqa"}, sequences=sequences, tokens=tokens,
        heads=8, kv_heads=8, head_dim=128, v_head_dim=128,
    )  # fmt: skip
    pairs = sequences * 128 * 129 / 2
    op = AttentionPrefill(
        "x", tokens, pairs, pairs, 2 * 8 * 256.0, 8 * 256.0, variant="gqa", heads=8.0,
        key_elements=8 * 256.0, longest_tokens=128.0,
    )  # fmt: skip
    (work,) = works(measured, peaks)
    by_op = op_time(op, accelerator, calibration)
    assert work.time_s(law)[0] == pytest.approx(float(by_op.time_s))
    assert work.call.crossing_s == pytest.approx(float(by_op.memory_s))


def test_a_format_the_part_lacks_is_refused() -> None:
    with pytest.raises(InputError, match="no nvfp4 matrix units; this part multiplies in bf16"):
        works(table("gemm", "nvfp4", m=1, k=2, n=3), Peaks({"bf16": 1e12}, 1e11))


def test_rows_that_are_no_work_of_one_device_are_refused() -> None:
    with pytest.raises(InputError, match="all_reduce rows are not fitted"):
        works(table("all_reduce", "none", ranks=8, bytes=1e6), stated_peaks(PART))
