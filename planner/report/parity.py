"""Parity plots as small SVG files: predicted over measured, both in logarithms."""

import math
from collections.abc import Sequence

from planner.report.bars import OKABE_ITO
from planner.report.runs_report import NAMES
from planner.specs.runs import Run
from planner.validation.family import family_of
from planner.validation.predict import Prediction
from planner.validation.summary import truth

SIZE = 420
COLOURS = ("blue", "orange", "green", "purple")
EDGE = 46
"""Left and below, for the numbers. [px]"""
FEW_DECADES = 2.5
"""Up to which 1, 2 and 5 of each decade have room; beyond, 1 and 3."""


def parity_svg(name: str, runs: Sequence[Run], predictions: Sequence[Prediction]) -> str:
    """Draw one quantity of all runs; colours are engines, lines are exact and a factor two."""
    made = {each.id: each.predicted for each in predictions}
    points = []
    for run in runs:
        value, predicted = truth(run).get(name), made.get(run.id)
        if value and predicted:
            points.append((family_of(run), value, predicted[name]))
    low = min(min(x, y) for _, x, y in points)
    high = max(max(x, y) for _, x, y in points)
    scale = _Scale(math.log10(low), math.log10(high))
    families = sorted({family for family, _, _ in points})
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {SIZE} {SIZE}" width="{SIZE}" '
        f'role="img" aria-label="predicted over measured {NAMES[name]}" '
        'font-family="system-ui,sans-serif" font-size="11">',
        f'<rect width="{SIZE}" height="{SIZE}" fill="#fff"/>',
        *(_line(scale, factor, colour) for factor, colour in
          ((1.0, "#444"), (2.0, "#bbb"), (0.5, "#bbb"))),
        *_ticks(scale, low, high),
    ]  # fmt: skip
    for number, family in enumerate(families):
        colour = OKABE_ITO[COLOURS[number % len(COLOURS)]]
        dots = "".join(
            f'<circle cx="{scale.x(x):.0f}" cy="{scale.y(y):.0f}" r="2.2"/>'
            for of, x, y in points
            if of == family
        )
        parts.append(f'<g fill="{colour}" fill-opacity="0.6">{dots}</g>')
        parts.append(
            f'<text x="{EDGE + 12}" y="{18 + 15 * number}" fill="{colour}">{family}</text>'
        )
    parts.append(f'<text x="{SIZE / 2:.0f}" y="{SIZE - 6}" text-anchor="middle">'
                 f"measured {NAMES[name]} [s]</text>")  # fmt: skip
    parts.append(f'<text transform="translate(12 {SIZE / 2:.0f}) rotate(-90)" '
                 f'text-anchor="middle">predicted {NAMES[name]} [s]</text></svg>')  # fmt: skip
    return "\n".join(parts) + "\n"


class _Scale:
    def __init__(self, low: float, high: float) -> None:
        self.low, self.span = low - 0.05, high - low + 0.1

    def x(self, value: float) -> float:
        share = (math.log10(value) - self.low) / self.span
        return EDGE + share * (SIZE - EDGE - 8)

    def y(self, value: float) -> float:
        return SIZE - self.x(value)

    @property
    def ends(self) -> tuple[float, float]:
        return 10.0**self.low, 10.0 ** (self.low + self.span)


def _line(scale: _Scale, factor: float, colour: str) -> str:
    low, high = scale.ends
    a, b = (low, high / factor) if factor > 1 else (low / factor, high)
    return (
        f'<path d="M{scale.x(a):.0f} {scale.y(a * factor):.0f}L{scale.x(b):.0f} '
        f'{scale.y(b * factor):.0f}" stroke="{colour}"/>'
    )


def _ticks(scale: _Scale, low: float, high: float) -> list[str]:
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    marks = (1, 3) if math.log10(high / low) > FEW_DECADES else (1, 2, 5)
    values = [x for e in decades for m in marks if low <= (x := m * 10.0**e) <= high]
    found = []
    for value in values:
        x, y = scale.x(value), scale.y(value)
        found.append(
            f'<text x="{x:.0f}" y="{SIZE - 24}" text-anchor="middle">{value:g}</text>'
            f'<text x="{EDGE - 4}" y="{y + 4:.0f}" text-anchor="end">{value:g}</text>'
        )
    return found
