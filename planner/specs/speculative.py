"""Speculative decoding: how many tokens are drafted and how many survive verification."""

from itertools import pairwise
from math import prod
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from planner.specs.base import Spec
from planner.specs.model import WeightFormat

Method = Literal["mtp", "eagle"]
Probability = Annotated[float, Field(ge=0, le=1)]
Drafts = Annotated[int, Field(ge=1, le=16)]

MEASURED_TOKENS = 0.02
"""What a draft of a measured table may add beyond the one before it. [tokens a step]

Each number of drafts is a run of its own, and its mean is published to 0.01: three rounded means
move what one draft adds over the other by up to 4 x 0.005.  The tables that ship need none of it.
"""
ROUNDING_TOKENS = 1e-9
"""Rounding of sums, in every table. [tokens a step]"""


class Acceptance(Spec):
    """A published acceptance table: mean tokens a step for one draft, two drafts, and so on."""

    name: str
    method: Method
    models: tuple[str, ...]
    """Models it was measured on, by catalogue name."""
    tokens_per_step: Annotated[tuple[float, ...], Field(min_length=1)]
    """The first is for one draft token; without drafts a step yields one token."""
    source: str
    conditions: str = ""

    @model_validator(mode="after")
    def _possible(self) -> Self:
        possible(self.tokens_per_step, MEASURED_TOKENS)
        return self


class Speculative(Spec):
    """Draft ``draft_tokens`` tokens a step one after another, verify them all in one pass.

    Give acceptance in one of three ways: by position, as mean tokens a step, or as the name of a
    published table.
    """

    method: Method
    draft_tokens: Drafts
    acceptance: tuple[Probability, ...] = ()
    """Probability that draft ``i`` is accepted, given that all before it were."""
    tokens_per_step: tuple[float, ...] = ()
    """Mean tokens a step for 1, 2, ... draft tokens; one number: for ``draft_tokens``.

    No draft adds more than the one before it, but for 0.02 where a source or profile is named.
    """
    profile: str | None = None
    """Name of a published table (``hardware_profiles/speculation``)."""
    source: str = ""
    """Where acceptance is from; none: an assumption."""
    draft_weights: WeightFormat | None = None
    """Format the draft module is stored in; None: as the model's weights."""
    draft_layers: Annotated[int, Field(ge=1)] = 1
    """Layers of an EAGLE draft module (an MTP module has one)."""
    draft_intermediate_size: Annotated[int, Field(ge=1)] | None = None
    """MLP width of an EAGLE draft layer."""

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        given = [bool(self.acceptance), bool(self.tokens_per_step or self.profile)]
        if sum(given) != 1:
            raise ValueError(
                "give acceptance by position, or tokens_per_step, or the profile of a published "
                "table: exactly one"
            )
        if self.acceptance and len(self.acceptance) < self.draft_tokens:
            raise ValueError(
                f"acceptance has {len(self.acceptance)} positions for "
                f"draft_tokens {self.draft_tokens}"
            )
        table = self.tokens_per_step
        if len(table) == 1 and self.draft_tokens > 1 and self.profile is None:
            if not 1 <= table[0] <= self.draft_tokens + 1:
                raise ValueError(
                    f"tokens_per_step must be between 1 and {self.draft_tokens + 1} "
                    f"(draft_tokens + 1), got {table[0]:g}"
                )
        elif table:
            possible(table, MEASURED_TOKENS if self.source or self.profile else 0.0)
            if len(table) < self.draft_tokens:
                raise ValueError(
                    f"tokens_per_step is known up to {len(table)} draft tokens, "
                    f"draft_tokens is {self.draft_tokens}"
                )
        if self.method == "eagle" and self.draft_intermediate_size is None:
            raise ValueError("eagle needs draft_intermediate_size, the draft layer's MLP width")
        return self

    @property
    def expected_tokens(self) -> float:
        r"""Mean tokens a step yields: the verified token and the drafts accepted.

        .. math:: E = 1 + \sum_{i=1}^{d} \prod_{j \le i} a_j

        References
        ----------
        .. [1] Y. Leviathan et al., "Fast Inference from Transformers via Speculative Decoding",
           ICML 2023, section 3.
        """
        if self.acceptance:
            kept = (prod(self.acceptance[:i]) for i in range(1, self.draft_tokens + 1))
            return 1.0 + sum(kept)
        if not self.tokens_per_step:
            raise ValueError(f"profile {self.profile!r} was not resolved")
        table = self.tokens_per_step
        return table[0] if len(table) == 1 else table[self.draft_tokens - 1]

    @property
    def query_tokens(self) -> int:
        """Tokens of one sequence that a verification pass computes."""
        return self.draft_tokens + 1


def possible(tokens_per_step: tuple[float, ...], tolerance_tokens: float = 0.0) -> None:
    r"""Refuse mean tokens a step that no acceptance in [0, 1] gives.

    Draft ``d`` adds :math:`\prod_{j \le d} a_j` tokens, so none adds more than the one before it.

    Parameters
    ----------
    tolerance_tokens : what one may add beyond that. [tokens a step]
    """
    for drafts, tokens in enumerate(tokens_per_step, 1):
        if not 1.0 <= tokens <= drafts + 1:
            raise ValueError(
                f"tokens_per_step for {drafts} draft tokens must be between 1 and {drafts + 1}, "
                f"got {tokens:g} (acceptance would be outside [0, 1])"
            )
    for before, after in pairwise(tokens_per_step):
        if after < before:
            raise ValueError(
                f"tokens_per_step must not fall with more drafts, got {before:g} then {after:g}"
            )
    table = (1.0, *tokens_per_step)
    for drafts, (first, before, after) in enumerate(
        zip(table, table[1:], table[2:], strict=False), 2
    ):
        added = before - first
        most = before + added + tolerance_tokens
        if after > most + ROUNDING_TOKENS:
            raise ValueError(
                f"tokens_per_step for {drafts} draft tokens must be at most {most:g}, got "
                f"{after:g}: a draft counts only where all before it are accepted, and the one "
                f"before it adds {added:g}"
            )
