"""Measured tables of an installed ``aiconfigurator-core``, read in place.

Latencies there are milliseconds, or microseconds where the column's name says so; ``num_tokens``
of MoE tables counts all ranks, before routing; rows of more than one expert rank time the busiest
rank of one sampled batch.  Only balanced routing is read: no file says what the others sampled.
"""

import importlib.util
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from planner.calibrate.rows import FloatArray, Origin, Table
from planner.calibrate.tuned import TUNED, is_tuned
from planner.errors import InputError
from planner.specs.calibration import NARROW_HEADS, width_suffix

PARTS = {
    "a100-80g-sxm": "a100_sxm", "b200-sxm": "b200_sxm", "b300-sxm": "b300_sxm",
    "gb200-nvl72": "gb200", "gb300-nvl72": "gb300", "h100-sxm": "h100_sxm",
    "h200-sxm": "h200_sxm", "l40s": "l40s", "rtx-pro-6000": "rtx_pro_6000_server",
}  # fmt: skip
"""Accelerator profile -> folder of its tables."""

DTYPES = {
    "bfloat16": "bf16", "half": "bf16", "fp8": "fp8_tensor", "fp8_block": "fp8_block",
    "nvfp4": "nvfp4", "sq": "int8", "w4a16_mxfp4": "mxfp4_w4a16", "w4a8_mxfp4_mxfp8": "mxfp4_w4a8",
    "int4_wo": "int4",
}  # fmt: skip
"""Formats of weights, or of weights and activations; of eight bits only what is multiplied so."""

SMALLEST_SIDE = 512
"""Narrower matrix products are left out: no model's layer is one."""
NARROWEST_EXPERT = 128
"""Experts cut into narrower slices are left out: nobody serves them so."""
TILES = {
    "flashinfer_trtllm": "planned", "fused_moe_triton": "tuned", "tritonexperts": "tuned",
    "marlin": "marlin", "oaitriton": "powers",
}  # fmt: skip
"""Kernels whose tiles the host chooses by the tokens given, not by what those chose."""
EXPANDED_IN_TRITON = ("w4a16_mxfp4", "moe_torch_flow")
"""Format and kernel of TensorRT-LLM's tables that are OpenAI's Triton kernels."""
TUNING = "fused_moe_triton"
"""The kernel whose tiles are far from best in 16 bits where nobody tuned them for the shape."""
PASSING = (TUNING, "tritonexperts", "marlin")
"""Kernels that sort the pairs of all tokens given, write zeros for those of experts held elsewhere
and pass over them again: SGLang's and vLLM's fused_moe in Triton, Marlin behind the same sort."""
MODEL = ("hidden", "experts", "top_k")
UNGATED = ((2688, 128, 6), (2048, 512, 22), (8192, 512, 22), (1024, 512, 22), (4096, 512, 22))
"""Models whose experts have no gate (Nemotron), by :data:`MODEL`: two products of one width.
TensorRT-LLM's tables say so of their kernels, others time them beside the gated ones and do not."""
WIDEST_HEAD = 256
"""Wider heads are left out: one family's (Gemma's of 512), on kernels of their own."""
SHORTEST_CONTEXT = 128
"""Shorter contexts and prompts are left out: launch, not attention."""
LATENT, ROPE, NOPE, VALUE = 512, 64, 128, 128
"""Head dimensions of multi-head latent attention in every table of it."""

AGAIN = {"operands": "again"}
"""Repeats read the same cache again."""

TRTLLM_GEN = ("b200-sxm", "b300-sxm", "gb200-nvl72", "gb300-nvl72")
"""Parts whose attention engines take from NVIDIA's ``trtllm-gen``: MLA decode of fewer than 64
heads is another kernel (32 heads take 1.3 times as long as 64), and a context is computed in whole
steps of two tiles of keys (TensorRT-LLM, fmhaKernels.h, ``mStepKv``)."""

KIN = ("l40s", "rtx-pro-6000")
"""Parts whose products are of tiles by format, where that is known: GeForce parts of half their
matrix rate take their shares, and on those the least tile of others' would decide small products,
for which libraries have smaller ones that no row of these parts shows."""

XQA_MLA, XQA_MLA_HEADS = ("rtx-pro-6000",), 128
"""Parts on which TensorRT-LLM runs MLA on an 8-bit cache in XQA, and heads from which it does
(TensorRT-LLM, decoderXQAConstants.h, ``kXqaMlaKernelHeadGrpSize``): fewer divide no context."""

