"""What one device must do in one step: work, not time."""

from planner.ops.op import (
    AttentionDecode,
    AttentionPrefill,
    Comm,
    Elementwise,
    Gemm,
    Given,
    GroupedGemm,
    Op,
    Real,
    larger,
    smaller,
)

__all__ = [
    "AttentionDecode",
    "AttentionPrefill",
    "Comm",
    "Elementwise",
    "Gemm",
    "Given",
    "GroupedGemm",
    "Op",
    "Real",
    "larger",
    "smaller",
]
