"""Choosing among equals: which replica, and which rank in it, takes the next request."""

from typing import Literal, Protocol, assert_never

RouterName = Literal["round_robin", "least_requests"]


class Balancer(Protocol):
    """Chooses a member for each request and hears when one is done."""

    def take(self) -> int:
        """Choose a member for a request and count it there."""
        ...

    def release(self, member: int) -> None:
        """Count one request less at a member."""
        ...


class RoundRobin:
    """Members in turn, whatever they have to do."""

    __slots__ = ("_members", "_next")

    def __init__(self, members: int) -> None:
        self._members, self._next = members, 0

    def take(self) -> int:
        """Choose the next member."""
        member = self._next
        self._next = (member + 1) % self._members
        return member

    def release(self, member: int) -> None:
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

    def take(self) -> int:
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

    def release(self, member: int) -> None:
        """Count one request less at a member."""
        levels, level = self._levels, self._outstanding[member]
        bit = 1 << member
        self._outstanding[member] = level - 1
        levels[level] ^= bit
        levels[level - 1] |= bit
        self._lowest = min(self._lowest, level - 1)


class OnlyOne:
    """The single member."""

    __slots__ = ()

    def take(self) -> int:
        """Choose it."""
        return 0

    def release(self, member: int) -> None:
        """Nothing is counted."""


def balancer(name: RouterName, members: int) -> Balancer:
    """Return the balancer of a name."""
    if members == 1:
        return OnlyOne()
    match name:
        case "round_robin":
            return RoundRobin(members)
        case "least_requests":
            return LeastRequests(members)
        case _:
            assert_never(name)
