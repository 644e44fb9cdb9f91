"""What the models here give for a published quantity."""

import math
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, assert_never

import numpy as np

from planner import evaluation, files
from planner.errors import InputError
from planner.evaluation import Replica
from planner.evaluation.intervals import causes_of
from planner.evaluation.spread import Spread, joint, step_spreads
from planner.files.histograms import load_routing_profile
from planner.routing import fit
from planner.specs.scenario import Scenario
from planner.validation.claims import (
    DecodeStep,
    Imbalance,
    NetworkBound,
    Predictor,
    PrefillStep,
    Ratio,
    Serving,
    load_published,
)

Interval = tuple[float, float]


def predict(predictor: Predictor) -> float:
    """Value of the quantity ``predictor`` describes, in SI units."""
    return predict_within(predictor)[0]


def predict_within(predictor: Predictor) -> tuple[float, Interval | None]:
    """The same with its 90 % interval, where a step or a run is predicted."""
    match predictor:
        case DecodeStep():
            return _decode(predictor)
        case PrefillStep():
            return _prefill(predictor)
        case Serving():
            return _serving(predictor)
        case Imbalance():
            return _imbalance(predictor), None
        case NetworkBound():
            return network_bound_s(predictor), None
        case Ratio():
            return predict(predictor.of) / predict(predictor.over), None
        case _:
            assert_never(predictor)


def _within(value: float, of: str, spreads: Iterable[Spread]) -> tuple[float, Interval]:
    """A time moves with the step's, a rate against it."""
    low, high = (math.exp(log) for log in joint(spreads))
    if of.endswith("_s") and "_per_s" not in of:
        return value, (value * low, value * high)
    return value, (value / high, value / low)


def _decode(wanted: DecodeStep) -> tuple[float, Interval]:
    steady = evaluation.steady(_scenario(wanted))
    step_s = float(steady.step.time_s)
    per_user = steady.step.tokens / step_s
    per_device = per_user * steady.sequences_per_device
    values = {
        "step_s": step_s,
        "tokens_per_s_per_user": per_user,
        "tokens_per_s_per_device": per_device,
        "tokens_per_s_per_node": per_device * steady.replica.hardware.system.devices_per_node,
    }
    return _within(values[wanted.of], wanted.of, steady.spreads)


def _prefill(wanted: PrefillStep) -> tuple[float, Interval]:
    replica = _replica(_scenario(wanted))
    shard = replica.shard
    tokens = wanted.tokens_per_device * shard.devices / shard.attention_dp
    prompts = tokens / wanted.prompt_tokens
    step = replica.step.prefill_step(tokens, prompts, wanted.prompt_tokens, replica.cap_tokens)
    rate = wanted.tokens_per_device / float(step.time_s)
    values = {
        "step_s": float(step.time_s),
        "tokens_per_s_per_device": rate,
        "tokens_per_s_per_node": rate * replica.hardware.system.devices_per_node,
    }
    return _within(values[wanted.of], wanted.of, step_spreads(replica, [(step, 1.0)]))


def _replica(scenario: Scenario) -> Replica:
    if scenario.decoding is None:
        raise InputError(scenario.name, "deployment", "is missing; a prefill step needs one")
    return evaluation.build(
        scenario.model, scenario.hardware[0], scenario.decoding, scenario.routing
    )


def _serving(wanted: Serving) -> tuple[float, Interval]:
    scenario = _scenario(wanted)
    result = evaluation.evaluate(scenario)
    done, devices = result.metrics.throughput, result.replicas * result.replica.devices
    if not done.output_tokens_per_s:
        raise InputError(
            scenario.name, "deployment.limits", "no request can be served: all are refused"
        )
    values = {
        "output_tokens_per_s": done.output_tokens_per_s,
        "output_tokens_per_s_per_device": done.output_tokens_per_s / devices,
        "input_tokens_per_s_per_device": done.input_tokens_per_s / devices,
        "total_tokens_per_s": done.input_tokens_per_s + done.output_tokens_per_s,
        "tpot_mean_s": result.metrics.tpot_s.mean,
        "ttft_mean_s": result.metrics.ttft_s.mean,
    }
    return _within(values[wanted.of], wanted.of, causes_of(result)[-1][1])


