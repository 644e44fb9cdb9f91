"""The schedulers of a replica's ranks: prompts mixed in or apart, with a prefix cache or not."""

from array import array
from collections.abc import MutableSequence

from planner.serving.caching import CachingScheduler, CachingSeparateScheduler
from planner.serving.clock import Ledger
from planner.serving.config import ReplicaConfig
from planner.serving.scheduler import Scheduler
from planner.serving.separate import SeparateScheduler


class _Ones(array):  # type: ignore[type-arg]
    """An answer of one token, whatever the request: what a prefill replica produces."""

    def __getitem__(self, index: object) -> int:  # type: ignore[override]
        return 1


_ONES: MutableSequence[int] = _Ones("q")


def ranks_of(config: ReplicaConfig, ledger: Ledger, number: int) -> list[Scheduler]:
    """Return a scheduler for every attention rank of a replica, by the replica's number."""
    answers = _ONES if config.role == "prefill" else ledger.answers
    if config.prefix_cache:
        assert ledger.prefixes is not None
        assert ledger.cached is not None
        cached, kept = ledger.cached, ledger.prefixes
        caching = CachingSeparateScheduler if config.separate else CachingScheduler
        ranks = [
            caching(config, ledger.prompts, answers, cached, ledger.priority, kept)
            for _ in range(config.ranks)
        ]
        for rank in ranks if kept.tiers else ():
            rank.store = kept.tiers[number]
        return [*ranks]
    kind = SeparateScheduler if config.separate else Scheduler
    # what the prefill pool's caches gave is not in a decode pool that computes a prompt again
    stated = ledger.cached if ledger.prefixes is None else None
    return [
        kind(config, ledger.prompts, answers, stated, ledger.priority) for _ in range(config.ranks)
    ]
