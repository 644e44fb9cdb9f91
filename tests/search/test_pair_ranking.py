"""Which pairs of pools come first: devices that are there already, and sides that are alike."""

from itertools import product

import numpy as np
import pytest

from planner.evaluation import need_workload
from planner.search.effort import Effort
from planner.search.hunt import Search
from planner.search.layout import Layout
from planner.search.pairs import distinct, pair_up


def screened(scenario):
    search = Search(scenario, need_workload(scenario), Effort())
    search.screen()
    return search


@pytest.mark.parametrize("systems", [["hgx-h100"], ["hgx-h100", "l40s-8gpu"]])
@pytest.mark.parametrize("owned", [{}, {"hgx-h100": 3}])
def test_the_first_pair_is_the_one_that_costs_least_beyond_what_is_owned(problem, systems, owned):
    wishes = {"space.owned": owned, "space.prefill_systems": "any", "systems": systems}
    search = screened(problem(2, **{"space.pools": ["apart"], **wishes}))
    every = [Layout(pair, len(systems) > 1) for pair in product(search.prefills, search.decodes)]
    costs = [search.cost(each, each.guesses) for each in every if each.prices is not None]
    costs = [cost for cost in costs if np.isfinite(cost)]
    first = search.pairs.layouts[0]
    assert search.cost(first, first.guesses) == pytest.approx(min(costs))


def test_decode_sides_that_differ_in_room_for_prompts_alone_are_one(problem):
    limits = [{"max_sequences": 32, "max_step_tokens": n} for n in (1024, 2048, 4096)]
    wishes = {"space.pools": ["apart"], "space.batch_limits": limits}
    search, one = screened(problem(2, **wishes)), screened(problem(2, **{"space.pools": ["apart"]}))
    assert len(distinct(search.decodes)) == len(one.decodes) < len(search.decodes)
    least = min(side.guess.devices for side in search.decodes)
    assert min(side.guess.devices for side in distinct(search.decodes)) == least


def test_decode_sides_with_other_numbers_of_sequences_stay_apart(problem):
    limits = [{"max_sequences": n, "max_step_tokens": 2048} for n in (16, 32)]
    search = screened(problem(2, **{"space.pools": ["apart"], "space.batch_limits": limits}))
    assert distinct(search.decodes) == search.decodes


def test_no_pair_is_counted_twice_for_a_step_that_decoding_never_fills(problem):
    limits = [{"max_sequences": 32, "max_step_tokens": n} for n in (1024, 2048)]
    search = screened(problem(2, **{"space.pools": ["apart"], "space.batch_limits": limits}))
    finite = [s for s in search.decodes if np.isfinite(s.guess.devices)]
    paired = pair_up(
        search.prefills, distinct(finite), any_system=False, priced=True, several=False
    )
    assert search.pairs.screened == paired.screened
    assert paired.screened == len(search.prefills) * len(finite) // 2
