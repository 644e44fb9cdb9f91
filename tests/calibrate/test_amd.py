"""AMD parts against published times of single kernels, worked out by hand."""

from typing import Any

import numpy as np
import pytest

from planner import files
from planner.calibrate.calls import stated_peaks
from planner.calibrate.features import law_of, predict_s, works
from planner.calibrate.published import published_tables
from planner.calibrate.rows import FloatArray, Origin, Table
from planner.ops import GroupedGemm
from planner.roofline import op_time


def prefill(part: str, variant: str) -> list[Table]:
    found = [t for t in published_tables(part) if t.op == "attention_prefill"]
    return [t for t in found if t.labels["variant"] == variant]


def errors(part: str, table: Table) -> FloatArray:
    calibration = files.load_calibration(part)
    parts = works(table, stated_peaks(files.load_accelerator(part)))
    laws = {w.key: law_of(calibration, w.key) for w in parts}
    return predict_s(parts, laws) / table.time_s - 1


def test_a_prefill_row_has_the_time_of_its_published_rate() -> None:
    """One prompt of 1,024 tokens, 32 heads of 128: half of 4 x 32 x 1,024^2 x 128 FLOP.

    That is 8.59 GFLOP; at 130.62 TFLOP/s 65.8 us on MI300X, at 233.12 36.8 us on MI355X.
    """
    for part, microseconds in (("mi300x", 65.76), ("mi355x", 36.85)):
        (table,) = prefill(part, "gqa")
        row = (table["sequences"] == 1) & (table["tokens"] == 1024) & (table["heads"] == 32)
        assert len(table) == 47
        assert table.time_s[row] * 1e6 == pytest.approx([microseconds], rel=1e-3)


@pytest.mark.parametrize("part", ["mi300x", "mi355x"])
def test_prefill_attention_is_that_of_the_published_rates(part: str) -> None:
    (table,) = prefill(part, "gqa")
    error = np.abs(errors(part, table))
    assert np.median(error) < 0.05
    assert np.quantile(error, 0.9) < 0.12


def test_long_prompts_reach_the_measured_part_of_the_peak() -> None:
    """550 of 1,307 TFLOP/s on MI300X, 1,312 of 2,516 on MI355X: 8 x 8,192 tokens, 64 heads."""
    for part in ("mi300x", "mi355x"):
        (table,) = prefill(part, "gqa")
        row = (table["sequences"] == 8) & (table["tokens"] == 65536) & (table["kv_heads"] == 8)
        assert np.abs(errors(part, table.take(row))).max() < 0.05


def test_prefill_of_mla_takes_the_law_of_grouped_queries_about_as_published() -> None:
    """ROCm/aiter pull request 4205: TFLOP/s on MI355X, 16,384 tokens in 64 to 1 prompts.

    Heads of 192 and 128; 16 heads in batch mode, 32 of ragged prompts (what engines run).  None of
    them is fitted: two kernels, which the law lies between.
    """
    rates = {
        16: (245.0, 442.0, 665.0, 913.0, 1117.0, 1235.0, 1288.0),
        32: (155.0, 316.0, 502.0, 664.0, 986.0, 1154.0),
    }
    found = []
    for heads, rate in rates.items():
        sequences = np.array([64.0, 32.0, 16.0, 8.0, 4.0, 2.0, 1.0][: len(rate)])
        each = 16384 / sequences
        ones = np.ones(len(rate))
        columns: dict[str, FloatArray] = {
            "sequences": sequences, "tokens": sequences * each, "heads": heads * ones,
            "head_dim": 192 * ones, "v_head_dim": 128 * ones,
        }  # fmt: skip
        flop = 2 * sequences * heads * each**2 * (192 + 128) / 2
        origin = Origin("mi355x", "aiter-pr-4205")
        table = Table(
            "attention_prefill", "bf16", "fmha", origin, columns,
            flop / (np.array(rate) * 1e12), {"variant": "mla"},
        )  # fmt: skip
        found.append(errors("mi355x", table))
    assert np.median(np.abs(np.concatenate(found))) < 0.16
    assert found[0].mean() > 0 > found[1].mean()


