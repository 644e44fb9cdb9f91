"""The formula on bare parameters is the law's, of one vector or of one in each column."""

from collections.abc import Iterator

import numpy as np
import pytest

from planner import files
from planner.calibrate.calls import Work, stated_peaks
from planner.calibrate.features import works
from planner.calibrate.forms import ALSO, FORMS, Begin, Form, first_of
from planner.calibrate.laws import _shown, _tells
from planner.calibrate.published import published_tables
from planner.calibrate.rows import FloatArray
from planner.calibrate.shapes import Limits, Plain, Shape

PART = "h20"


def cases() -> Iterator[tuple[Form, list[Work]]]:
    """Every form of products and attention that H20's rows can be fitted with."""
    peaks = stated_peaks(files.load_accelerator(PART))
    for table in published_tables(PART):
        for work in works(table, peaks) if table.op in (*FORMS, "moe_layer") else ():
            for form in (FORMS.get(work.family, Form()), *ALSO.get(work.family, ())):
                if _tells(form, [work], work.units is not None):
                    yield _shown(form, [work], None), [work]


CASES = list(cases())


def test_all_families_are_among_the_cases() -> None:
    assert {own[0].family for _, own in CASES} >= set(FORMS)


def asked(form: Form, own: list[Work]) -> tuple[Shape, Begin, list[FloatArray]]:
    """Parameters of ``form`` around where its fit starts."""
    shape, begin = Shape(own[0].key, form, own), first_of(form)
    (low, high), rng = shape.bounds(Limits()), np.random.default_rng(5)
    start = shape.start(np.full(1, 1e-3), begin)
    found = [np.clip(start + rng.normal(0, 0.3, len(start)), low, high) for _ in range(3)]
    return shape, begin, found


@pytest.mark.parametrize(("form", "own"), CASES)
def test_columns_of_parameters_give_what_each_gives(form: Form, own: list[Work]) -> None:
    shape, begin, each = asked(form, own)
    plain, work = Plain(shape, begin.blend, begin.chain), own[0].shaped(begin.shaping)
    pulls = np.column_stack([shape.prior(x) for x in each])
    assert shape.prior(np.column_stack(each)) == pytest.approx(pulls, rel=1e-12)
    if not plain.alone:
        times = np.column_stack([plain.time_s(x, work) for x in each])
        assert plain.time_s(np.column_stack(each), work) == pytest.approx(times, rel=1e-12)


@pytest.mark.parametrize(("form", "own"), CASES)
def test_times_are_the_laws(form: Form, own: list[Work]) -> None:
    """To the four digits of its numbers, unless it is lifted where time would fall."""
    shape, begin, each = asked(form, own)
    plain, work = Plain(shape, begin.blend, begin.chain), own[0].shaped(begin.shaping)
    sound = [x for x in each if not np.any(shape.prior(x) > 1)]
    for x in sound:
        law = shape.law(x, begin, "t")
        assert plain.time_s(x, work) == pytest.approx(own[0].time_s(law), rel=2e-3)
