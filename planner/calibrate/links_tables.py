"""Expert exchanges and engines' all-reduces of an installed ``aiconfigurator-core``."""

from collections.abc import Iterator

import numpy as np

from planner.calibrate.links_rows import FEWEST_EXPERTS, Rows, exchange_rows
from planner.calibrate.rows import Origin, Table
from planner.calibrate.tables import (
    PARTS,
    Columns,
    _groups,
    _newest_first,
    _number,
    _read,
    installed,
)
from planner.ops import Comm

RANKS_A_NODE = {"gb200-nvl72": 4, "gb300-nvl72": 4}
"""GPUs that the DeepEP tables of a part were measured on, where not eight."""
BENCHED_SMS = (20, 24)
"""Engines give DeepEP's normal kernels this many SMs; rows with fewer are left out."""


def deepep(part: str, mode: str) -> list[Rows]:
    """DeepEP inside one node by SGLang's tables: ``deepep-low-latency`` or ``deepep-normal``."""
    if not installed() or part not in PARTS:
        return []
    short = "ll" if "low-latency" in mode else "normal"
    for path in _newest_first(part, f"wideep_deepep_{short}_perf", "sglang", None):
        origin = Origin(part, "aiconfigurator-tables", f"sglang {path.parent.name}")
        data = _read(path)
        keep = (_number(data["num_experts"]) >= FEWEST_EXPERTS) & (_number(data["node_num"]) == 1)
        if short == "normal":
            keep &= np.isin(_number(data["dispatch_sms"]), BENCHED_SMS)
        data = {name: values[keep] for name, values in data.items()}
        tables = list(_halves(data, origin, mode, RANKS_A_NODE.get(part, 8)))
        return [rows for table in tables for rows in exchange_rows(table, mode)]
    return []


def _halves(data: Columns, origin: Origin, mode: str, ranks: int) -> Iterator[Table]:
    tokens = _number(data["num_token"])
    columns = {
        "tokens": tokens, "hidden": _number(data["hidden_size"]),
        "experts": _number(data["num_experts"]), "top_k": _number(data["num_topk"]),
        "nodes": _number(data["node_num"]), "ranks": ranks * _number(data["node_num"]),
    }  # fmt: skip
    for phase, dtype in (("dispatch", "fp8_block"), ("combine", "bf16")):
        if f"{phase}_avg_t_us" in data:
            micros = _number(data[f"{phase}_avg_t_us"])
        else:
            micros = _number(data[f"{phase}_transmit_us"]) + _number(data[f"{phase}_notify_us"])
            columns = {**columns, "sms": _number(data[f"{phase}_sms"])}
        yield Table("all_to_all", dtype, mode, origin, columns, micros / 1e6, {"phase": phase})


def one_sided(part: str) -> list[Rows]:
    """TensorRT-LLM's one-sided exchange over NVLink, by its tables."""
    if not installed() or part not in PARTS:
        return []
    for path in _newest_first(part, "trtllm_alltoall_perf", "trtllm", None):
        origin = Origin(part, "aiconfigurator-tables", f"trtllm {path.parent.name}")
        found = []
        data = _read(path)
        for (kernel, op, dtype), rows in _groups(data, "kernel_source", "op_name", "moe_dtype"):
            phase = op.removeprefix("alltoall_")
            if kernel != "NVLinkOneSided" or phase not in ("dispatch", "combine"):
                continue
            sent = "bf16" if phase == "combine" else {"bfloat16": "bf16"}.get(dtype, dtype)
            ranks = _number(rows["moe_ep_size"])
            columns = {
                "tokens": _number(rows["num_tokens"]), "hidden": _number(rows["hidden_size"]),
                "experts": _number(rows["num_experts"]), "top_k": _number(rows["topk"]),
                "nodes": np.ones_like(ranks), "ranks": ranks,
            }  # fmt: skip
            times = _number(rows["latency"]) / 1e3
            table = Table("all_to_all", sent, kernel, origin, columns, times, {"phase": phase})
            found += exchange_rows(table, "one-sided")
        return found
    return []


ENGINES = ("trtllm", "sglang", "vllm")
"""Whose all-reduce kernels are read, in the order of choice."""
CUSTOM_BYTES = 8e6
"""Above, engines hand over to NCCL. [bytes]"""


def direct_rows(part: str, engine: str = "") -> list[Rows]:
    """All-reduces of a serving engine inside captured graphs; the first engine that has them."""
    if not installed() or part not in PARTS:
        return []
    for name in (engine,) if engine else ENGINES:
        for path in _newest_first(part, "custom_allreduce_perf", name, None):
            origin = Origin(part, "aiconfigurator-tables", f"{name} {path.parent.name}")
            data = _read(path)
            found = []
            for (kernel, ranks), rows in _groups(data, "kernel_source", "num_gpus"):
                size = 2.0 * _number(rows["message_size"])
                keep = size <= CUSTOM_BYTES
                if "eager" in kernel or not keep.any():
                    continue
                comm = Comm(f"{name}/all_reduce", "all_reduce", int(ranks), int(ranks), size[keep])
                times = _number(rows["latency"])[keep] / 1e3
                found.append(Rows(comm, size[keep], times, origin))
            if found:
                return found
    return []
