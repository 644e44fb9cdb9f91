"""How close a calibration should be, and whether it is."""

from collections.abc import Mapping
from typing import Any

GOALS: dict[tuple[str, str], tuple[float, float | None]] = {
    ("gemm", "interpolation"): (0.05, 0.15),
    ("attention_decode", "interpolation"): (0.05, 0.15),
    ("attention_prefill", "interpolation"): (0.05, 0.15),
    ("grouped_gemm", "interpolation"): (0.08, 0.20),
    ("moe_layer", "interpolation"): (0.08, 0.20),
    ("collective", "interpolation"): (0.10, None),
    ("all_to_all", "interpolation"): (0.10, None),
}
"""(family, split) -> largest median and 90th percentile of the relative error."""
OF_SPLIT = {"shape": 0.12, "ep_degree": 0.12, "part": 0.20}
"""Largest median of the splits that hold whole shapes, degrees or parts out."""


def goal(record: Mapping[str, Any]) -> tuple[float, float | None] | None:
    """Largest median and 90th percentile a record may have; None where none is set."""
    if record["split"] in OF_SPLIT:
        return OF_SPLIT[record["split"]], None
    return GOALS.get((record["family"], record["split"]))


def meets_goal(record: Mapping[str, Any]) -> bool | None:
    """Whether a record of ``check`` is as close as it should be; None where no goal is set."""
    limits = goal(record)
    if limits is None:
        return None
    median, p90 = limits
    return bool(
        record["median_abs_error"] <= median and (p90 is None or record["p90_abs_error"] <= p90)
    )
