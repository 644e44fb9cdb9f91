"""Links where a person meets them: the library a pool picks, and what a report admits."""

import pytest

from planner import files
from planner.errors import InputError
from planner.evaluation.assumptions import assumptions
from planner.evaluation.replica import Replica, build
from planner.specs.deployment import Parallelism, Pool


def replica(system: str, exchange: str = "") -> Replica:
    pool = Pool(
        parallelism=Parallelism(attention_dp=16, moe_ep=16), weights="fp8", exchange=exchange
    )
    return build(files.load_model("deepseek-r1"), files.load_hardware(system), pool)


def test_the_first_release_takes_longer_to_decode() -> None:
    now = replica("hgx-h800").step.decode_step(32, 1000, None)
    then = replica("hgx-h800", "deepep-low-latency-2025-02").step.decode_step(32, 1000, None)
    assert then.time_s > now.time_s
    differ = {a.name for a, b in zip(now.parts, then.parts, strict=True) if a != b}
    assert differ == {"expert_network/dispatch", "expert_network/combine"}


def test_a_library_that_was_not_measured_is_refused() -> None:
    with pytest.raises(InputError, match="exchange: no 'pplx' among its links; there are: deepep"):
        replica("hgx-h800", "pplx")


def test_laws_of_another_part_are_admitted_law_by_law() -> None:
    named = {a.name: a.note for a in assumptions(replica("hgx-h20"))}
    assert "as measured on h200-sxm" in named["calibration.links.exchanges.deepep-normal"]
    assert not any(name.endswith("exchanges.deepep-normal.dispatch.base_s") for name in named)
    # shares that a measured law replaces are no longer assumed
    assert not any("all_to_all_scale_up_share" in name for name in named)


def test_what_one_part_measured_itself_is_not_doubted() -> None:
    named = {a.name for a in assumptions(replica("hgx-h100"))}
    assert not any(name.startswith("calibration.links.exchanges") for name in named)
