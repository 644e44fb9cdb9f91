"""Routers that pass over members which are down: slower than those of a fleet that never changes.

While every member is up they choose as :mod:`planner.serving.balance` does, draw for draw.
"""

import random
from bisect import insort
from collections.abc import Sequence

from planner.serving.balance import BY_PREFIX, least_cost, longest_match
from planner.specs.deployment import RouterName


class Available:
    """Chooses among the members that are up.

    Parameters
    ----------
    members : in all; none of them is up yet.
    seed : of routers that draw.
    """

    def __init__(self, router: RouterName, members: int, seed: int) -> None:
        self.up: list[int] = []
        """Numbers of the members that may be chosen, rising."""
        self.by_prefix = router in BY_PREFIX
        """Whether members are chosen by what their caches hold."""
        self._router, self._members, self._next = router, members, 0
        self._requests, self._tokens = [0] * members, [0] * members
        self._random = random.Random(seed)

    def open(self, member: int) -> None:
        """Let a member be chosen."""
        if member not in self.up:
            insort(self.up, member)

    def close(self, member: int) -> None:
        """Let a member be chosen no more."""
        if member in self.up:
            self.up.remove(member)

    def outstanding(self, member: int) -> int:
        """Requests that a member has."""
        return self._requests[member]

    def choose(self, matches: Sequence[int], tokens: int) -> int:
        """Choose by what the members that are up hold, in their order, and count it there."""
        up = self.up
        if self._router == "prefix_cost":
            member = up[least_cost(matches, [self._tokens[one] for one in up])]
        else:
            member = up[longest_match(matches, [self._requests[one] for one in up], tokens)]
        self._requests[member] += 1
        self._tokens[member] += tokens
        return member

    def take(self, tokens: int) -> int:
        """Choose a member for a request with a prompt of ``tokens``, and count it there."""
        member = self._choose()
        self._requests[member] += 1
        self._tokens[member] += tokens
        return member

    def release(self, member: int, tokens: int) -> None:
        """Count one request less at a member."""
        self._requests[member] -= 1
        self._tokens[member] -= tokens

    def _choose(self) -> int:
        up = self.up
        if len(up) == 1:
            return up[0]
        match self._router:
            case "round_robin":
                member = next((one for one in up if one >= self._next), up[0])
                self._next = (member + 1) % self._members
                return member
            case "least_requests":
                return min(up, key=self._requests.__getitem__)
            case "least_kv":
                return min(up, key=self._tokens.__getitem__)
            case "random":
                return up[int(self._random.random() * len(up))]
            case _:
                return min(self._random.sample(up, 2), key=self._requests.__getitem__)
