"""The one base class of everything read from a file, and kinds of numbers in it."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from planner.sourced import Sourced


class Spec(BaseModel):
    """Frozen and strict about names: a misspelt field is an error, not a default."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False
    )


Positive = Annotated[Sourced, Field(gt=0)]
"""A sourced fact above zero."""

Share = Annotated[Sourced, Field(gt=0, le=1)]
"""A sourced share of a peak, in (0, 1]."""

Count = Annotated[int, Field(ge=1)]
"""A choice or an architecture fact that counts something."""


def within(low: float, high: float, quantity: str, example: str) -> AfterValidator:
    """Refuse a number that no part has: nearly always a forgotten power of ten."""

    def check(value: Sourced) -> Sourced:
        if not low <= value <= high:
            raise ValueError(
                f"{float(value):g} is not {quantity} (expected {low:g} to {high:g}); {example}"
            )
        return value

    return AfterValidator(check)
