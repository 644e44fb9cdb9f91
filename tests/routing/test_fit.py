"""The fitted families against the published imbalance of DeepSeek-R1."""

from dataclasses import replace

import numpy as np
import pytest

from planner.files.histograms import load_routing_profile, routing_names
from planner.routing import Gate, Layout, Sampling, expert_load, inclusion, place, windows
from planner.routing.fit import Case, Target, fit, measure, predict, routing_of

PROFILE = "deepseek-r1-translation"
PLAIN = Case(32, 0, "contiguous", 4096)
EPLB = Case(32, 32, "global", 4096)
HEADLINE = [
    ("rank_imbalance", PLAIN, 1.564),
    ("rank_imbalance", EPLB, 0.109),
    ("slot_imbalance", PLAIN, 10.948),
    ("slot_imbalance", EPLB, 1.792),
]


def test_the_published_means_are_128_tokens_a_rank():
    """1,024 pairs a rank at top-8: 4,096 tokens over 32 ranks, 4,608 over 36."""
    assert PLAIN.tokens * 8 / 32 == 1024
    assert 36 * 128 * 8 / 36 == 1024
    assert PLAIN.tokens * 8 / 288 == pytest.approx(114, abs=0.5)


def test_the_four_published_figures_within_15_percent(r1):
    routing = load_routing_profile(PROFILE).routing
    tables = {case: measure(routing, r1, case, range(301, 309)) for case in (PLAIN, EPLB)}
    for statistic, case, value in HEADLINE:
        assert tables[case].of(statistic).mean() == pytest.approx(value, rel=0.15)


def test_the_one_draw_that_a_scenario_uses_is_within_20_percent(r1):
    """A profile's seed gives one popularity; its table must show the published figures too."""
    routing = load_routing_profile(PROFILE).routing
    past, served = windows(routing, r1)
    past = inclusion(past, 8) / 8
    for policy, redundant, rank, slot in (
        ("contiguous", 0, 1.564, 10.948),
        ("global", 32, 0.109, 1.792),
    ):
        placement = place(past, Layout(32, redundant, policy))
        load = expert_load(served, placement, np.array([4096.0]), Gate.of(r1), 1, Sampling())
        assert load.rank_ratio[0] - 1 == pytest.approx(rank, rel=0.2)
        assert load.slot_ratio[0] - 1 == pytest.approx(slot, rel=0.2)


def test_held_out_layers_within_25_percent_median():
    profile = load_routing_profile(PROFILE)
    held = [f for f in profile.figures if f.split == "held_out" and "rank_imbalance layer" in
            f.quantity]  # fmt: skip
    assert len(held) == 3 + 6
    assert np.median([abs(f.relative_error) for f in held]) < 0.25
    plain = [abs(f.relative_error) for f in held if "ep32" in f.quantity]
    assert len(plain) == 3
    assert np.median(plain) < 0.25
    assert profile.held_out_median_error_share < 0.25


@pytest.mark.parametrize("name", routing_names())
def test_a_profile_says_what_its_parameters_give(name, r1):
    """The stored predictions of all means over layers are those of the stored parameters."""
    profile = load_routing_profile(name)
    assert profile.name == name
    assert profile.assumptions
    words = ("rank_imbalance", "rank_spread", "slot_imbalance", "slot_spread")
    stored = {f.quantity: f for f in profile.figures}
    for case in (PLAIN, EPLB):
        table = measure(profile.routing, r1, case, range(201, 205))
        for word in words:
            figure = stored[f"{word} ep32 redundant {case.redundant}"]
            assert table.of(word).mean() == pytest.approx(figure.predicted, rel=0.2)
            assert figure.split == "fit"


def test_only_the_log_normal_meets_every_goal():
    """What the choice of the default family rests on."""
    worst = {}
    for name in routing_names():
        figures = load_routing_profile(name).figures
        four = [f for f in figures if f.quantity.endswith(("ep32 redundant 0", "ep32 redundant 32"))
                and "imbalance" in f.quantity and "layer" not in f.quantity]  # fmt: skip
        layers = [abs(f.relative_error) for f in figures if f.split == "held_out"
                  and "rank_imbalance layer" in f.quantity and "ep32" in f.quantity]  # fmt: skip
        assert len(four) == 4
        worst[name] = (max(abs(f.relative_error) for f in four), float(np.median(layers)))
    good = {name for name, (fit_error, held) in worst.items() if fit_error < 0.15 and held < 0.25}
    assert good == {PROFILE}, worst


def test_a_known_skew_is_recovered(r1):
    """Fit to figures that a log-normal of sigma 0.7 made: its mean over layers comes back."""
    small = r1.model_copy(update={"layers": 8})
    truth = routing_of("lognormal", np.log([0.7, 0.999, 10.0, 0.01, 0.1]))
    words = ("rank_imbalance", "rank_spread", "slot_spread")
    wanted = [Target(word, word, PLAIN, 0.0, False) for word in words]
    values = predict(truth, small, wanted, range(10))
    known = [replace(t, value=float(v)) for t, v in zip(wanted, values, strict=True)]
    found = fit("lognormal", small, known, evaluations=40)
    depth = found.layer_profile
    ramp = 1 - (1 - depth.first_share) * np.exp(-np.arange(8) / depth.ramp_layers)
    assert found.popularity.sigma * ramp.mean() == pytest.approx(0.7, rel=0.12)
