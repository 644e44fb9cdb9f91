"""How tokens choose experts, and how experts are laid out over devices: what a scenario may say.

Three things make one expert rank hotter than another: some experts are more popular
(``popularity``), popularity moves after the experts were laid out (``drift``), and tokens of one
prompt choose alike (``prompt_correlation``).  ``placement`` is what is done about it.
"""

from math import isfinite
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from planner.specs.base import Count, Spec

PlacementPolicy = Literal["contiguous", "global", "hierarchical"]
"""``contiguous``: slots in the order of the experts, redundant slots repeat the first experts;
``global``: copies and ranks chosen from past load; ``hierarchical``: the same, but an expert
group stays on one node."""


class Balanced(Spec):
    """Every rank gets exactly the mean, as in runs with simulated perfect balance."""

    kind: Literal["balanced"] = "balanced"


class UniformPopularity(Spec):
    """Equally popular experts; ranks differ by chance alone."""

    kind: Literal["uniform"] = "uniform"


class ZipfPopularity(Spec):
    """The r-th most popular expert of a layer gets a share proportional to r^-exponent."""

    kind: Literal["zipf"] = "zipf"
    exponent: Annotated[float, Field(ge=0, le=4)]


class LognormalPopularity(Spec):
    """The logarithm of an expert's share is normal with standard deviation ``sigma``."""

    kind: Literal["lognormal"] = "lognormal"
    sigma: Annotated[float, Field(ge=0, le=4)]


class DirichletPopularity(Spec):
    """Shares of a layer are one draw of a symmetric Dirichlet; small ``alpha`` is skewed."""

    kind: Literal["dirichlet"] = "dirichlet"
    alpha: Annotated[float, Field(ge=1e-3, le=1e6)]


class HistogramPopularity(Spec):
    """Recorded tokens per expert, by window, layer and expert.

    Give ``path`` (CSV, JSON or NPZ) in a file, or the counts themselves in ``windows``.
    """

    kind: Literal["histogram"] = "histogram"
    path: str = ""
    windows: tuple[tuple[tuple[float, ...], ...], ...] = ()
    """[window][layer][expert] tokens; the last window is the one served, those before it are the
    past that a placement is made from."""

    @model_validator(mode="after")
    def _sound(self) -> Self:
        if not self.path and not self.windows:
            raise ValueError("a histogram needs a path or windows")
        shapes = {(len(window), *map(len, window)) for window in self.windows}
        if len(shapes) > 1 or any(len(set(shape[1:])) > 1 for shape in shapes):
            raise ValueError("windows must all be layers x experts of one size")
        for layer, counts in ((i, row) for window in self.windows for i, row in enumerate(window)):
            worst = next((c for c in counts if not isfinite(c) or c < 0), None)
            if worst is not None:
                raise ValueError(f"layer {layer} has a count of {worst:g}; counts are 0 or more")
            if not any(counts):
                raise ValueError(f"layer {layer} has no tokens at all; every count is 0")
        return self


Popularity = Annotated[
    Balanced
    | UniformPopularity
    | ZipfPopularity
    | LognormalPopularity
    | DirichletPopularity
    | HistogramPopularity,
    Field(discriminator="kind"),
]


class LayerProfile(Spec):
    """How the skew of a family differs from layer to layer.

    The family's parameter is multiplied, in MoE layer i from 0, by
    ``(1 - (1 - first_share) exp(-i / ramp_layers)) * exp(spread z_i)`` with z_i standard normal
    (a Dirichlet's ``alpha`` is divided by its square, which does the same to the spread of loads).
    """

    first_share: Annotated[float, Field(gt=0, le=4)] = 1.0
    """Skew of the first MoE layer over that of deep ones."""
    ramp_layers: Annotated[float, Field(gt=0)] = 10.0
    """Layers after which a factor e of the difference is gone."""
    spread: Annotated[float, Field(ge=0, le=2)] = 0.0
    """Standard deviation of the logarithm of the skew between layers."""


class Drift(Spec):
    """Change of popularity between the window a placement is made from and those it serves.

    ``log share = log base share + sigma z_w`` per expert, renormalised;
    ``z_w = memory z_(w-1) + sqrt(1 - memory^2) noise``.
    """

    sigma: Annotated[float, Field(ge=0, le=4)] = 0.0
    """Standard deviation of the logarithm of an expert's share within a layer."""
    memory: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Correlation of the deviation in one window with that in the next."""


class Routing(Spec):
    """Expert load of a scenario."""

    popularity: Popularity = Balanced()
    layer_profile: LayerProfile = LayerProfile()
    drift: Drift = Drift()
    prompt_correlation: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Correlation of choosing an expert between two tokens of one prompt in the same step."""
    placement: PlacementPolicy = "global"
    seed: Annotated[int, Field(ge=0)] = 1


class RoutingFigure(Spec):
    """One published figure beside what the fitted routing gives."""

    quantity: str
    value: float
    predicted: float
    split: Literal["fit", "held_out", "reported"]
    """``reported``: neither fitted nor blind, see ``conditions``."""
    conditions: str = ""
    source: str
    """Key into the references."""

    @property
    def relative_error(self) -> float:
        """``predicted / value - 1``."""
        return self.predicted / self.value - 1.0


class RoutingProfile(Spec):
    """A family fitted to published imbalance figures: made by ``scripts/fit_routing.py``."""

    name: str
    title: str
    model: str
    """Model the figures were measured on, a catalogue name."""
    moe_layers: Count
    routing: Routing
    assumptions: tuple[str, ...] = ()
    figures: tuple[RoutingFigure, ...]
    median_error_share: Annotated[float, Field(ge=0)]
    """Median of |relative error| over the fitted figures."""
    held_out_median_error_share: Annotated[float, Field(ge=0)]
    """The same over the figures held out."""
    notes: str = ""
