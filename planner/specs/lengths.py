"""How long a prompt or an answer is."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from planner.specs.base import Count, Spec


class FixedLength(Spec):
    """Always the same length."""

    kind: Literal["fixed"] = "fixed"
    tokens: Count


class UniformLength(Spec):
    """Whole numbers between two bounds, both included."""

    kind: Literal["uniform"] = "uniform"
    low_tokens: Count
    high_tokens: Count

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.high_tokens < self.low_tokens:
            raise ValueError(f"high_tokens {self.high_tokens} is below low_tokens")
        return self


class LognormalLength(Spec):
    """Log-normal lengths given by their mean (not the median) and the sigma of the logarithm."""

    kind: Literal["lognormal"] = "lognormal"
    mean_tokens: Annotated[float, Field(ge=1)]
    sigma: Annotated[float, Field(ge=0)]
    max_tokens: Count
    """Longer draws are cut to this."""


class QuantileLength(Spec):
    """Equally likely bins, each with its mean length; a draw takes its bin's mean, rounded."""

    kind: Literal["quantiles"] = "quantiles"
    bin_means_tokens: tuple[Annotated[float, Field(gt=0)], ...] = Field(min_length=1)


Length = Annotated[
    FixedLength | UniformLength | LognormalLength | QuantileLength, Field(discriminator="kind")
]
