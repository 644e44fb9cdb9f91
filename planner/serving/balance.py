"""Choosing among equals: which replica, and which rank in it, takes the next request."""

import random
from typing import Protocol, assert_never

from planner.specs.deployment import RouterName


class Balancer(Protocol):
    """Chooses a member for each request and hears when one is done."""

    def take(self, tokens: int) -> int:
        """Choose a member for a request with a prompt of ``tokens`` and count it there."""
        ...

    def release(self, member: int, tokens: int) -> None:
        """Count one request less at a member."""
        ...


class RoundRobin:
    """Members in turn, whatever they have to do."""

    __slots__ = ("_members", "_next")

    def __init__(self, members: int) -> None:
        self._members, self._next = members, 0

    def take(self, tokens: int) -> int:
        """Choose the next member."""
        member = self._next
        self._next = (member + 1) % self._members
        return member

    def release(self, member: int, tokens: int) -> None:
        """Nothing is counted."""


class LeastRequests:
    """The member with fewest outstanding requests; of equals the one with the lowest number.

    ``_levels[n]`` is the set of members with ``n`` outstanding requests, as bits of an integer.
    The lowest level in use moves by at most one a call, so the number of members hardly matters.
    """

    __slots__ = ("_levels", "_lowest", "_outstanding")

    def __init__(self, members: int) -> None:
        self._outstanding = [0] * members
        self._levels = [(1 << members) - 1, 0]
        self._lowest = 0

    def take(self, tokens: int) -> int:
        """Choose the least loaded member and count a request there."""
        levels, level = self._levels, self._lowest
        bit = levels[level] & -levels[level]
        member = bit.bit_length() - 1
        levels[level] ^= bit
        self._outstanding[member] = level + 1
        levels[level + 1] |= bit
        if not levels[level]:
            self._lowest = level + 1
            if level + 2 == len(levels):
                levels.append(0)
        return member

    def release(self, member: int, tokens: int) -> None:
        """Count one request less at a member."""
        levels, level = self._levels, self._outstanding[member]
        bit = 1 << member
        self._outstanding[member] = level - 1
        levels[level] ^= bit
        levels[level - 1] |= bit
        self._lowest = min(self._lowest, level - 1)


class LeastKv:
    """The member whose outstanding requests have the fewest prompt tokens; the lowest of equals.

    A router knows prompts, not how long answers will be.
    """

    __slots__ = ("_tokens",)

    def __init__(self, members: int) -> None:
        self._tokens = [0] * members

    def take(self, tokens: int) -> int:
        """Choose the member with the fewest tokens and count the prompt there."""
        member = self._tokens.index(min(self._tokens))
        self._tokens[member] += tokens
        return member

    def release(self, member: int, tokens: int) -> None:
        """Count a prompt less at a member."""
        self._tokens[member] -= tokens


class Random:
    """Any member, all alike; with ``choices`` 2, the less loaded of two (power of two).

    References
    ----------
    .. [1] M. Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing", IEEE TPDS
       12(10), 2001.
    """

    __slots__ = ("_choices", "_outstanding", "_random")

    def __init__(self, members: int, choices: int, seed: int) -> None:
        self._outstanding = [0] * members
        self._choices = choices
        self._random = random.Random(seed)

    def take(self, tokens: int) -> int:
        """Draw members and choose the one with fewest outstanding requests."""
        outstanding = self._outstanding
        if self._choices == 1:
            member = int(self._random.random() * len(outstanding))
        else:
            member = min(
                self._random.sample(range(len(outstanding)), self._choices),
                key=outstanding.__getitem__,
            )
        outstanding[member] += 1
        return member

    def release(self, member: int, tokens: int) -> None:
        """Count one request less at a member."""
        self._outstanding[member] -= 1


class OnlyOne:
    """The single member."""

    __slots__ = ()

    def take(self, tokens: int) -> int:
        """Choose it."""
        return 0

    def release(self, member: int, tokens: int) -> None:
        """Nothing is counted."""


def balancer(name: RouterName, members: int, seed: int = 0) -> Balancer:
    """Return the balancer of a name."""
    if members == 1:
        return OnlyOne()
    match name:
        case "round_robin":
            return RoundRobin(members)
        case "least_requests":
            return LeastRequests(members)
        case "least_kv":
            return LeastKv(members)
        case "random":
            return Random(members, 1, seed)
        case "power_of_two":
            return Random(members, 2, seed)
        case _:
            assert_never(name)
