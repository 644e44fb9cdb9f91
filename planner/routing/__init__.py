"""Which experts tokens go to, where the experts are, and what that does to the slowest rank."""

from planner.routing.bounds import any_placement_bound, best_split, largest_rank_bound
from planner.routing.counts import Sampling, Steps, sample_counts
from planner.routing.gate import Gate
from planner.routing.hot_rank import HotRank, hot_rank, windows
from planner.routing.load import (
    GRID_TOKENS,
    Destinations,
    ExpertLoad,
    destinations,
    distinct,
    expert_load,
)
from planner.routing.placement import (
    Layout,
    Placement,
    balanced,
    check_slots,
    contiguous,
    hierarchical,
    place,
)
from planner.routing.popularity import drifting, inclusion, popularity
from planner.routing.rebalance import Rebalancing, aligned, moved_slots, rebalance

__all__ = [
    "GRID_TOKENS",
    "Destinations",
    "ExpertLoad",
    "Gate",
    "HotRank",
    "Layout",
    "Placement",
    "Rebalancing",
    "Sampling",
    "Steps",
    "aligned",
    "any_placement_bound",
    "balanced",
    "best_split",
    "check_slots",
    "contiguous",
    "destinations",
    "distinct",
    "drifting",
    "expert_load",
    "hierarchical",
    "hot_rank",
    "inclusion",
    "largest_rank_bound",
    "moved_slots",
    "place",
    "popularity",
    "rebalance",
    "sample_counts",
    "windows",
]
