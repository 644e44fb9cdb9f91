"""Which runs that a fit has not seen speak for a prediction."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.evaluation.widths import width_of
from planner.files.overheads import load_overheads
from planner.specs.overheads import OverheadsFit, Width

TTFT, TPOT = "mean_ttft_s", "mean_tpot_s"


def width(low: float, high: float, *, seen: bool, case: str = "") -> Width:
    return Width(quantity=TPOT, seen=seen, case=case, low=low, high=high, n=100)


FIT = OverheadsFit(
    fitted="", source="", runs=100, start={}, effects=(), makers=("NVIDIA",),
    models=("deepseek-r1",),
    widths=(
        width(-0.10, 0.20, seen=True), width(-0.05, 0.12, seen=True, case="aggregated"),
        width(-0.30, 0.15, seen=False),
        width(-0.38, 0.99, seen=False, case="elsewhere"),
        width(-0.25, 0.49, seen=False, case="model"),
    ),
)  # fmt: skip


@pytest.mark.parametrize(
    ("vendor", "model", "seen", "case", "expected"),
    [
        ("NVIDIA", "deepseek-r1", True, "", (-0.10, 0.20)),
        ("NVIDIA", "deepseek-r1", True, "aggregated", (-0.05, 0.12)),
        ("NVIDIA", "deepseek-r1", True, "queued", (-0.10, 0.20)),  # none of its own: any
        ("NVIDIA", "deepseek-r1", False, "", (-0.30, 0.20)),  # not narrower than seen ones
        ("NVIDIA", "gpt-oss-120b", False, "", (-0.30, 0.49)),  # nor than of other new models
        ("AMD", "deepseek-r1", False, "", (-0.38, 0.99)),  # of other makers' parts alone
        ("AMD", "gpt-oss-120b", False, "aggregated", (-0.38, 0.99)),
    ],
)
def test_runs_alike_speak_for_a_prediction(vendor, model, seen, case, expected):
    assert width_of(FIT, TPOT, vendor, model, seen, case) == expected


def test_nothing_is_known_of_a_quantity_that_no_run_had():
    assert width_of(FIT, TTFT, "NVIDIA", "deepseek-r1", True) is None


@given(
    quantity=st.sampled_from([TTFT, TPOT, "total_tokens_per_s_per_device"]),
    case=st.sampled_from(["", "aggregated", "disaggregated", "queued"]),
)
def test_what_is_less_known_is_never_surer(quantity, case):
    """Law: seen, then unseen, then of a new model as well."""
    fit, ends = load_overheads(), []
    for model, seen in (("deepseek-r1", True), ("deepseek-r1", False), ("dbrx", False)):
        found = width_of(fit, quantity, "NVIDIA", model, seen, case)
        assert found is not None
        ends.append(found)
    lows, highs = zip(*ends, strict=True)
    assert lows == tuple(sorted(lows, reverse=True))
    assert highs == tuple(sorted(highs))
