"""The router in front of one pool, and the link between two."""

from planner.serving.balance import Balancer, balancer
from planner.serving.cluster import Handover, PoolSetup


class Pool:
    """The router in front of one pool."""

    def __init__(self, setup: PoolSetup, first: int, seed: int) -> None:
        self.setup, self.first = setup, first
        self.balancer: Balancer = balancer(setup.router, setup.replicas, seed + first)
        self.outstanding = 0
        most = setup.max_outstanding
        self._most = None if most is None else most * setup.replicas

    def full(self) -> bool:
        """Whether arrivals are turned away."""
        return self._most is not None and self.outstanding >= self._most


class Link:
    """Busy times of each replica's sending and receiving side."""

    def __init__(self, law: Handover, replicas: int) -> None:
        self._law = law
        self._free_s = [0.0] * replicas

    def free(self, replica: int, now_s: float) -> None:
        """Give up what a replica was sending and receiving."""
        self._free_s[replica] = min(self._free_s[replica], now_s)

    def arrival_s(self, sender: int, receiver: int, tokens: int, now_s: float) -> float:
        """When a cache whose prompt is done now is at the receiver; takes both sides' time. [s]"""
        law, free_s = self._law, self._free_s
        taken_s = tokens * law.s_per_token
        begin_s = max(now_s - law.overlap_share * taken_s, free_s[sender], free_s[receiver])
        free_s[sender] = free_s[receiver] = end_s = begin_s + taken_s
        return max(now_s, end_s) + law.latency_s
