"""The winner is run with other seeds; where it does not stand, the search goes back."""

from planner.search import hunt, plan
from planner.search.fleet import Fleet
from planner.search.settle import Kept


def test_a_winner_that_does_not_stand_is_replaced_and_no_run_is_made_twice(problem, monkeypatch):
    scenario = problem(1, **{"space.pools": ["together"]})
    first = plan(scenario)
    fallen = (first.best.replica.pool, first.best.replicas)
    run, runs = Fleet._run, []

    def counted(self, counts, how, workload):
        runs.append((id(self.layout.main), counts, how.seed, workload.model_dump_json()))
        return run(self, counts, how, workload)

    def settle(fleet, counts):
        stands = (fleet.layout.main.replica.pool, counts[0]) != fallen
        return (Kept("tpot_p95_s", 1.0, 0.5 if stands else 1.5, 0.1, 2),)

    monkeypatch.setattr(Fleet, "_run", counted)
    monkeypatch.setattr(hunt, "settle", settle)
    found = plan(scenario)
    assert (found.best.replica.pool, found.best.replicas) != fallen
    assert found.best.costs[0].usd_per_hour >= first.best.costs[0].usd_per_hour
    assert all(kept.kept for kept in found.settled)
    assert len(runs) == len(set(runs))


def test_only_the_winner_is_settled(problem, monkeypatch):
    settled = []

    def settle(fleet, counts):
        settled.append(fleet.layout.label)
        return (Kept("tpot_p95_s", 1.0, 0.5, 0.1, 1),)

    monkeypatch.setattr(hunt, "settle", settle)
    found = plan(problem(1, **{"space.pools": ["together", "apart"]}))
    assert found.best is not None
    assert len(settled) == 1