OF_EXPERTS = ("w4a16_mxfp4", "w4a8_mxfp4_mxfp8", "int4_wo")
"""Formats that only experts are read in: dense products store none in four bits but NVFP4."""

Columns = dict[str, Any]


def installed() -> bool:
    """Whether the tables can be read: the package and pyarrow are there."""
    return all(importlib.util.find_spec(name) for name in ("aiconfigurator_core", "pyarrow"))


def aic_tables(
    part: str, wanted: tuple[str, ...] = (), engine: str = "trtllm", version: str | None = None
) -> list[Table]:
    """Tables of one accelerator profile by one serving engine: of each format the newest.

    Parameters
    ----------
    wanted : operations; empty: all.
    engine : ``trtllm``, ``sglang``, ``vllm``, ``nccl``.

    Raises
    ------
    InputError
        The package is not installed, or has no tables of the part.
    """
    if not installed():
        raise InputError(
            "", "tables", 'not installed; pip install "moe-planner[tables-nvidia]" reads them'
        )
    if part not in PARTS:
        raise InputError("", "part", f"no tables of {part}; there are {', '.join(sorted(PARTS))}")
    found = []
    for name, (op, make) in READERS.items():
        if wanted and op not in wanted:
            continue
        seen: set[str] = set()
        for path in _newest_first(part, name, engine, version):
            origin = Origin(part, "aiconfigurator-tables", f"{engine} {path.parent.name}")
            tables = [t for t in make(_read(path), origin) if len(t) and t.dtype not in seen]
            seen |= {table.dtype for table in tables}
            found += tables
    return found


def _root() -> Path:
    spec = importlib.util.find_spec("aiconfigurator_core")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "systems" / "data"


def _newest_first(part: str, name: str, engine: str, version: str | None) -> list[Path]:
    paths = (_root() / PARTS[part]).glob(f"*/{engine}/{version or '*'}/{name}.parquet")
    return sorted(paths, key=lambda p: _ordered(p.parent.name), reverse=True)


def _ordered(version: str) -> tuple[list[int], float]:
    """``1.3.0rc20`` after ``1.3.0rc4``, before ``1.3.0``."""
    release, _, candidate = version.partition("rc")
    numbers = [int(part) for part in release.split(".") if part.isdigit()]
    return numbers, float(candidate) if candidate.isdigit() else math.inf


def _read(path: Path) -> Columns:
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    return {name: table.column(name).to_numpy(zero_copy_only=False) for name in table.column_names}


def _groups(data: Columns, *names: str) -> Iterator[tuple[tuple[str, ...], Columns]]:
    """Split rows by what ``names`` say together."""
    keys = np.array(
        ["\t".join(map(str, key)) for key in zip(*(data[n] for n in names), strict=True)]
    )
    for key in np.unique(keys):
        keep = keys == key
        yield tuple(str(key).split("\t")), {n: values[keep] for n, values in data.items()}


def _number(values: Any) -> FloatArray:
    return np.asarray(values, dtype=float)


def _gemm(data: Columns, origin: Origin) -> Iterator[Table]:
    for (dtype, kernel), rows in _groups(data, "gemm_dtype", "kernel_source"):
        if dtype not in DTYPES or dtype in OF_EXPERTS:
            continue
        columns = {name: _number(rows[name]) for name in ("m", "k", "n")}
        labels = {} if dtype == "bfloat16" else {"includes": "quantise"}
        if origin.part in KIN:
            labels["tiles"] = DTYPES[dtype]
        table = Table(
            "gemm", DTYPES[dtype], kernel, origin, columns, _number(rows["latency"]) / 1e3, labels
        )
        yield table.take(np.minimum(columns["k"], columns["n"]) >= SMALLEST_SIDE)


