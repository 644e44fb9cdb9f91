"""Laws of decode attention that made the times are found again: parts, tiles of queries, chains."""

from dataclasses import replace
from typing import Literal

import numpy as np
import pytest

from planner import files
from planner.calibrate.calls import Peaks, stated_peaks
from planner.calibrate.carried import over_units
from planner.calibrate.features import predict_s, works
from planner.calibrate.laws import Sample, fit_law
from planner.calibrate.rows import FloatArray, Origin, Table
from planner.ops.laws import rounded
from planner.ops.splits import parts, uneven
from planner.sourced import Sourced
from planner.specs.calibration import Achieved
from planner.specs.tilings import RowWaves, Splits

PEAKS = stated_peaks(files.load_accelerator("h200-sxm"))
XQA = Splits(keys=128, root=8, waves=8, units=132)


def rows(groups: tuple[float, ...], cached: tuple[float, ...] = (1.0, 8.0), **labels: str) -> Table:
    """1 to 1,024 sequences of 128 to 16,384 tokens, so many cached heads of 128."""
    grid = np.meshgrid(2.0 ** np.arange(0, 11, 2), 2.0 ** np.arange(7, 15), cached, groups)
    sequences, mean, heads, group = (v.ravel() for v in grid)
    of = np.ones_like(sequences)
    columns = {
        "sequences": sequences, "context_tokens": sequences * mean, "heads": group * heads,
        "kv_heads": heads, "head_dim": 128 * of,
    }  # fmt: skip
    labels = {"variant": "gqa", "kv_dtype": "bf16", **labels}
    origin = Origin("h200-sxm", "aiconfigurator-tables", "t")
    return Table("attention_decode", "bf16", "k", origin, columns, of, labels)


def found(
    table: Table, exact_s: FloatArray, alike: Achieved | None = None, peaks: Peaks = PEAKS
) -> Achieved:
    """Law of times with 1 % of noise, which it is to be near."""
    rng = np.random.default_rng(3)
    times = exact_s * np.exp(0.01 * rng.standard_normal(len(exact_s)))
    made, of = works(table, peaks), {("attention_decode", "mha"): alike} if alike else {}
    law = fit_law(made[0].key, [Sample(made, times)], of, "t").law
    error = np.abs(predict_s(made, {made[0].key: law}) / exact_s - 1)
    assert np.quantile(error, 0.9) < 0.04
    return law


@pytest.mark.parametrize("rule", ["xqa", ""])
def test_the_time_of_a_contexts_parts_is_found_where_the_kernels_rule_is_known(rule: str) -> None:
    """30 ns a part beside the transfer; without the rule every row is one part."""
    table = rows((2.0, 16.0), splits=rule)
    (work,) = works(table, PEAKS)
    heads = table["sequences"] * table["kv_heads"]
    many = parts(work.depth, heads, XQA) if rule else 1.0
    law = found(table, 1e-5 + np.asarray(rounded(3e-8 * heads * many, work.memory_s / 0.9)))
    assert law.blend == "root2"
    assert law.splits == (XQA if rule else None)
    assert float(law.row_s or 0) == pytest.approx(3e-8, rel=0.15)


def test_the_time_of_a_cached_heads_tiles_is_found_again() -> None:
    """Kept only where it saves a twentieth of the cost: rows without it are fitted without it."""
    table = rows((2.0, 16.0))
    (work,) = works(table, PEAKS)
    plain = 1e-5 + work.memory_s / 0.8 + work.query_s / 0.5
    assert found(table, plain).row_s is None
    law = found(table, plain + 2e-8 * table["sequences"] * table["kv_heads"])
    assert float(law.row_s or 0) == pytest.approx(2e-8, rel=0.2)


def test_whole_tiles_of_queries_are_found() -> None:
    """20, 24 and 32 queries of a cached head take as long, 40 as long as 48."""
    table = rows((8.0, 16.0, 20.0, 24.0, 32.0, 40.0))
    (work,) = works(table, PEAKS)
    group = table["heads"] / table["kv_heads"]
    whole_s = work.compute_s * np.ceil(group / 16.0) * 16.0 / group / 0.03
    law = found(table, np.asarray(1e-5 + np.maximum(whole_s, work.memory_s / 0.9)))
    assert law.tile_queries == 16
    assert law.compute_share == pytest.approx(0.03, rel=0.1)


def test_a_chain_that_units_hide_is_found() -> None:
    """One sequence takes as long as 64, whose keys all units read: 60 ns a key, or the transfer."""
    table = rows((2.0, 16.0))
    (work,) = works(table, PEAKS)
    law = found(table, np.asarray(1e-5 + np.hypot(6e-8 * work.depth, work.memory_s / 0.5)))
    assert (law.chain, law.doubling_depth) == ("root2", None)
    assert float(law.depth_s or 0) == pytest.approx(6e-8, rel=0.1)


def test_parts_are_over_the_units_of_the_part() -> None:
    """78 multiprocessors of 132: a part takes one of them as long, and all of them 1.69 times."""
    law = files.load_calibration("h200-sxm").attention_decode
    law = law.model_copy(update={"splits": XQA, "row_s": Sourced(3e-8, "t")})
    moved = over_units(law, 78 / 132)
    assert moved.splits == XQA.model_copy(update={"units": 78})
    assert float(moved.row_s or 0) == pytest.approx(3e-8 * 132 / 78, rel=1e-3)
    assert over_units(moved.model_copy(update={"splits": None}), 0.5).row_s == moved.row_s


def test_waves_are_over_the_units_of_the_part_and_fill_its_memory() -> None:
    """78 of 132 multiprocessors beside as much bandwidth: 1.69 times the part of them fills it."""
    law = files.load_calibration("h200-sxm").attention_decode
    law = law.model_copy(update={"row_waves": RowWaves(units=132, fill=0.4, parts="up")})
    assert over_units(law, 78 / 132).row_waves == RowWaves(units=78, fill=0.677, parts="up")
    moved = over_units(law, 1.0, 2.0).row_waves
    assert moved == RowWaves(units=132, fill=0.8, parts="up")
    assert over_units(law, 0.1).row_waves == RowWaves(units=13, fill=1.0, parts="up")


@pytest.mark.parametrize(("part", "how"), [("h200-sxm", "up"), ("b200-sxm", "down")])
def test_rows_in_waves_are_found_where_rows_tell_and_lent_where_they_do_not(
    part: str, how: Literal["up", "down"]
) -> None:
    """Heads in threes and fives leave most units idle now and then, powers of two never."""
    peaks = stated_peaks(files.load_accelerator(part))
    waves = RowWaves(units=peaks.units or 0, fill=0.5, parts=how)

    def law(table: Table, alike: Achieved | None = None) -> Achieved:
        table = replace(table, origin=Origin(part, "t", "t"))
        (work,) = works(table, peaks)
        moved_s = (work.memory_s + work.query_s) * uneven(work.call.head_rows, waves)
        return found(table, np.asarray(1e-5 + moved_s / 0.9), alike, peaks)

    apart = law(rows((1.0,), (1.0, 3.0, 5.0, 8.0), variant="mha"))
    assert apart.row_waves == waves
    shared = rows((2.0, 16.0))
    assert law(shared).row_waves is None
    assert law(shared, apart).row_waves == waves
