"""Published statements set beside what the models here say."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, assert_never

from planner import arch
from planner.errors import InputError, PlannerError
from planner.evaluation import Result, build, steady
from planner.memory import (
    COLLECTIVE_BUFFER_BYTES,
    CONTEXT_BYTES,
    GRAPH_BYTES,
    RESERVED_BYTES,
    WORKSPACE_BYTES,
)
from planner.search.plan import plan
from planner.specs.deployment import Parallelism, Pool
from planner.specs.hardware import Precision
from planner.specs.model import ModelSpec, WeightFormat
from planner.specs.scenario import Claim, Hardware, Scenario
from planner.units import human


@dataclass(frozen=True)
class Verdict:
    """One statement, our figure for it, and what the difference means."""

    claim: Claim
    value: float
    unit: str
    explanation: str
    rows: tuple[dict[str, Any], ...]
    """Supporting figures, one system or model a row."""

    @property
    def inside(self) -> bool:
        """Whether our figure lies in the stated range."""
        return self.claim.low <= self.value <= self.claim.high

    @property
    def relative_error(self) -> float:
        """Our figure over the middle of the stated range, minus 1."""
        return self.value / ((self.claim.low + self.claim.high) / 2) - 1

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            **self.claim.model_dump(),
            "value": self.value,
            "unit": self.unit,
            "inside": self.inside,
            "relative_error": self.relative_error,
            "explanation": self.explanation,
            "rows": list(self.rows),
        }


def claims(scenario: Scenario) -> tuple[Verdict, ...]:
    """Work out our figure for every claim of the scenario.

    Raises
    ------
    InputError
        The scenario makes no claim, or lacks what a claim needs.
    """
    if not scenario.claims:
        raise InputError(scenario.name, "claims", "is empty; this scenario claims nothing")
    return tuple(_answer(claim)(scenario, claim) for claim in scenario.claims)


def _answer(claim: Claim) -> Callable[[Scenario, Claim], Verdict]:
    match claim.quantity:
        case "hbm_bytes_needed":
            return _hbm_needed
        case "saving_share":
            return _saving
        case "training_usd":
            return _training
        case "decode_tokens_per_s_per_node":
            return _decode_rate
        case _:
            assert_never(claim.quantity)


def _hbm_needed(scenario: Scenario, claim: Claim) -> Verdict:
    """Least memory of one node's tensor parallelism, and which systems have it."""
    model = scenario.model
    weights = scenario.space.weights[0] if scenario.space.weights else model.native_format
    rows = [_memory_row(model, weights, hardware) for hardware in scenario.hardware]
    resident = sum(arch.resident_bytes(model, weights).values())
    devices = scenario.hardware[0].system.devices_per_node
    each = RESERVED_BYTES + CONTEXT_BYTES + WORKSPACE_BYTES + GRAPH_BYTES
    each += COLLECTIVE_BUFFER_BYTES
    floor = resident + devices * each
    below = [row["system"] for row in rows if row["fits"] and row["memory_bytes"] < claim.low]
    text = (
        f"Weights take {human(resident, 'bytes')}, {devices} runtimes and buffers bring it to "
        f"{human(floor, 'bytes')} before the first context token; what a system has beyond that "
        "holds context."
    )
    if below:
        text += f" Fits all the same with less: {', '.join(below)}."
    return Verdict(claim, floor, "bytes", text, tuple(rows))


def _memory_row(model: ModelSpec, weights: WeightFormat, hardware: Hardware) -> dict[str, Any]:
    system, part = hardware.system, hardware.accelerator
    devices = system.devices_per_node
    pool = Pool(parallelism=Parallelism(attention_tp=devices, moe_tp=devices), weights=weights)
    row: dict[str, Any] = {
        "system": system.name,
        "devices": devices,
        "memory_bytes": devices * float(part.memory_bytes),
    }
    try:
        memory = build(model, hardware, pool).memory
    except PlannerError as error:
        return {**row, "fits": False, "kv_capacity_tokens": 0, "reason": str(error)}
    return {
        **row,
        "fits": memory.fits,
        "short_by_bytes": devices * memory.short_by_bytes,
        "kv_capacity_tokens": memory.kv_capacity_tokens,
        "reason": "" if memory.fits else f"{human(memory.short_by_bytes, 'bytes')} short a device",
    }


