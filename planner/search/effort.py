"""How much a search simulates."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Effort:
    """How many layouts are simulated, of one pool and of pools apart."""

    in_full: int = 4
    """Layouts whose smallest fleet is found: the cheapest by the closed form."""
    probed: int = 8
    """Layouts simulated beyond these, each once, at the most replicas that would still be cheaper
    than the best; one that keeps its promises there goes on to its own smallest fleet."""
    pairs: int = 8
    """Pairs of layouts whose smallest fleet is looked for, as far as it can be cheaper: after the
    first, most take one run."""
    last_resort: int = 24
    """Layouts of one pool probed beyond all these while no fleet keeps every promise."""
    alternatives: int = 3
    """Fleets that keep every promise, the best among them, after which only better ones are
    sized."""


SCREEN_ALONE = Effort(in_full=0, probed=0, pairs=0, last_resort=0)
"""Nothing is simulated: what the closed form says."""

SECOND = Effort(in_full=1, probed=3, pairs=1)
"""For the best answer that rests on measurements, where the best of all does not."""
