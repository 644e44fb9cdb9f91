"""Straight lines in the load of a rank, of which attention's times are made."""

from collections.abc import Sequence

Line = tuple[float, float, float]
"""Coefficients of a load: (sequences, context, capped context) in decode, (tokens, pairs, capped
pairs) in prefill."""


def dot(line: Line, load: tuple[float, float, float]) -> float:
    """Sum of coefficients times load."""
    return line[0] * load[0] + line[1] * load[1] + line[2] * load[2]


def plus(a: Line, b: Line) -> Line:
    """Sum of two lines."""
    return a[0] + b[0], a[1] + b[1], a[2] + b[2]


def scaled(line: Line, factor: float) -> Line:
    """A line times a number."""
    return line[0] * factor, line[1] * factor, line[2] * factor


UNITS: tuple[Line, Line, Line] = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))


def coefficients(calls: Sequence[object], field: str, scale: float) -> Line:
    """``scale`` times a field of the calls of the unit loads."""
    x, y, z = (float(getattr(call, field)) * scale for call in calls)
    return x, y, z
