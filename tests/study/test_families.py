"""Fleets that differ in replicas alone: a few asked, the others told."""

from hypothesis import given
from hypothesis import strategies as st

from planner.study.families import REPLICAS, answers


def asked_of(needed, asked):
    """A world ``w`` needs ``needed[system][w]`` replicas; a replica costs 2 an hour."""

    def ask(cases):
        asked.extend(cases)
        return [row(needed, case.overrides) for case in cases]

    return ask


def row(needed, fleet):
    replicas = fleet[REPLICAS]
    kept = replicas >= needed[fleet["system"]][fleet["w"]]
    return {"slo_met": kept, "usd_per_hour": 2.0 * replicas, "error": None}


counts = st.lists(st.integers(1, 12), min_size=1, max_size=6, unique=True)
needs = st.lists(st.integers(1, 14), min_size=3, max_size=3)


@given(counts, needs, needs)
def test_what_is_not_asked_is_told_as_it_would_have_been(sizes, first, second):
    needed = {"a": first, "b": second}
    fleets = [{"system": s, REPLICAS: n} for n in sizes for s in needed]
    worlds = [{"w": w} for w in range(3)]
    asked = []
    found = answers(fleets, worlds, asked_of(needed, asked))
    assert found == [[row(needed, {**fleet, **world}) for world in worlds] for fleet in fleets]
    assert len(asked) <= 2 * 3 * (len(sizes)).bit_length()


def test_without_likeness_every_fleet_is_asked_in_every_world():
    needed, asked = {"a": [3, 5]}, []
    fleets = [{"system": "a", REPLICAS: n} for n in range(1, 8)]
    answers(fleets, [{"w": 0}, {"w": 1}], asked_of(needed, asked), alike=False)
    assert len(asked) == 14


def test_a_fleet_that_cannot_run_has_the_reason_of_the_size_that_was_asked():
    def ask(cases):
        return [{"slo_met": None, "usd_per_hour": None, "error": "no room"} for _ in cases]

    found = answers([{REPLICAS: n} for n in (1, 2, 3)], [{}], ask)
    assert [fleet[0]["error"] for fleet in found] == ["no room"] * 3