def _saving(scenario: Scenario, claim: Claim) -> Verdict:
    """Cost of serving the same traffic with both models on the same kind of node."""
    if scenario.baseline_model is None:
        raise InputError(scenario.name, "baseline_model", "is missing; a saving needs two models")
    first = _best(scenario)
    second = _best(scenario.model_copy(update={"model": scenario.baseline_model}))
    rows = tuple(
        {
            "model": result.replica.model.name,
            "layout": result.replica.pool.parallelism.label(),
            "weights": result.replica.pool.weights,
            "nodes": result.nodes,
            "usd_per_hour": result.costs[0].usd_per_hour,
            "usd_per_million_output_tokens": result.costs[0].usd_per_million_output_tokens,
        }
        for result in (first, second)
    )
    saving = 1 - first.costs[0].usd_per_hour / second.costs[0].usd_per_hour
    text = (
        f"Nodes for this traffic, at the same promises and price: {first.nodes:g} with "
        f"{first.replica.model.title}, {second.nodes:g} with {second.replica.model.title}. "
        "The answers need not be equally long or good: the claim depends on both."
    )
    return Verdict(claim, saving, "share", text, rows)


def _best(scenario: Scenario) -> Result:
    found = plan(scenario)
    if found.best is None or not found.best.costs:
        raise InputError(
            scenario.name,
            "slo",
            f"no fleet of {scenario.model.name} keeps it within space.max_nodes",
        )
    return found.best


TRAINING_PRECISIONS: tuple[Precision, ...] = ("bf16", "fp8")


def _training(scenario: Scenario, claim: Claim) -> Verdict:
    """Rent of the accelerator-hours, and the share of the peak they imply."""
    training = scenario.training
    if training is None:
        raise InputError(scenario.name, "training", "is missing; the claim needs it")
    part = scenario.hardware[0].accelerator
    flop = arch.training_flop_per_token(scenario.model, training.sequence_tokens) * training.tokens
    seconds = 3600 * training.accelerator_hours
    shares = {
        precision: flop / (seconds * part.peak_flop_per_s(precision))
        for precision in TRAINING_PRECISIONS
        if getattr(part.dense_flop_per_s, precision)
    }
    rows = tuple({"precision": name, "share_of_peak": share} for name, share in shares.items())
    of_peak = " and ".join(f"{human(share, 'share')} of {name}" for name, share in shares.items())
    usd = training.accelerator_hours * training.usd_per_accelerator_hour
    text = (
        f"{training.accelerator_hours:,.0f} accelerator-hours at "
        f"${training.usd_per_accelerator_hour:g}. {training.tokens:.3g} tokens are "
        f"{human(flop, 'flop')}, so the budget runs at {of_peak} peak: plausible. "
        "It pays one run, not research, failed runs, data or people."
    )
    return Verdict(claim, usd, "usd", text, rows)


def _decode_rate(scenario: Scenario, claim: Claim) -> Verdict:
    """Steady decode throughput of a node, bracketed by how much communication hides."""
    answer = steady(scenario)
    node = answer.replica.hardware.system.devices_per_node
    per_node = answer.sequences_per_device * node * answer.step.tokens
    rows = [
        {"case": "nothing hidden", "tokens_per_s_per_node": per_node / answer.unhidden_s},
        {"case": "all hidden that can be", "tokens_per_s_per_node": per_node / answer.hidden_s},
        *(
            {
                "case": f"{c.tokens_per_s_per_user:g} tokens/s a user, {c.limited_by} binds",
                "tokens_per_s_per_node": c.tokens_per_s_per_node,
                "sequences_per_device": c.sequences_per_device,
            }
            for c in answer.capacities
        ),
    ]
    text = (
        f"A step of {answer.sequences_per_device:g} sequences a device takes "
        f"{human(answer.step.time_s, 's')}; expert communication is "
        f"{human(answer.unhidden_s - answer.hidden_s, 's')} of it unless it hides: with "
        f"overlap {answer.replica.pool.overlap} the sum of all parts is "
        f"{human(answer.step.hidden_s, 's')} more than the step. A second micro-batch to hide "
        "behind reads the weights twice, which the two bounds below do not count."
    )
    return Verdict(claim, answer.tokens_per_s_per_node, "tokens_per_s", text, tuple(rows))
