"""Which laws of the links an answer rests on, and which of them were measured elsewhere."""

from collections.abc import Iterator

from planner.evaluation.replica import Replica
from planner.sourced import Sourced
from planner.specs.base import Spec

MEASURED = ("rings", "direct", "exchanges")
"""Parts of ``links`` that are many numbers of one law: reported law by law."""


def doubtful_laws(replica: Replica) -> Iterator[tuple[str, str, str]]:
    """Name, source and note of each law in use of which some number is doubtful."""
    links, shard = replica.hardware.calibration.links, replica.shard
    used: dict[str, Spec | None] = {}
    if shard.attention_tp > 1 or (shard.devices > 1 and shard.attention_dp == 1):
        used["rings.all_reduce"] = links.rings.get("all_reduce")
        used["direct"] = links.direct
        used["rings.all_gather"] = links.rings.get("all_gather")
    if shard.uses_all_to_all:
        for name in dict.fromkeys((links.low_latency, links.normal)):
            used[f"exchanges.{name}"] = links.exchanges.get(name)
    for name, law in used.items():
        doubts = list(_doubts(law)) if law else []
        if doubts:
            fields = ", ".join(dict.fromkeys(field for field, _ in doubts))
            first = doubts[0][1]
            yield f"calibration.links.{name}", first.source, f"{first.note}: {fields}"


def unused_shares(replica: Replica) -> set[str]:
    """Hand-read shares that a measured law replaces."""
    links = replica.hardware.calibration.links
    unused: set[str] = set()
    if links.low_latency and links.normal:
        unused |= {"all_to_all_scale_up_share", "all_to_all_floor_s"}
        laws = (links.exchanges[links.low_latency], links.exchanges[links.normal])
        if all(phase.scale_out_share for law in laws for phase in (law.dispatch, law.combine)):
            unused.add("all_to_all_scale_out_share")
    if {"all_reduce", "all_gather", "reduce_scatter"} <= links.rings.keys():
        unused.add("collective_floor_s")
    return unused


def _doubts(law: Spec) -> Iterator[tuple[str, Sourced]]:
    for field in type(law).model_fields:
        value = getattr(law, field)
        if isinstance(value, Sourced) and value.doubtful and (value or field == "floor_s"):
            yield field, value
        elif isinstance(value, Spec):
            yield from _doubts(value)
