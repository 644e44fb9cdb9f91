"""The published day: what comes out of its script is what the scenario says."""

import importlib.util
from pathlib import Path

import pytest

from planner import files

PATH = Path(__file__).parents[1] / "scripts" / "production_day.py"


def day():
    spec = importlib.util.spec_from_file_location("production_day", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_published_nodes_cost_what_was_published() -> None:
    script, scenario = day(), files.load_scenario("deepseek-production-day")
    assert script.usd_per_day(scenario, script.MEAN_NODES) == pytest.approx(87_072)
    assert sum(script.NODES) / 24 == pytest.approx(script.MEAN_NODES, rel=1e-3)


def test_both_kinds_of_node_take_in_the_whole_day() -> None:
    script, scenario = day(), files.load_scenario("deepseek-production-day")
    pools = script.pools(scenario)
    # 608 and 168 billion tokens; at the peak 29 units of 4 and 9 of 18 nodes
    assert [3600 * sum(p.loads) / 1e9 for p in pools] == pytest.approx([608, 168], rel=1e-2)
    assert [p.published_nodes[0] for p in pools] == pytest.approx([116, 162])
    for pool in pools:
        plan = pool.autoscaled(3600.0)
        # on average enough units for the day, with 10 % headroom, but fewer than the peak's
        needed = sum(pool.loads) / 24 / pool.tokens_per_s_per_node / pool.nodes_per_unit
        assert needed < plan.paid.mean() < max(plan.paid)
        assert all(0.4 < share < 1.3 for share in pool.busy)


def test_a_prefill_node_takes_more_the_more_is_cached() -> None:
    script, scenario = day(), files.load_scenario("deepseek-production-day")
    replica = script.build(
        scenario.model, scenario.hardware[0], scenario.deployment.prefill, scenario.routing
    )
    less, more = (script.prefill_tokens_per_s_per_node(replica, share) for share in (0.0, 0.5625))
    # 2.29 times as many prompts a step, over longer contexts
    assert 1.6 * less < more < 2.29 * less