def seconds(op: Any, part: str) -> float:
    return float(op_time(op, files.load_accelerator(part), files.load_calibration(part)).time_s)


def test_experts_in_four_bits_on_mi300x_take_what_triton_was_timed_at() -> None:
    """One token, four of gpt-oss-20b's padded experts, 3,072 x 6,144: 82.3 us.

    40.1 MB at 5.3 TB/s are 7.6 us: a tile's weights are expanded by one workgroup one after the
    other.  All 32 experts, 321 MB, keep all units busy: 98 us beside the 70 us of one tile.
    """
    stored = 0.5 + 1 / 32

    def product(touched: float) -> GroupedGemm:
        return GroupedGemm("x", touched, touched, 3072, 6144, "bf16", stored, storage="mxfp4")

    assert seconds(product(4.0), "mi300x") == pytest.approx(82.28e-6, rel=0.02)
    assert seconds(product(32.0), "mi300x") == pytest.approx(168e-6, rel=0.02)


def test_many_heads_of_mla_on_mi300x_multiply_at_the_measured_rate() -> None:
    """64 heads, 128 sequences of 32,768 tokens in FP8: 584 GFLOP at 367 TFLOP/s are 1.59 ms."""
    context = 128 * 32768
    flop = 2 * context * 64 * (2 * 512 + 64)
    table = Table(
        "attention_decode", "bf16", "k", Origin("mi300x", "test"),
        {
            "sequences": np.array([128.0]), "context_tokens": np.array([float(context)]),
            "heads": np.array([64.0]), "kv_lora_rank": np.array([512.0]),
            "rope_dim": np.array([64.0]),
        },
        np.array([flop / 367e12]), {"variant": "mla", "kv_dtype": "fp8"},
    )  # fmt: skip
    assert abs(errors("mi300x", table)[0]) < 0.02


def test_paged_decode_reads_the_cache_at_the_measured_rate() -> None:
    """128 sequences of 8,192 tokens, 8 cached heads of 64: 2.15 GB at 5.68 TB/s, 378 us."""
    (table,) = [
        t for t in published_tables("mi355x")
        if t.op == "attention_decode" and t.labels["variant"] == "gqa_64"
    ]  # fmt: skip
    row = (table["sequences"] == 128) & (table["context_tokens"] == 128 * 8192)
    assert table.time_s[row] * 1e6 == pytest.approx([378.3], rel=1e-3)
    assert np.median(np.abs(errors("mi355x", table))) < 0.05


def test_int4_experts_on_mi355x_are_those_of_long_and_single_tokens() -> None:
    """384 experts of 7,168 x 512, eight a token.

    16,384 tokens: 1.92 PFLOP in 2,743 us and 0.96 in 1,988; one token: 33 MB in 16.7 us.
    """
    stored = 0.5 + 2 / 32

    def product(rows: float, touched: float, k: float, n: float) -> float:
        op = GroupedGemm("x", rows, touched, k, n, "bf16", stored, storage="int4")
        return seconds(op, "mi355x")

    long = product(131072.0, 384.0, 7168, 1024) + product(131072.0, 384.0, 512, 7168)
    assert long == pytest.approx(4731e-6, rel=0.02)
    assert product(8.0, 8.0, 7168, 1024) == pytest.approx(16.7e-6, rel=0.1)


def test_mi325x_takes_what_was_measured_on_the_same_chip() -> None:
    one, two = files.load_calibration("mi325x"), files.load_calibration("mi300x")
    assert one.attention_prefill == two.attention_prefill
    assert one.attention_decode_variants == two.attention_decode_variants
    assert one.stored_experts == two.stored_experts
