"""Sliders of the deployment page as changes of a scenario: pure, no widget in sight.

Where prefill and decode are pools apart, they are those of the decode pool; the format of the KV
cache is both pools'.
"""

from dataclasses import dataclass
from typing import Any, get_args

from planner import evaluation, files
from planner.errors import InputError, PlannerError
from planner.files.histograms import routing_names
from planner.files.profiles import names_in
from planner.files.speculation import load_acceptance
from planner.specs.deployment import Disaggregated, KvFormat, Pool
from planner.specs.model import WeightFormat
from planner.specs.scenario import Scenario

SEQUENCES = (1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)
CONTEXTS = tuple(2**n for n in range(8, 18))
DEGREES = (1, 2, 4, 8, 16, 18, 24, 32, 36, 40, 48, 64, 72, 80, 96, 128, 144, 160, 256, 288, 320)
USUAL_SEQUENCES, USUAL_CONTEXT = 32, 4096
"""Where a scenario has no steady batch of its own."""
OWN, EVEN = "as in the scenario", "every rank alike"


@dataclass(frozen=True, slots=True)
class Knobs:
    """What the sliders say."""

    sequences: float
    """Sequences a device decodes at once."""
    context: float
    """KV tokens a sequence. [tokens]"""
    ep: int | None
    """Expert-parallel degree; None: not to be changed."""
    routing: str
    weights: WeightFormat
    kv: KvFormat
    drafts: int
    """Draft tokens of the model's own prediction module; 0: none."""


@dataclass(frozen=True, slots=True)
class Choices:
    """What each slider offers; a single choice is not worth a slider."""

    sequences: tuple[float, ...]
    context: tuple[float, ...]
    ep: tuple[int, ...]
    routing: tuple[str, ...]
    weights: tuple[WeightFormat, ...]
    kv: tuple[KvFormat, ...]
    drafts: tuple[int, ...]


def defaults(scenario: Scenario) -> Knobs:
    """Sliders as the scenario has it."""
    pool, wish = _pool(scenario), scenario.steady
    return Knobs(
        wish.sequences_per_device if wish else float(USUAL_SEQUENCES),
        wish.context_tokens if wish else float(USUAL_CONTEXT),
        pool.parallelism.moe_ep if len(degrees(scenario)) > 1 else None,
        OWN,
        pool.weights,
        pool.kv,
        pool.speculative.draft_tokens if pool.speculative else 0,
    )


def choices(scenario: Scenario) -> Choices:
    """Everything that can be asked for; what does not fit is explained when it is asked."""
    own = defaults(scenario)
    routing = (OWN, EVEN, *routing_names()) if scenario.model.moe else (OWN,)
    return Choices(
        tuple(sorted({own.sequences, *map(float, SEQUENCES)})),
        tuple(sorted({own.context, *map(float, CONTEXTS)})),
        degrees(scenario),
        routing,
        _weights(scenario),
        get_args(KvFormat),
        tuple(range(max(own.drafts, len(_acceptance(scenario)[1])) + 1)),
    )


def overrides(scenario: Scenario, wanted: Knobs) -> dict[str, Any]:
    """Changes that make the scenario what the sliders say; nothing where they agree."""
    own, found = defaults(scenario), dict[str, Any]()
    apart = isinstance(scenario.deployment, Disaggregated)
    pool = "deployment.decode" if apart else "deployment"
    if wanted.routing != OWN:
        found["routing"] = None if wanted.routing == EVEN else wanted.routing
    if scenario.steady is None:
        found["steady"] = {
            "sequences_per_device": wanted.sequences,
            "context_tokens": wanted.context,
        }
    else:
        if wanted.sequences != own.sequences:
            found["steady.sequences_per_device"] = wanted.sequences
        if wanted.context != own.context:
            found["steady.context_tokens"] = wanted.context
    if wanted.ep is not None and wanted.ep != own.ep:
        layout = _pool(scenario).parallelism
        width = wanted.ep * layout.moe_tp
        found[f"{pool}.parallelism.attention_tp"] = tp = min(layout.attention_tp, width)
        found[f"{pool}.parallelism.attention_dp"] = width // tp
        found[f"{pool}.parallelism.moe_ep"] = wanted.ep
    if wanted.weights != own.weights:
        found[f"{pool}.weights"] = wanted.weights
    if wanted.kv != own.kv:
        found[f"{pool}.kv"] = wanted.kv
        if apart:  # the cache moves as it is
            found["deployment.prefill.kv"] = wanted.kv
    if wanted.drafts != own.drafts:
        profile, _ = _acceptance(scenario)
        found[f"{pool}.speculative"] = (
            {"method": "mtp", "draft_tokens": wanted.drafts, "profile": profile}
            if wanted.drafts
            else None
        )
    return found


def degrees(scenario: Scenario) -> tuple[int, ...]:
    """Expert-parallel degrees that deal the expert slots out evenly."""
    pool, moe = _pool(scenario), scenario.model.moe
    layout = pool.parallelism
    if moe is None or layout.moe_tp > 1 or layout.context_parallel > 1:
        return ()
    slots = moe.experts + pool.redundant_experts
    fair = {n for n in DEGREES if slots % n == 0 and n % min(layout.attention_tp, n) == 0}
    return tuple(sorted(fair | {layout.moe_ep}))


def _weights(scenario: Scenario) -> tuple[WeightFormat, ...]:
    """Formats that the part multiplies in."""
    pool, found = _pool(scenario), list[WeightFormat]()
    for name in get_args(WeightFormat):
        try:
            changed = pool.model_copy(update={"weights": name, "speculative": None})
            evaluation.build(scenario.model, scenario.hardware[0], changed)
        except PlannerError:
            continue
        found.append(name)
    return tuple(found) if pool.weights in found else (pool.weights, *found)


def _acceptance(scenario: Scenario) -> tuple[str, tuple[float, ...]]:
    """Name and figures of the published acceptance of the model's own drafts; longest first."""
    tables = map(load_acceptance, names_in(files.profile_root() / "speculation"))
    own = [t for t in tables if t.method == "mtp" and scenario.model.name in t.models]
    best = max(own, key=lambda t: len(t.tokens_per_step), default=None)
    if best is None or not scenario.model.mtp_layers:
        return "", ()
    return best.name, best.tokens_per_step


def _pool(scenario: Scenario) -> Pool:
    if scenario.decoding is None:
        raise InputError(scenario.name, "deployment", "is missing; this page needs one")
    return scenario.decoding