def _moe(data: Columns, origin: Origin) -> Iterator[Table]:
    for (dtype, kernel, spread), rows in _groups(
        data, "moe_dtype", "kernel_source", "distribution"
    ):
        if dtype not in DTYPES or spread not in ("balanced", "uniform") or "nongated" in kernel:
            continue
        degree, experts = _number(rows["moe_ep_size"]), _number(rows["num_experts"])
        columns = {
            "group_tokens": _number(rows["num_tokens"]),
            "experts": experts,
            "local_experts": experts / degree,
            "top_k": _number(rows["topk"]),
            "hidden": _number(rows["hidden_size"]),
            "intermediate": _number(rows["inter_size"]) / _number(rows["moe_tp_size"]),
            "ep_degree": degree,
        }
        columns["pairs"] = np.ceil(columns["group_tokens"] * columns["top_k"] / degree)
        labels = {"distribution": "balanced", "includes": "layer"}
        labels |= next(({"tiles": how} for name, how in TILES.items() if name in kernel), {})
        if dtype == EXPANDED_IN_TRITON[0] and kernel == EXPANDED_IN_TRITON[1]:
            labels["tiles"] = "powers"
        if labels.get("tiles") == "planned":
            labels["routing"] = "apart" if kernel.endswith("modular") else "inside"
        if any(name in kernel for name in PASSING):
            labels["foreign"] = "passed"
        times = _number(rows["latency"]) / 1e3
        table = Table("moe_layer", DTYPES[dtype], kernel, origin, columns, times, labels)
        models = zip(*(columns[name].astype(int).tolist() for name in MODEL), strict=True)
        gated = np.array([model not in UNGATED for model in models], bool)
        wanted = gated & (columns["intermediate"] >= NARROWEST_EXPERT)
        if dtype != "bfloat16" or TUNING not in kernel or origin.part not in TUNED:
            yield table.take(wanted)
            continue
        tuned = is_tuned(table)
        yield table.take(wanted & tuned)
        rest = replace(table, labels={**labels, "tiles": "untuned"})
        yield rest.take(wanted & ~tuned)


def _decode_mla(data: Columns, origin: Origin) -> Iterator[Table]:
    """Few heads apart from many where they are different kernels."""
    narrow = (_number(data["num_heads"]) < NARROW_HEADS) & (origin.part in TRTLLM_GEN)
    if origin.part in XQA_MLA and origin.version.startswith("trtllm"):
        eight = data["kv_cache_dtype"] == "fp8"
        narrow = eight & (_number(data["num_heads"]) < XQA_MLA_HEADS)
    data = {**data, "kind": np.where(narrow, "mla_narrow", "mla")}
    for (kernel, cache, kind), rows in _groups(data, "kernel_source", "kv_cache_dtype", "kind"):
        sequences, context = (
            _number(rows["batch_size"]),
            _number(rows["isl"]) + _number(rows["step"]),
        )
        ones = np.ones_like(sequences)
        columns = {
            "sequences": sequences, "context_tokens": sequences * context,
            "heads": _number(rows["num_heads"]), "kv_lora_rank": LATENT * ones,
            "rope_dim": ROPE * ones,
        }  # fmt: skip
        labels = {"variant": kind, "kv_dtype": "fp8" if cache == "fp8" else "bf16", **AGAIN}
        times = _number(rows["latency"]) / 1e3
        table = Table("attention_decode", "bf16", kernel, origin, columns, times, labels)
        yield table.take(context >= SHORTEST_CONTEXT)


def _decode_gqa(data: Columns, origin: Origin) -> Iterator[Table]:
    """Heads that share keys apart from those that do not, and by width: a kernel for each."""
    data = _whole(data)
    alone = _number(data["num_heads"]) == _number(data["num_key_value_heads"])
    data = {**data, "kind": np.char.add(np.where(alone, "mha", "gqa"), _widths(data))}
    for (kernel, cache, kind), rows in _groups(data, "kernel_source", "kv_cache_dtype", "kind"):
        sequences, context = (
            _number(rows["batch_size"]),
            _number(rows["isl"]) + _number(rows["step"]),
        )
        columns = {
            "sequences": sequences, "context_tokens": sequences * context,
            "heads": _number(rows["num_heads"]), "kv_heads": _number(rows["num_key_value_heads"]),
            "head_dim": _number(rows["head_dim"]),
        }  # fmt: skip
        labels = {"variant": kind, "kv_dtype": "fp8" if cache == "fp8" else "bf16", **AGAIN}
        if kind.startswith("gqa") and _runs_xqa(origin):
            labels["splits"] = "xqa"
        times = _number(rows["latency"]) / 1e3
        table = Table("attention_decode", "bf16", kernel, origin, columns, times, labels)
        yield table.take(context >= SHORTEST_CONTEXT)


