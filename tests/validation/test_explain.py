"""An explanation adds up, and says what moves a prediction most."""

import json
import math

import pytest
from click.testing import CliRunner

from planner.cli import main
from planner.evaluation.fitted import PARAMETERS, theta_of
from planner.files.overheads import load_overheads
from planner.report.parity import parity_svg
from planner.validation.engine_model import labels_of
from planner.validation.explain import Side, explain, lines, one_of, worst, worst_of_all
from planner.validation.look import look
from planner.validation.predict import predict_runs
from planner.validation.shipped import shipped_runs

SMALL = [r for r in shipped_runs() if r.workload.concurrency <= 8][:6]


@pytest.fixture(scope="module")
def predictions():
    return predict_runs(SMALL, load_overheads(), 1)


@pytest.fixture(scope="module")
def found(predictions):
    return explain(SMALL[0], predictions[0], load_overheads())


def test_parts_add_up_to_the_prediction(found, predictions):
    for side, parts in zip(
        found.sides, (predictions[0].tpot_parts_s, predictions[0].ttft_parts_s), strict=True
    ):
        assert sum(share for _, share in side.parts) == pytest.approx(1.0)
        assert sum(parts.values()) == pytest.approx(side.predicted_s, rel=0.02)


def test_the_first_parameter_moves_a_simulation_as_it_says(found):
    side, run = found.sides[0], SMALL[0]
    name, slope = side.moves[0]
    theta = theta_of(load_overheads(), labels_of(run))
    before = look(run, theta).means_s[0]
    theta[PARAMETERS.index(name)] *= 1.1
    assert look(run, theta).means_s[0] / before - 1 == pytest.approx(0.1 * slope, rel=0.15)


def test_a_single_client_never_waits_longer(found):
    assert found.alone_ttft_s <= found.sides[1].predicted_s * 1.001


def test_the_factor_that_would_explain_an_error_by_hand():
    side = Side("mean_tpot_s", 1.0, 1.1, None, (), (("moe", 0.5),))
    assert side.factor_needed == pytest.approx(1.21)
    assert side.relative_error == pytest.approx(1 / 1.1 - 1)
    far = Side("mean_tpot_s", 1.0, 3.0, None, (), (("moe", 0.1),))
    assert far.factor_needed is None


def test_sentences_name_measured_predicted_and_what_moves_it(found):
    text = "\n".join(lines(found))
    for words in ("TPOT predicted", "measured", "It goes to: ", "What moves it most"):
        assert words in text
    json.dumps(found.to_dict())


def test_the_worst_are_furthest_off_either_way(predictions):
    rows = worst(SMALL, predictions, "mean_tpot_s", 3)
    off = [abs(math.log(p.predicted["mean_tpot_s"] / r.measured.mean_tpot_s)) for r, p in rows]
    assert off == sorted(off, reverse=True)
    both = worst_of_all(SMALL, predictions, 6)
    assert len({run.id for run, _ in both}) == len(both) == 6


def test_part_of_an_id_is_enough_where_it_names_one_run():
    last = SMALL[0].id.split("/")[1]
    assert one_of(SMALL, last) == SMALL[0]
    assert one_of(SMALL, "inferencex") is None


def test_the_command_explains_and_refuses_an_unknown_run():
    said = CliRunner().invoke(main, ["validate", "--measured", "--explain", SMALL[0].id])
    assert said.exit_code == 0
    assert "What moves it most" in said.output
    unknown = CliRunner().invoke(main, ["validate", "--measured", "--explain", "nobody"])
    assert unknown.exit_code == 2
    assert "is the id of no one run" in unknown.output


def test_a_parity_plot_has_a_point_for_every_run(predictions):
    drawn = parity_svg("mean_tpot_s", SMALL, predictions)
    assert drawn.count("<circle") == len(SMALL)
    assert drawn.startswith("<svg")
