"""Speculative decoding of a measured run, with what it does not say taken from public figures.

References
----------
.. [1] NVIDIA, srt-slurm, github.com/NVIDIA/srt-slurm, recipes/*.yaml: SGLang verifies 2 drafts
   (``speculative-num-steps: 2``), TensorRT-LLM 3 at low concurrency (``*_mtp3``).
"""

from typing import NamedTuple

from planner.files.profiles import names_in, profile_root
from planner.files.speculation import load_acceptance
from planner.specs.model import ModelSpec
from planner.specs.runs import Run
from planner.specs.speculative import Acceptance, Speculative

USUAL_DRAFTS = {"sglang": 2}
"""Draft tokens a step by engine, where a run does not state them; others:"""
OTHER_DRAFTS = 3

WIDTHS = 4
"""MLP width of a draft layer over the model's hidden size, for a model without a prediction
module (assumed: that of published EAGLE heads is 3 to 5)."""

TAKEN_FROM = "deepseek-r1-mtp"
"""Published acceptance that models without one of their own take."""


class Drafting(NamedTuple):
    """How a run drafts, and what of it was not stated."""

    spec: Speculative | None
    notes: tuple[str, ...] = ()


def drafting(run: Run, model: ModelSpec, engine: str) -> Drafting:
    """Resolve a run's speculation: drafts, their module and how many are accepted."""
    given = run.speculative
    if given is None:
        return Drafting(None)
    notes = []
    drafts = given.draft_tokens
    if drafts is None:
        drafts = USUAL_DRAFTS.get(engine, OTHER_DRAFTS)
        notes.append(f"speculative.draft_tokens: not stated; {drafts} assumed, as recipes have")
    module: dict[str, object] = {"method": "mtp", "draft_tokens": drafts}
    if not model.mtp_layers:
        module |= {"method": "eagle", "draft_intermediate_size": WIDTHS * model.hidden_size}
        notes.append(
            f"speculative: {model.name} has no prediction module; one dense draft layer of "
            f"{WIDTHS} x hidden size assumed"
        )
    if given.acceptance:
        module["acceptance"] = given.acceptance
    elif given.tokens_per_step is not None:
        module["tokens_per_step"] = (given.tokens_per_step,)
    else:
        found, note = _published(model.name, drafts)
        module |= {"tokens_per_step": found.tokens_per_step[:drafts], "source": found.source}
        notes.append(note)
    return Drafting(Speculative.model_validate(module), tuple(notes))


def _published(model: str, drafts: int) -> tuple[Acceptance, str]:
    """Acceptance of this model, else of another; drafts beyond the table are never accepted."""
    tables = [load_acceptance(name) for name in names_in(profile_root() / "speculation")]
    own = [t for t in tables if model in t.models and len(t.tokens_per_step) >= drafts]
    found = own[0] if own else load_acceptance(TAKEN_FROM)
    table = found.tokens_per_step
    tokens = (table + table[-1:] * drafts)[:drafts]
    text = f"speculative: acceptance not stated; {tokens[-1]:g} tokens a step "
    text += f"as published ({found.name})" if own else f"assumed, those of {found.name}"
    if drafts > len(table):
        text += f", which knows {len(table)} drafts: further ones are taken as never accepted"
    return found.model_copy(update={"tokens_per_step": tokens}), text