def _runs_xqa(origin: Origin) -> bool:
    """Whether heads that share keys run TensorRT-LLM's XQA: wherever ``trtllm-gen`` does not."""
    return origin.version.startswith("trtllm") and origin.part not in TRTLLM_GEN


def _prefill_mla(data: Columns, origin: Origin) -> Iterator[Table]:
    for (kernel, cache), rows in _groups(data, "kernel_source", "kv_cache_dtype"):
        if cache not in ("bfloat16", "fp8"):
            continue
        heads = _number(rows["num_heads"])
        ones = np.ones_like(heads)
        columns = {
            "heads": heads, "kv_heads": heads,
            "head_dim": (NOPE + ROPE) * ones, "v_head_dim": VALUE * ones,
        }  # fmt: skip
        yield _prompts(rows, kernel, origin, columns, "mla", cache == "fp8")


def _prompts(
    rows: Columns, kernel: str, origin: Origin, heads: Columns, kind: str, eight: bool
) -> Table:
    """Whole prompts of some heads that are not short, on a cache of 8 bits or of 16."""
    batch, each = _number(rows["batch_size"]), _number(rows["isl"])
    columns = {"sequences": batch, "tokens": batch * each, **heads}
    labels = {"variant": kind, "kv_dtype": "fp8" if eight else "bf16"}
    times = _number(rows["latency"]) / 1e3
    keep = (_number(rows["step"]) == 0) & (each >= SHORTEST_CONTEXT)
    return Table("attention_prefill", "bf16", kernel, origin, columns, times, labels).take(keep)


def _widths(data: Columns) -> np.ndarray:
    return np.array([width_suffix(float(width)) for width in data["head_dim"]])


EIGHT_BITS = {"bfloat16": ("vllm",), "fp8": ("sglang", "trtllm")}
"""Format of a row's queries -> engines that multiply prompts so where their cache has 8 bits
(TensorRT-LLM: cpp/tensorrt_llm/thop/attentionOp.cpp, ``mFP8ContextFMHA``)."""


def _prefill_gqa(data: Columns, origin: Origin) -> Iterator[Table]:
    data = _whole(data)
    data = {**data, "kind": np.char.add("gqa", _widths(data))}
    for (kernel, computed, cache, kind), rows in _groups(
        data, "kernel_source", "attn_dtype", "kv_cache_dtype", "kind"
    ):
        eight = cache == "fp8" and origin.version.startswith(EIGHT_BITS.get(computed, ()))
        if not eight and (computed, cache) != ("bfloat16", "bfloat16"):
            continue
        dim = _number(rows["head_dim"])
        columns = {
            "heads": _number(rows["num_heads"]), "kv_heads": _number(rows["num_key_value_heads"]),
            "head_dim": dim, "v_head_dim": dim,
        }  # fmt: skip
        yield _prompts(rows, kernel, origin, columns, kind, eight)


def _whole(data: Columns) -> Columns:
    """Rows that attend to the whole context, of heads that are not too wide."""
    keep = _number(data["head_dim"]) <= WIDEST_HEAD
    if "window_size" in data:
        keep &= _number(data["window_size"]) == 0
    return {name: values[keep] for name, values in data.items()}


def _collectives(data: Columns, origin: Origin) -> Iterator[Table]:
    names = {"all_reduce": 2.0, "all_gather": 2.0, "reduce_scatter": 2.0, "alltoall": 2.0}
    for (op, dtype), rows in _groups(data, "op_name", "nccl_dtype"):
        if op not in names or dtype != "half":
            continue
        ranks = _number(rows["num_gpus"])
        parts = ranks if op in ("all_gather", "reduce_scatter") else 1.0  # sizes are of the whole
        columns = {"ranks": ranks, "bytes": 2.0 * _number(rows["message_size"]) / parts}
        times = _number(rows["latency"]) / 1e3
        yield Table(op.replace("alltoall", "all_to_all"), "none", "nccl", origin, columns, times)


READERS: dict[str, tuple[str, Callable[[Columns, Origin], Iterator[Table]]]] = {
    "gemm_perf": ("gemm", _gemm),
    "moe_perf": ("moe_layer", _moe),
    "generation_mla_perf": ("attention_decode", _decode_mla),
    "generation_attention_perf": ("attention_decode", _decode_gqa),
    "context_mla_perf": ("attention_prefill", _prefill_mla),
    "context_attention_perf": ("attention_prefill", _prefill_gqa),
    "nccl_perf": ("collective", _collectives),
}