def _scenario(wanted: DecodeStep | PrefillStep | Serving) -> Scenario:
    return _loaded(wanted.scenario, _frozen(wanted.set))


@lru_cache(maxsize=64)
def _loaded(name: str, changes: Any) -> Scenario:
    return files.load_scenario(name, _thawed(changes))


def _frozen(value: Any) -> Any:
    """A value of YAML as something that can be looked up."""
    if isinstance(value, dict):
        return ("map", tuple((k, _frozen(v)) for k, v in value.items()))
    if isinstance(value, list | tuple):
        return ("list", tuple(_frozen(v) for v in value))
    return value


def _thawed(value: Any) -> Any:
    if isinstance(value, tuple):
        kind, items = value
        return {k: _thawed(v) for k, v in items} if kind == "map" else [_thawed(v) for v in items]
    return value


def _imbalance(wanted: Imbalance) -> float:
    case = fit.Case(wanted.ep, wanted.redundant, wanted.placement, wanted.tokens)
    if wanted.layer is None:
        return float(_statistics(wanted.profile, case, ()).of(wanted.statistic).mean())
    layers = _layers_asked(wanted)
    found = _statistics(wanted.profile, case, layers).of(wanted.statistic)
    return float(np.median(found[:, layers.index(wanted.layer)]))


def _layers_asked(wanted: Imbalance) -> tuple[int, ...]:
    """Every layer that the published figures ask of one case: drawn together, once."""
    same = {"layer", "statistic"}
    asked = [
        predictor.layer
        for claim in load_published().claims
        for predictor in (claim.predictor(figure) for figure in claim.figures)
        if isinstance(predictor, Imbalance)
        and predictor.model_dump(exclude=same) == wanted.model_dump(exclude=same)
    ]
    return tuple(sorted({layer for layer in [*asked, wanted.layer] if layer is not None}))


@lru_cache(maxsize=16)
def _statistics(profile: str, case: fit.Case, layers: tuple[int, ...]) -> fit.LayerImbalance:
    """Statistics of one case: all layers, or many draws of a few (fewer where placing is slow)."""
    found = load_routing_profile(profile)
    moe = evaluation.experts_in(files.load_model(found.model))
    if not layers:
        return fit.measure(found.routing, moe, case, fit.REPORT_SEEDS)
    whole = fit.REPORT_SEEDS if case.policy == "contiguous" else fit.REPORT_SEEDS[:4]
    seeds = [1000 * seed + i for seed in whole for i in range(fit.LAYER_SEEDS)]
    return fit.measure(found.routing, moe, case, seeds, layers=layers)


def network_bound_s(wanted: NetworkBound) -> float:
    r"""Time per token when every layer's dispatch and combine is all that takes time. [s]

    .. math:: L\, m\, \frac{(b_d + b_c)\, n\, e\, h}{W}

    for ``L`` layers, ``m`` micro-batches that take turns on the network, ``n`` tokens of hidden
    size ``h`` sent to ``e`` experts with ``b_d`` and ``b_c`` bytes an element over a link of
    bandwidth ``W``.  No latency, no deduplication.

    References
    ----------
    .. [1] DeepSeek-AI, "Insights into DeepSeek-V3", ISCA 2025, arXiv:2505.09343, section 2.3.2.
    """
    moved = (
        (wanted.dispatch_bytes + wanted.combine_bytes)
        * wanted.tokens * wanted.experts * wanted.hidden
    )  # fmt: skip
    return wanted.layers * wanted.micro_batches * moved / wanted.bytes_per_s
