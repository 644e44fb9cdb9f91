"""What a published figure is, how it is predicted, and the file of them."""

from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from planner import files
from planner.routing.fit import Statistic
from planner.specs.base import Count, Spec
from planner.specs.routing import PlacementPolicy

Split = Literal["fitted", "held_out", "unfitted"]
"""``fitted``: something was fitted to this figure; ``held_out``: to others of its kind, not to
it; ``unfitted``: to nothing of its kind."""


class DecodeStep(Spec):
    """One steady decode step of a scenario (its ``steady`` part)."""

    kind: Literal["decode"]
    scenario: str
    set: dict[str, Any] = Field(default_factory=dict)
    """Overrides by dotted path, as ``--set`` takes them."""
    of: Literal[
        "step_s", "tokens_per_s_per_node", "tokens_per_s_per_device", "tokens_per_s_per_user"
    ]


class PrefillStep(Spec):
    """One full prefill step of a scenario's deployment."""

    kind: Literal["prefill"]
    scenario: str
    set: dict[str, Any] = Field(default_factory=dict)
    tokens_per_device: Count
    prompt_tokens: Count
    of: Literal["step_s", "tokens_per_s_per_node", "tokens_per_s_per_device"]


class Serving(Spec):
    """A scenario simulated request by request."""

    kind: Literal["serving"]
    scenario: str
    set: dict[str, Any] = Field(default_factory=dict)
    of: Literal[
        "output_tokens_per_s", "output_tokens_per_s_per_device", "input_tokens_per_s_per_device",
        "total_tokens_per_s", "tpot_mean_s", "ttft_mean_s",
    ]  # fmt: skip


class Imbalance(Spec):
    """A statistic of expert load under a fitted routing profile."""

    kind: Literal["imbalance"]
    profile: str
    statistic: Statistic
    ep: Count
    redundant: Annotated[int, Field(ge=0)] = 0
    placement: PlacementPolicy
    tokens: Count
    """Tokens of all ranks in a step. [tokens]"""
    layer: int | None = None
    """MoE layer from 0; None: mean over layers."""


class NetworkBound(Spec):
    """Time per token if nothing but the all-to-all of its experts took time."""

    kind: Literal["network_bound"]
    hidden: Count
    tokens: Count
    """Tokens of one device in a micro-batch. [tokens]"""
    experts: Count
    """Experts a token is sent to, the shared one included."""
    dispatch_bytes: Annotated[float, Field(gt=0)]
    """Bytes an element on the way to the experts."""
    combine_bytes: Annotated[float, Field(gt=0)]
    layers: Count
    micro_batches: Count
    bytes_per_s: Annotated[float, Field(gt=0)]


class Ratio(Spec):
    """One prediction over another."""

    kind: Literal["ratio"]
    of: "Predictor"
    over: "Predictor"


Predictor = Annotated[
    DecodeStep | PrefillStep | Serving | Imbalance | NetworkBound | Ratio,
    Field(discriminator="kind"),
]


class Figure(Spec):
    """One published number."""

    value: Annotated[float, Field(gt=0)]
    conditions: str
    quantity: str = ""
    """Where it differs from the claim's."""
    split: Split | None = None
    change: dict[str, Any] = Field(default_factory=dict)
    """Dotted path into the claim's ``predict`` -> value."""
    reason: str = ""
    """Why the prediction is far off, where it is."""


class Claim(Spec):
    """Published numbers of one source that are predicted in one way."""

    claim: str
    source: str
    """Key into ``sources``."""
    tags: tuple[str, ...]
    quantity: str
    """What is compared; its end names the unit."""
    split: Split
    assumed: tuple[str, ...] = ()
    """What the source does not say and the prediction takes for granted."""
    predict: dict[str, Any]
    """A :data:`Predictor`, before each figure's ``change``."""
    reason: str = ""
    figures: tuple[Figure, ...] = Field(min_length=1)

    def predictor(self, figure: Figure) -> Predictor:
        """How ``figure`` is predicted."""
        data = _copied(self.predict)
        for path, value in figure.change.items():
            here = data
            *above, last = path.split("/")
            for step in above:
                here = here.setdefault(step, {})
            here[last] = value
        return _Wrapped.model_validate({"predictor": data}).predictor

    @model_validator(mode="after")
    def _predictable(self) -> Self:
        for figure in self.figures:
            self.predictor(figure)
        return self


class _Wrapped(Spec):
    predictor: Predictor


class Source(Spec):
    """Where a figure was published."""

    title: str
    url: str = ""
    published: str = ""


class Published(Spec):
    """The whole file."""

    sources: dict[str, Source]
    claims: tuple[Claim, ...]

    @model_validator(mode="after")
    def _sourced(self) -> Self:
        for claim in self.claims:
            if claim.source not in self.sources:
                raise ValueError(f"claim {claim.claim!r} names an unknown source {claim.source!r}")
        return self


def _copied(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copied(inner) for key, inner in value.items()}
    return value


@lru_cache(maxsize=1)
def load_published() -> Published:
    """Every published figure that travels with the package.

    Raises
    ------
    InputError
        With line, field and value.
    """
    return files.load_spec(Path(__file__).with_name("published.yaml"), Published)
