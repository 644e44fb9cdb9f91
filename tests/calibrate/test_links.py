"""Links as fitted: rows to bytes by hand, held-out errors of what ships, bad rows."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from planner import files
from planner.calibrate import links_rows
from planner.calibrate.links import SYSTEMS, fit_links, link_shares
from planner.calibrate.links_check import (
    errors_markdown,
    published_errors,
    published_markdown,
    published_summary,
)
from planner.calibrate.links_fit import Parameter, fit
from planner.calibrate.links_jobs import Job, run, screened
from planner.calibrate.links_laws import Laws
from planner.calibrate.links_rows import Rows, carried, stated
from planner.calibrate.rows import Origin
from planner.errors import InputError
from planner.ops import Comm

H800 = files.load_hardware("hgx-h800")


def row(rows: list[Rows], ranks: int, phase: str, size: float) -> tuple[Comm, float, float, float]:
    for r in rows:
        if r.comm.ranks == ranks and r.comm.phase == phase and size in r.size:
            i = list(r.size).index(size)
            c = r.comm
            inner, outer = np.asarray(c.bytes_per_rank), np.asarray(c.scale_out_bytes_per_rank)
            return c, float(inner[i]), float(outer[i]), float(r.time_s[i])
    raise AssertionError


def test_low_latency_rows_carry_a_copy_an_expert() -> None:
    rows = carried("h800-sxm", "deepep-low-latency", "2025-06")
    comm, inner, outer, time_s = row(rows, 128, "dispatch", 128)
    assert time_s == pytest.approx(192e-6)
    assert outer == pytest.approx(128 * 8 * 7392 * 120 / 128)
    assert inner == pytest.approx(128 * 8 * 7392 * 7 / 128)
    assert (comm.experts, comm.message_bytes) == (256, 7392)


def test_normal_rows_carry_a_copy_a_node_of_at_most_four() -> None:
    rows = carried("h800-sxm", "deepep-normal", "2025-06")
    _, inner, outer, time_s = row(rows, 64, "combine", 4096)
    hit = 4 * (1 - 0.75**8)
    assert outer == pytest.approx(4096 * 14336 * hit * 7 / 8)
    # the table's bandwidth counts the own node's copy too
    assert 4096 * 14336 * hit / time_s == pytest.approx(50e9, rel=1e-3)
    assert inner > outer


def test_one_sided_rows_give_every_expert_another_rank() -> None:
    rows = carried("gb200-nvl72", "one-sided")
    _, inner, outer, _ = row(rows, 8, "dispatch", 2048)
    assert (inner, outer) == (pytest.approx(2048 * 8 * 14336 * 7 / 8), 0)


def test_what_ships_is_near_what_was_published_and_held_out() -> None:
    for record in published_summary():
        assert record["median_abs_error"] <= 0.10, record
    assert {r["claim"] for r in published_summary() if r["split"] == "ep_degree"} == {
        "deepep-low-latency on h800-sxm",
        "deepep-normal on h800-sxm",
        "deepep-low-latency-2025-02 on h800-sxm",
        "deepep-normal-2025-02 on h800-sxm",
        "deepep-low-latency on h100-sxm",
        "one-sided on gb200-nvl72",
    }


def test_the_held_out_degrees_are_thirty_two_and_a_hundred_and_twenty_eight() -> None:
    for record in published_errors():
        held = record["conditions"]["ep"] in (32, 128)
        if record["claim"] == "deepep-normal on h100-sxm":
            assert record["split"] == "in_sample"
        else:
            assert (record["split"] == "ep_degree") == held
        assert record["relative_error"] == pytest.approx(
            record["predicted"] / record["value"] - 1, abs=1e-4
        )


@pytest.mark.parametrize("part", ["h800-sxm", "h100-sxm"])
def test_carried_rows_give_the_exchanges_that_ship(part: str) -> None:
    shipped = files.load_calibration(part).links
    found = link_shares(fit_links(part), shipped)
    for name, law in found.exchanges.items():
        for phase in ("dispatch", "combine"):
            one, two = getattr(law, phase), getattr(shipped.exchanges[name], phase)
            assert one.scale_up_share == pytest.approx(two.scale_up_share, rel=0.02)
            assert one.base_s == pytest.approx(two.base_s, rel=0.02)


def test_every_measured_part_ships_its_errors() -> None:
    for part in SYSTEMS:
        made = files.load_calibration(part).links.provenance
        assert made is not None
        for held in made.held_out:
            assert held.family in ("collective", "all_to_all")
            if held.split in ("interpolation", "ep_degree", "shape"):
                assert held.median_abs_error < 0.15, (part, held)


def test_laws_are_within_the_links_everywhere() -> None:
    for part in files.accelerator_names():
        links = files.load_calibration(part).links
        for ring in links.rings.values():
            for ranks in (2, 4, 8, 72):
                share = ring.bandwidth_share * (1 - ring.few_ranks_loss_share / ranks)
                assert 0 < share <= 1


# --- bad rows ------------------------------------------------------------------------------------


def rows_of(times: list[float]) -> Rows:
    size = np.geomspace(1e4, 1e8, len(times))
    comm = Comm("x", "all_to_all", 8, 8, size)
    return Rows(comm, size, np.array(times), Origin("h800-sxm", "test"))


def test_a_row_faster_than_the_link_is_refused_and_counted() -> None:
    rows = rows_of([1e-5, 1e-5, 1e-5, 1e-5, 1e-5])
    laws = Laws(H800.system, H800.calibration)
    job = screened(
        Job("rings/all_to_all", "all_to_all", (rows,), laws.ring, laws.ring_s),
        lambda r: stated(r, 200e9, 50e9),
    )
    assert job.refused == {"beats_link": 2}  # 10 and 100 MB at 200 GB/s take 50 and 500 us
    assert sum(map(len, job.rows)) == 3


def test_an_accident_is_refused_and_counted() -> None:
    rows = rows_of([2e-4, 2e-4, 9e-3, 9e-4, 2e-3])
    laws = Laws(H800.system, H800.calibration)
    job = Job("rings/all_to_all", "all_to_all", (rows,), laws.ring, laws.ring_s)
    assert screened(job, lambda r: np.zeros(len(r))).refused == {"glitch": 1}


def test_rows_of_several_algorithms_give_no_law() -> None:
    rng = np.random.default_rng(0)
    rows = rows_of(list(1e-3 * np.exp(rng.normal(0, 1.5, 60))))
    laws = Laws(H800.system, H800.calibration)
    assert run(Job("rings/all_to_all", "all_to_all", (rows,), laws.ring, laws.ring_s)) is None


def test_too_few_rows_say_so() -> None:
    with pytest.raises(InputError, match="1 rows cannot fix 2 numbers"):
        fit(
            (Parameter("a", 1, 0.1, 10), Parameter("b", 1, 0.1, 10)),
            [rows_of([1e-3])],
            lambda v, r: r.time_s,
        )


def test_a_fit_finds_the_law_it_was_made_from() -> None:
    laws = Laws(H800.system, H800.calibration)
    true = {
        "floor_s": 6e-6, "step_s": 1e-6, "bandwidth_share": 0.7, "few_ranks_loss_share": 0.4,
        "ramp_s": 2e-5, "ramp_bytes": 4e6,
    }  # fmt: skip
    rows = []
    for ranks in (2, 4, 8):
        size = np.geomspace(1e3, 5e8, 30)
        comm = Comm("x", "all_reduce", ranks, ranks, size)
        one = Rows(comm, size, size, Origin("h800-sxm", "test"))
        rows.append(replace(one, time_s=laws.ring_s(true, one)))
    found = laws.ring(rows)
    assert found.sigma < 1e-3
    for name, value in true.items():
        assert found.values[name] == pytest.approx(value, rel=0.02)
    assert found.covariance.shape == (6, 6)


def test_the_format_of_a_message_sets_its_bytes(tmp_path: Path) -> None:
    assert links_rows.HIDDEN_BYTES["fp8_block"] * 7168 == 7392
    assert links_rows.HIDDEN_BYTES["nvfp4"] * 7168 == 4032


def test_the_tables_of_the_docs_are_what_ships() -> None:
    text = (Path(__file__).parents[2] / "docs" / "links.md").read_text("utf-8")
    assert errors_markdown() in text
    assert published_markdown() in text
