"""Prefill and decode in pools of their own: prompts computed in one are handed to the other."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import simpy

from planner.serving.arrivals import Stream
from planner.serving.balance import balancer
from planner.serving.engine import ARRIVAL, Ledger, Replica, Site
from planner.serving.scheduler import ReplicaConfig
from planner.serving.simulation import Front
from planner.serving.timing import RankLoad, Segment, Timing

HANDED_OVER = 1 - 1e-9
"""Cached share of a prompt whose cache was sent: its last token stands for the first step."""


@dataclass(frozen=True, slots=True)
class DecodeOnly:
    """A timing for replicas that get computed prompts: a new sequence is one that decodes.

    The engines run a step with new sequences on its own, so its stretch is one step long.
    """

    inner: Timing

    def segment(self, ranks: list[RankLoad], epoch: int = 0) -> Segment:
        """Return the stretch that starts with these loads."""
        if not any(load.prefill_tokens for load in ranks):
            return self.inner.segment(ranks, epoch)
        return self.inner.segment([_joined(load) for load in ranks], epoch)


def _joined(load: RankLoad) -> RankLoad:
    if not load.prefill_tokens:
        return load
    new = load.prefill_tokens
    return RankLoad(
        load.sequences + new,
        load.context_tokens + int(load.prefill_pairs),
        load.capped_tokens + int(load.prefill_capped_pairs),
        load.growing + new,
    )


class _Announcing(list[float]):
    """A ledger's column that tells of every entry."""

    def __init__(self, tell: Callable[[int, float], None]) -> None:
        super().__init__()
        self._tell = tell

    def __setitem__(self, request: Any, now_s: Any) -> None:
        super().__setitem__(request, now_s)
        self._tell(request, now_s)


class TwoPools(Front):
    """A front whose requests pass through a prefill pool and then a decode pool."""

    def __init__(
        self,
        stream: Stream,
        configs: tuple[ReplicaConfig, ReplicaConfig],
        timings: tuple[Timing, Timing],
        counts: tuple[int, int],
        transfer_s_per_token: float,
    ) -> None:
        super().__init__(stream, configs[0], "least_requests")
        self.capacity_tokens = min(c.kv_capacity_tokens for c in configs)
        self._per_token_s = transfer_s_per_token
        inputs = self.ledger.input_tokens
        self.prefill = Ledger(input_tokens=inputs, first_token_s=_Announcing(self._hand_over))
        self.decode = Ledger(input_tokens=inputs)
        self.prefill_workers = [
            Replica(i, Site(self.clock, self.prefill, timings[0], configs[0], self._prefilled))
            for i in range(counts[0])
        ]
        self.decode_workers = [
            Replica(i, Site(self.clock, self.decode, timings[1], configs[1], self._decoded))
            for i in range(counts[1])
        ]
        self._decode_balancer = balancer("least_requests", counts[1])

    def run_both(self) -> None:
        """Serve until all is answered."""
        self._replicas = list(self.prefill_workers)
        self._balancer = balancer("least_requests", len(self._replicas))
        self._source.start()
        self.clock.run()

    def arrive(self, request: int, now_s: float) -> bool:
        """Take a request."""
        output = self.ledger.output_tokens[request]
        self.prefill.output_tokens.append(1)
        self.decode.output_tokens.append(max(1, output - 1))
        for ledger in (self.prefill, self.decode):
            for column in (ledger.admitted_s, ledger.first_token_s, ledger.finish_s):
                list.append(column, math.nan)
        self.decode.replica.append(-1)
        return super().arrive(request, now_s)

    def _prefilled(self, replica: int, now_s: float) -> None:
        self._balancer.release(replica)

    def _hand_over(self, request: int, now_s: float) -> None:
        sent_s = now_s + self._per_token_s * self.ledger.input_tokens[request]

        def received(event: simpy.Event) -> None:
            number = self._decode_balancer.take()
            self.decode.replica[request] = number
            self.decode_workers[number].submit(request, sent_s)

        self.clock.at(sent_s, ARRIVAL, received)

    def _decoded(self, replica: int, now_s: float) -> None:
        self._decode_balancer.release(replica)
        self._source.answered(now_s)


def columns(ledger: Ledger, *names: str) -> list[Any]:
    """Return columns of a ledger as arrays."""
    return [np.array(getattr(ledger, name), dtype=float) for name in names]
