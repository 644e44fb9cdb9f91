"""How a calibration was made, and how far it was from points that were not fitted."""

from typing import Literal

from pydantic import Field

from planner.specs.base import Count, Spec

Split = Literal[
    "interpolation", "shape", "ep_degree", "part", "elsewhere", "assumed", "in_sample"
]  # fmt: skip
"""What the held-out points have in common: their size, a model's shapes, an expert-parallel
degree, or the part itself; ``elsewhere``: the error that such a transfer makes on another part,
where this one has no rows; ``assumed``: shares without any rows, tried on other parts that have
some; ``in_sample`` where too few points exist to hold any out."""

BORROWED: tuple[Split, ...] = ("elsewhere", "assumed")
"""Splits whose points are not of the part; ``source`` names whose they are."""

CheckFamily = Literal[
    "gemm", "grouped_gemm", "moe_layer", "attention_prefill", "attention_decode", "elementwise",
    "collective", "all_to_all",
]  # fmt: skip
"""What is compared with measurements: families of operators, and what they compose."""


class HeldOut(Spec):
    """How far predictions were from points that were not fitted."""

    family: CheckFamily
    dtype: str
    """Format of the rows; of attention also kernel and width of heads, engine or library, and an
    8-bit cache (``bf16 gqa_64 vllm fp8-cache``); of experts the library (``fp8_block triton``)."""
    split: Split
    n: Count
    median_abs_error: float
    p90_abs_error: float
    bias: float
    """Geometric mean of predicted over measured, minus one."""
    source: str
    """Source and version of the rows; before a colon the part they are of, where it is another."""


class RowCount(Spec):
    """Rows of one source that went into a fit, and rows that did not."""

    source: str
    version: str = ""
    family: CheckFamily
    dtype: str
    used: int
    refused: dict[str, int] = Field(default_factory=dict)
    """Rule -> rows."""


class Provenance(Spec):
    """How a calibration was made."""

    fitted: str
    """Date of the fit."""
    transferred_from: str = ""
    """Part whose shares these are, where this one was not measured."""
    rows: tuple[RowCount, ...] = ()
    held_out: tuple[HeldOut, ...] = ()
    residual_sigma: dict[str, float] = Field(default_factory=dict)
    """Family and precision (``gemm/fp8``) -> standard deviation of log(measured / predicted)."""
