"""Reading the measured tables of another project: units, meanings, what is left out."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from planner.calibrate import tables
from planner.calibrate.rows import Origin
from planner.calibrate.tuned import TUNED
from planner.errors import InputError

ORIGIN = Origin("h200-sxm", "aiconfigurator-tables", "trtllm 1.0")


def column(*values: Any) -> Any:
    return np.array(values, dtype=object if isinstance(values[0], str) else None)


def test_milliseconds_become_seconds_and_narrow_products_go() -> None:
    data = {
        "gemm_dtype": column("bfloat16", "bfloat16", "fp8_block", "int4_wo"),
        "kernel_source": column("a", "a", "b", "c"),
        "m": column(1, 1, 8, 8), "n": column(4096, 64, 4096, 4096),
        "k": column(4096, 4096, 4096, 4096), "latency": column(0.5, 0.1, 0.25, 0.1),
    }  # fmt: skip
    bf16, block = tables._gemm(data, ORIGIN)
    assert bf16.time_s.tolist() == [5e-4]
    assert (block.dtype, block.labels) == ("fp8_block", {"includes": "quantise"})


def test_tokens_of_a_layer_are_of_all_ranks_and_experts_of_one() -> None:
    data = {
        "moe_dtype": column(*["fp8_block"] * 3), "kernel_source": column(*["k"] * 3),
        "distribution": column("balanced", "power_law_1.2", "balanced"),
        "num_tokens": column(64, 64, 1), "hidden_size": column(7168, 7168, 7168),
        "inter_size": column(2048, 2048, 2048), "topk": column(8, 8, 8),
        "num_experts": column(256, 256, 256), "moe_tp_size": column(2, 1, 1),
        "moe_ep_size": column(8, 1, 32), "latency": column(1.0, 1.0, 1.0),
    }  # fmt: skip
    (layer,) = tables._moe(data, ORIGIN)
    assert layer["local_experts"].tolist() == [32, 8]
    assert layer["pairs"].tolist() == [64, 1]
    assert layer["intermediate"].tolist() == [1024, 2048]


def test_layers_of_tuned_shapes_are_apart_from_those_of_default_tiles() -> None:
    experts, width = TUNED["h100-sxm"][0]
    data = {
        "moe_dtype": column(*["bfloat16"] * 3),
        "kernel_source": column(*["sglang_fused_moe_triton"] * 3),
        "distribution": column(*["balanced"] * 3), "num_tokens": column(64, 64, 64),
        "hidden_size": column(4096, 4096, 4096), "inter_size": column(width, width + 128, width),
        "topk": column(2, 2, 2), "num_experts": column(experts, experts, experts),
        "moe_tp_size": column(1, 1, 1), "moe_ep_size": column(1, 1, 1),
        "latency": column(1.0, 2.0, 3.0),
    }  # fmt: skip
    tuned, untuned = tables._moe(data, Origin("h100-sxm", "aiconfigurator-tables", "sglang"))
    assert tuned.time_s.tolist() == [1e-3, 3e-3]
    assert untuned.time_s.tolist() == [2e-3]
    assert (tuned.labels["tiles"], untuned.labels["tiles"]) == ("tuned", "untuned")
    assert tuned.labels["foreign"] == untuned.labels["foreign"] == "passed"


def test_the_context_of_a_step_counts_the_token_it_adds() -> None:
    data = {
        "kernel_source": column("k", "k"), "kv_cache_dtype": column("bfloat16", "bfloat16"),
        "batch_size": column(4, 4), "isl": column(1, 1), "step": column(1023, 7),
        "num_heads": column(128, 128), "latency": column(0.1, 0.1),
    }  # fmt: skip
    (latent,) = tables._decode_mla(data, ORIGIN)
    assert latent["context_tokens"].tolist() == [4096]


def test_heads_that_share_keys_are_apart_from_those_that_do_not() -> None:
    data = {
        "kernel_source": column(*["k"] * 3), "kv_cache_dtype": column(*["bfloat16"] * 3),
        "batch_size": column(4, 4, 4), "isl": column(1, 1, 1), "step": column(1023, 1023, 1023),
        "num_heads": column(64, 8, 8), "num_key_value_heads": column(8, 8, 1),
        "head_dim": column(128, 128, 128), "latency": column(0.1, 0.2, 0.3),
    }  # fmt: skip
    shared, alone = tables._decode_gqa(data, ORIGIN)
    assert (shared.labels["variant"], alone.labels["variant"]) == ("gqa", "mha")
    assert shared.time_s.tolist() == pytest.approx([1e-4, 3e-4])
    assert alone.time_s.tolist() == pytest.approx([2e-4])


@pytest.mark.parametrize(
    ("part", "kinds"), [("h200-sxm", ["mla"]), ("b200-sxm", ["mla", "mla_narrow"])]
)
def test_few_latent_heads_are_apart_where_they_run_another_kernel(
    part: str, kinds: list[str]
) -> None:
    data = {
        "kernel_source": column("k", "k"), "kv_cache_dtype": column("bfloat16", "bfloat16"),
        "batch_size": column(4, 4), "isl": column(1, 1), "step": column(1023, 1023),
        "num_heads": column(32, 64), "latency": column(0.2, 0.1),
    }  # fmt: skip
    found = list(tables._decode_mla(data, Origin(part, "aiconfigurator-tables", "trtllm 1.0")))
    assert [table.labels["variant"] for table in found] == kinds
    assert sum(map(len, found)) == 2


@pytest.mark.parametrize(
    ("part", "cache", "kinds"),
    [
        ("rtx-pro-6000", "fp8", ["mla", "mla_narrow"]),
        ("rtx-pro-6000", "bfloat16", ["mla"]),
        ("l40s", "fp8", ["mla"]),
    ],
)
def test_mla_on_an_8_bit_cache_is_another_kernel_from_128_heads_on(
    part: str, cache: str, kinds: list[str]
) -> None:
    data = {
        "kernel_source": column("k", "k"), "kv_cache_dtype": column(cache, cache),
        "batch_size": column(4, 4), "isl": column(1, 1), "step": column(1023, 1023),
        "num_heads": column(64, 128), "latency": column(0.2, 0.1),
    }  # fmt: skip
    found = list(tables._decode_mla(data, Origin(part, "aiconfigurator-tables", "trtllm 1.0")))
    assert [table.labels["variant"] for table in found] == kinds
    engine = Origin(part, "aiconfigurator-tables", "sglang 0.5")
    assert [t.labels["variant"] for t in tables._decode_mla(data, engine)] == ["mla"]


@pytest.mark.parametrize(
    ("part", "engine", "rule"),
    [("h100-sxm", "trtllm", "xqa"), ("b200-sxm", "trtllm", None), ("h100-sxm", "vllm", None)],
)
def test_grouped_queries_of_one_engine_divide_contexts_by_its_rule(
    part: str, engine: str, rule: str | None
) -> None:
    data = {
        "kernel_source": column("k", "k"), "kv_cache_dtype": column("fp8", "fp8"),
        "batch_size": column(4, 4), "isl": column(1, 1), "step": column(1023, 1023),
        "num_heads": column(64, 8), "num_key_value_heads": column(8, 8),
        "head_dim": column(128, 128), "latency": column(0.1, 0.2),
    }  # fmt: skip
    origin = Origin(part, "aiconfigurator-tables", f"{engine} 1.0")
    shared, alone = tables._decode_gqa(data, origin)
    assert (shared.labels.get("splits"), alone.labels.get("splits")) == (rule, None)


def test_message_sizes_are_elements_of_two_bytes() -> None:
    data = {
        "op_name": column("alltoall", "all_reduce"), "nccl_dtype": column("half", "int8"),
        "num_gpus": column(8, 8), "message_size": column(1024, 1024), "latency": column(0.1, 0.1),
    }  # fmt: skip
    (table,) = tables._collectives(data, ORIGIN)
    assert (table.op, table["bytes"].tolist()) == ("all_to_all", [2048])


def test_versions_are_ordered_as_released() -> None:
    names = ["1.3.0rc4", "1.3.0rc20", "1.2.0", "1.3.0", "0.5.10", "0.5.9"]
    assert sorted(names, key=tables._ordered) == [
        "0.5.9", "0.5.10", "1.2.0", "1.3.0rc4", "1.3.0rc20", "1.3.0",
    ]  # fmt: skip


def test_without_the_package_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "installed", lambda: False)
    with pytest.raises(InputError, match=r"pip install .*tables-nvidia"):
        tables.aic_tables("h200-sxm")


def test_files_are_read_in_place_newest_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    arrow = pytest.importorskip("pyarrow")
    for version, ms in (("1.3.0rc4", 2.0), ("1.3.0rc20", 1.0)):
        folder = tmp_path / "h200_sxm" / "gemm" / "trtllm" / version
        folder.mkdir(parents=True)
        rows = {
            "gemm_dtype": ["bfloat16"], "kernel_source": ["k"], "m": [1], "n": [4096],
            "k": [4096], "latency": [ms],
        }  # fmt: skip
        parquet.write_table(arrow.table(rows), folder / "gemm_perf.parquet")
    monkeypatch.setattr(tables, "installed", lambda: True)
    monkeypatch.setattr(tables, "_root", lambda: tmp_path)
    (table,) = tables.aic_tables("h200-sxm")
    assert table.time_s.tolist() == [1e-3]
    assert table.origin.version == "trtllm 1.3.0rc20"
    with pytest.raises(InputError, match=r"no tables of mi300x; there are a100"):
        tables.aic_tables("mi300x")
