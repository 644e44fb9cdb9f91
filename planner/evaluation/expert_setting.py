"""Whose expert load is asked for: of a scenario's deployment, or of a recorded histogram."""

from dataclasses import dataclass, replace

from planner.errors import InputError
from planner.shard import Shard, shard
from planner.specs.deployment import Disaggregated, Parallelism, Pool
from planner.specs.model import ModelSpec, Moe
from planner.specs.routing import HistogramPopularity, PlacementPolicy, Routing
from planner.specs.scenario import Scenario
from planner.workloads import measured_traffic


@dataclass(frozen=True, slots=True)
class Question:
    """Whose load is asked for, and where the experts are."""

    moe: Moe
    routing: Routing
    ep: int
    redundant: int = 0
    ranks_per_node: int = 8
    tokens: int = 4096
    """Tokens of all ranks that share the experts, in one step. [tokens]"""
    tokens_per_prompt: int = 1
    """New tokens of one prompt in a step, which choose alike; 1 in decode."""

    @property
    def balanced_policy(self) -> PlacementPolicy:
        """Policy of the balanced placement: the routing's own, unless that is none."""
        own = self.routing.placement
        return "global" if own == "contiguous" else own


@dataclass(frozen=True, slots=True)
class Setting:
    """A question with its names, and what moving experts costs."""

    name: str
    model: str
    question: Question
    expert_bytes: float
    """Stored bytes of one routed expert of one layer on its device. [bytes]"""
    bytes_per_s: float | None = None
    """Link over which a rank fetches experts; None: not known. [bytes/s]"""

    def changed(self, ep: int | None, redundant: int | None, tokens: int | None) -> "Setting":
        """The same with another layout or batch; None leaves as it is.

        Raises
        ------
        InputError
            A number below what it counts.
        """
        wanted = {"ep": ep, "redundant": redundant, "tokens": tokens}
        for name, value in wanted.items():
            least = 0 if name == "redundant" else 1
            if value is not None and value < least:
                raise InputError("", name, f"must be {least} or more, got {value}")
        now = self.question
        asked = replace(
            now,
            ep=now.ep if ep is None else ep,
            redundant=now.redundant if redundant is None else redundant,
            tokens=now.tokens if tokens is None else tokens,
        )
        return replace(self, question=asked)


def experts_in(model: ModelSpec) -> Moe:
    """Expert layers of a model; InputError where it has none."""
    if model.moe is None:
        raise InputError("", "model", f"{model.name} is dense: it has no experts to balance")
    return model.moe


def experts_of(scenario: Scenario) -> Setting:
    """Experts, routing and layout of a scenario's deployment.

    The step is the steady decode batch, where the scenario has one; else a full one, in which
    tokens of one prompt choose alike unless prompts have a pool of their own.

    Raises
    ------
    InputError
        Without routing or deployment, or for a dense model.
    """
    moe, pool = experts_in(scenario.model), scenario.decoding
    if pool is None or scenario.routing is None:
        missing = "deployment" if pool is None else "routing"
        remedy = "; e.g. --set routing=deepseek-r1-translation" if pool else ""
        raise InputError(scenario.name, missing, f"is missing: expert load needs it{remedy}")
    hardware, local = scenario.hardware[0], shard(scenario.model, pool)
    up, out = hardware.system.scale_up, hardware.system.scale_out
    inside = local.devices <= up.devices or out is None
    layout = pool.parallelism
    tokens = pool.limits.max_step_tokens * layout.attention_dp
    if scenario.steady:
        tokens = max(1, round(scenario.steady.sequences_per_device * local.devices))
    question = Question(
        moe, scenario.routing, layout.moe_ep, pool.redundant_experts,
        max(1, up.devices // layout.moe_tp), tokens, _tokens_per_prompt(scenario, pool),
    )  # fmt: skip
    link = up if inside or out is None else out
    return Setting(
        scenario.name, scenario.model.name, question, _expert_bytes(local), float(link.bytes_per_s)
    )


def recorded_experts(
    name: str, model: ModelSpec, recorded: HistogramPopularity, ep: int
) -> Setting:
    """Experts of a model in its published format, loaded as a histogram says; no link is known.

    Raises
    ------
    InputError
        For a dense model.
    """
    question = Question(experts_in(model), Routing(popularity=recorded), ep)
    whole = shard(model, Pool(parallelism=Parallelism(), weights=model.native_format))
    return Setting(name, model.name, question, _expert_bytes(whole))


def _expert_bytes(local: Shard) -> float:
    """Both matrices of one routed expert of one layer. [bytes]"""
    moe = local.moe
    return 0.0 if moe is None else moe.gate_up.stored_bytes + moe.down.stored_bytes


def _tokens_per_prompt(scenario: Scenario, pool: Pool) -> int:
    """New tokens of one prompt in the step: the mean prompt, at most what a step takes. [tokens]"""
    apart = isinstance(scenario.deployment, Disaggregated)
    if scenario.steady or apart or not (scenario.routing and scenario.routing.prompt_correlation):
        return 1
    most = pool.limits.max_step_tokens
    if scenario.workload is None:
        return most
    prompt_tokens = measured_traffic(scenario.workload, scenario.run).input_tokens
    return max(1, min(most, round(prompt_tokens)))
