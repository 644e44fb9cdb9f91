"""What replicas did over time: by hand, and adding up to what the fleet's history says."""

import numpy as np
import pytest

from planner import evaluation, files
from planner.serving import series
from planner.serving.fleet_log import FleetLog, State
from planner.serving.series import REPLICA_STATES


def test_spans_hold_overlaps_once_and_join_what_is_near():
    log = FleetLog(2)
    for change in (
        (0.0, 0, State.UP), (0.0, 1, State.UP), (2.0, 0, State.DOWN), (3.0, 1, State.DOWN),
        (4.0, 0, State.UP), (5.0, 1, State.UP), (7.0, 0, State.DOWN), (8.0, 0, State.UP),
    ):  # fmt: skip
        log.changes.append(change)
    fleet = log.history(10.0)
    assert fleet.spans(State.DOWN) == [(2.0, 5.0), (7.0, 8.0)]
    assert fleet.spans(State.DOWN, apart_s=2.0) == [(2.0, 8.0)]
    assert fleet.spans(State.MAINTENANCE) == []


@pytest.fixture(scope="module")
def scaled():
    return evaluation.evaluate(files.load_scenario("r1-chat-autoscale", {"run.requests": 3000}))


def test_replicas_by_state_add_up_to_what_is_paid(scaled):
    records, found = scaled.records, series(scaled.records, 40)
    (pool,) = found.pools
    assert set(pool.replicas) == set(REPLICA_STATES)
    width_s = np.diff(found.edges_s)
    paid_s = (sum(pool.replicas.values()) * width_s).sum()
    assert paid_s == pytest.approx(records.fleet.paid_s().sum(), rel=1e-9)
    up_s = (pool.replicas["serving"] * width_s).sum()
    assert up_s == pytest.approx(records.fleet.spent_s(State.UP).sum(), rel=1e-9)
    assert pool.replicas["starting"].max() > 0
    assert "replicas_serving" in found.columns()


def test_a_fleet_that_never_changes_has_no_column_of_replicas():
    scenario = files.load_scenario("chat-sessions", {"run.duration_s": 120, "run.warmup_s": 20})
    records = evaluation.evaluate(scenario).records
    found = series(records, 10)
    assert records.fleet is None
    assert found.pools[0].replicas == {}
    assert not [name for name in found.columns() if name.startswith("replicas_")]
    # shares of prompt tokens, weighted with what was admitted, are the run's
    asked = np.histogram(records.admitted_s, found.edges_s, weights=records.input_tokens)[0]
    total = np.nansum(found.found_share * asked)
    assert total == pytest.approx(records.prefix.found_tokens.sum(), rel=1e-9)
    assert found.loaded_share[np.isfinite(found.loaded_share)].max() == 0
