"""A layer cut into stages: what overlap policies move about."""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Literal, get_args

from planner.ops import Real

Stage = Literal[
    "attention_in",
    "attention_core",
    "attention_out",
    "dense",
    "router",
    "dispatch",
    "experts",
    "combine",
    "dispatch_sms",
    "combine_sms",
    "shared_up",
    "shared_down",
]
"""Stages of a layer, in the order of a plain step; ``dense`` or all after it.

``dispatch_sms`` and ``combine_sms``: the ends of a low-latency exchange that hold every
multiprocessor, so that no other work runs beside them.
"""

STAGES: tuple[Stage, ...] = get_args(Stage)

StageTimes = dict[Stage, Real]
"""Time of each stage, all layers together. [s]"""

EVERY_LAYER: frozenset[Stage] = frozenset({"attention_in", "attention_core", "attention_out"})
"""Stages that dense layers have as well as expert layers."""

_BY_NAME: Mapping[str, Stage] = {
    "attention/o": "attention_out",
    "attention/all_reduce": "attention_out",
    "attention/cp_reduce": "attention_out",
    "shared_experts/shared_down": "shared_down",
    "expert_network/dispatch": "dispatch",
    "expert_network/combine": "combine",
}
_BY_COMPONENT: Mapping[str, Stage] = {
    "attention": "attention_in",
    "norms": "attention_in",
    "norms_other": "attention_in",
    "pipeline": "attention_in",
    "dense_mlp": "dense",
    "router": "router",
    "latent": "router",
    "shared_experts": "shared_up",
    "routed_experts": "experts",
    "expert_network": "experts",
}


@lru_cache(maxsize=256)
def stage_of(name: str) -> Stage:
    """The stage an op or a collective belongs to, by its name."""
    if name.endswith(("_core", "_prefill")):
        return "attention_core"
    known = _BY_NAME.get(name)
    return known or _BY_COMPONENT[name.split("/", maxsplit=1)[0]]


def by_stage(timed: Iterable[tuple[str, Real]]) -> StageTimes:
    """Add up times of named work by stage; a stage without work takes no time."""
    totals: StageTimes = dict.fromkeys(STAGES, 0.0)
    for name, time_s in timed:
        stage = stage_of(name)
        totals[stage] = totals[stage] + time_s
    return totals
