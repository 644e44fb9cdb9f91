"""Published figures beside what the models here predict."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from planner.errors import InputError, PlannerError
from planner.validation.claims import Claim, Figure, Published, Split, load_published
from planner.validation.predictors import predict_within

FAR = 1.6
"""Factor beyond which a prediction needs a stated reason."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """One published figure and its prediction."""

    claim: str
    quantity: str
    value: float
    predicted: float | None
    """None: nothing could be predicted; ``error`` says why."""
    relative_error: float | None
    """``predicted / value - 1``."""
    source: str
    conditions: str
    split: Split
    tags: tuple[str, ...] = ()
    assumed: tuple[str, ...] = ()
    reason: str = ""
    """Why the prediction is far off, where it is."""
    error: str = ""
    interval90: tuple[float, float] | None = None
    """Where a step or a run is predicted."""

    @classmethod
    def of(
        cls, claim: str, quantity: str, value: float, predicted: float, **more: Any
    ) -> "Verdict":
        """Compare one figure."""
        return cls(claim, quantity, value, predicted, predicted / value - 1, **more)

    @property
    def far(self) -> bool:
        """Whether it is off by more than a factor ``FAR``, either way, or not predicted."""
        if self.relative_error is None:
            return True
        ratio = 1 + self.relative_error
        return not 1 / FAR <= ratio <= FAR

    @property
    def inside(self) -> bool | None:
        """Whether the published value is in the interval."""
        if self.interval90 is None:
            return None
        return self.interval90[0] <= self.value <= self.interval90[1]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self) | {"inside": self.inside}


def tags(published: Published | None = None) -> list[str]:
    """Every tag of the published figures."""
    book = published or load_published()
    return sorted({tag for claim in book.claims for tag in claim.tags})


def check_published(only: Sequence[str] = ()) -> list[Verdict]:
    """Predict every published figure with one of the tags ``only`` (empty: all).

    A figure that cannot be predicted is listed with the reason; the others go on.
    """
    book = load_published()
    wanted = [c for c in book.claims if not only or set(only) & set(c.tags)]
    return [verdict_of(book, claim, figure) for claim in wanted for figure in claim.figures]


def verdict_of(book: Published, claim: Claim, figure: Figure) -> Verdict:
    """Predict one figure; where that cannot be done the verdict says why."""
    origin = book.sources[claim.source]
    common: dict[str, Any] = {
        "source": " ".join(filter(None, (origin.title, origin.url))),
        "conditions": figure.conditions,
        "split": figure.split or claim.split,
        "tags": claim.tags,
        "assumed": claim.assumed,
        "reason": figure.reason or claim.reason,
    }
    quantity = figure.quantity or claim.quantity
    try:
        predicted, within = predict_within(claim.predictor(figure))
    except PlannerError as error:
        return Verdict(claim.claim, quantity, figure.value, None, None, error=str(error), **common)
    return Verdict.of(claim.claim, quantity, figure.value, predicted, interval90=within, **common)


def chosen_tags(only: Iterable[str], known: Sequence[str]) -> tuple[str, ...]:
    """Tags asked for, checked; InputError names the known ones."""
    wanted = tuple(tag.strip() for each in only for tag in each.split(",") if tag.strip())
    for tag in wanted:
        if tag not in known:
            raise InputError("--only", "", f"{tag!r} is not a tag; known: {', '.join(known)}")
    return wanted


@dataclass(frozen=True, slots=True)
class Summary:
    """How far a group of predictions is off."""

    number: int
    predicted: int
    median_abs_error: float
    p90_abs_error: float
    bias: float
    """Median of the signed error."""
    far: int
    """Off by more than a factor 1.6, or not predicted."""
    unexplained: int
    """Of these, without a stated reason."""
    inside_share: float
    """Published values inside the 90 % interval, of those that have one."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def summary(verdicts: Sequence[Verdict]) -> Summary:
    """Median, 90th percentile and bias of the relative errors."""
    errors = np.array([v.relative_error for v in verdicts if v.relative_error is not None])
    far = [v for v in verdicts if v.far]
    nothing = float("nan")
    inside = [v.inside for v in verdicts if v.inside is not None]
    return Summary(
        number=len(verdicts),
        predicted=len(errors),
        median_abs_error=float(np.median(np.abs(errors))) if len(errors) else nothing,
        p90_abs_error=float(np.quantile(np.abs(errors), 0.9)) if len(errors) else nothing,
        bias=float(np.median(errors)) if len(errors) else nothing,
        far=len(far),
        unexplained=sum(not (v.reason or v.error) for v in far),
        inside_share=float(np.mean(inside)) if inside else nothing,
    )
