"""Choosing among equals: which replica, and which rank in it, takes the next request."""

import random
from collections.abc import Callable, Sequence
from typing import Protocol

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


BY_PREFIX = ("prefix_aware", "prefix_cost")
"""Routers that ask what caches hold."""

MATCH_SHARE, MOST_APART, MOST_RATIO = 0.3, 64, 1.5
"""Shortest match worth following, as a share of the prompt; requests between the fullest and the
emptiest member above which load decides; how many times as many the fullest must have, too."""


def longest_match(matches: Sequence[int], load: Sequence[int], tokens: int) -> int:
    """Place of the member with the longest match, or of the least loaded [1]_.

    Load decides where no match is long and where load is uneven.  Of equals the one with fewest
    requests, then the first.

    Parameters
    ----------
    matches, load : prompt tokens that each member holds, and requests it has.
    tokens : the prompt.

    References
    ----------
    .. [1] SGLang model gateway (sglang_router), policy ``cache_aware``: ``cache_threshold`` 0.3,
       ``balance_abs_threshold`` 64, ``balance_rel_threshold`` 1.5.
    """
    least, most, best = min(load), max(load), max(matches)
    uneven = most - least > MOST_APART and most > MOST_RATIO * least
    if uneven or best < MATCH_SHARE * tokens:
        return load.index(least)
    return min(
        (own, place)
        for place, (match, own) in enumerate(zip(matches, load, strict=True))
        if match == best
    )[1]


def least_cost(matches: Sequence[int], held: Sequence[int]) -> int:
    """Place of the member where tokens to compute and tokens held are fewest; the first of equals.

    Dynamo's rule at temperature 0 and weight 1 [1]_: blocks of the prompt that are not cached
    there, and blocks of what it runs; in tokens here, and answers left out.

    Parameters
    ----------
    matches, held : prompt tokens that each member holds of this request, and of those it has.

    References
    ----------
    .. [1] NVIDIA Dynamo documentation, Router Design: cost = overlap weight x prefill blocks +
       decode blocks.
    """
    return min(range(len(held)), key=lambda one: held[one] - matches[one])


class PrefixAware:
    """The member with the longest match, see :func:`longest_match`.

    Routers of SGLang keep a tree of what they sent where; here they know what is cached, as those
    do that listen to the engines' cache events.
    """

    __slots__ = ("outstanding",)

    def __init__(self, members: int) -> None:
        self.outstanding = [0] * members
        """Requests each member has."""

    def choose(self, matches: Sequence[int], tokens: int) -> int:
        """Choose a member for a prompt of ``tokens`` and count it there."""
        member = longest_match(matches, self.outstanding, tokens)
        self.outstanding[member] += 1
        return member

    def take(self, tokens: int) -> int:
        """Choose without knowing any cache: the least loaded."""
        return self.choose([0] * len(self.outstanding), max(1, tokens))

    def release(self, member: int, tokens: int) -> None:
        """Count one request less at a member."""
        self.outstanding[member] -= 1


class PrefixCost:
    """The member where tokens to compute and tokens held are fewest, see :func:`least_cost`."""

    __slots__ = ("_tokens",)

    def __init__(self, members: int) -> None:
        self._tokens = [0] * members

    def choose(self, matches: Sequence[int], tokens: int) -> int:
        """Choose a member for a prompt of ``tokens`` and count it there."""
        member = least_cost(matches, self._tokens)
        self._tokens[member] += tokens
        return member

    def take(self, tokens: int) -> int:
        """Choose without knowing any cache."""
        return self.choose([0] * len(self._tokens), tokens)

    def release(self, member: int, tokens: int) -> None:
        """Count a prompt less at a member."""
        self._tokens[member] -= tokens


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
    if name in ("random", "power_of_two"):
        return Random(members, 1 if name == "random" else 2, seed)
    return _DETERMINATE[name](members)


_DETERMINATE: dict[str, Callable[[int], Balancer]] = {
    "round_robin": RoundRobin,
    "least_requests": LeastRequests,
    "least_kv": LeastKv,
    "prefix_aware": PrefixAware,
    "prefix_cost": PrefixCost,
}
